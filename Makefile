# Two commands do everything: `make repro` and `make test`. Both set up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: repro tables test lint bench clean distclean help

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

repro: $(STAMP) ## set up, run the whole pipeline, print the results
	dvc repro
	tmuad results

tables: $(STAMP) ## every table and figure of the paper, ablations included: reports/tables, reports/index.html
	dvc repro ablations/dvc.yaml
	dvc repro

test: $(STAMP) ## set up, run all tests
	python -m pytest -q -n 2 --dist loadfile

lint: $(STAMP) ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

BENCH ?= metrics models roofline
bench: $(STAMP) ## side-by-side measurements, a few minutes; BENCH="kill peers" takes others of benchmarks/
	for name in $(BENCH); do echo "== $$name"; python benchmarks/$$name.py || exit 1; done

clean: ## remove what the pipeline made, keep the environment
	find reports -mindepth 1 -maxdepth 1 ! -name reference ! -name plug ! -name .gitkeep -exec rm -rf {} +
	find reports/plug ablations/results -mindepth 1 ! -name README.md -delete
	rm -rf artifacts ablations/runs ablations/published.csv data/demo .tmuad-cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

distclean: clean ## remove the environment too
	rm -rf $(VENV) .dvc/cache .dvc/tmp

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)
