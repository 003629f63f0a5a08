"""The `tmuad` command as it is run: help that teaches, output for people and machines, mistakes in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from fits import Bench, kit, save
from hypothesis import given
from hypothesis import strategies as st
from workspaces import environment

from tmuad import cli
from tmuad.stages.__main__ import main


def tmuad(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command does, in this process: torch takes seconds to import."""
    out, err, status = StringIO(), StringIO(), 0
    with (
        patch.object(sys, "argv", ["tmuad", *arguments]), patch.dict(os.environ, {"COLUMNS": "200", "TERM": "dumb"}),
        chdir(place), redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def test_a_process_of_its_own_says_the_same(scoring: Bench, tmp_path: Path) -> None:
    path = str(save(tmp_path / "b.png", kit(71, discs=1)))
    for arguments in (["score", path, "-u", "kit", "--check", "--out", str(tmp_path / "out")], ["sql", "FROM units"]):
        command = [sys.executable, "-m", "tmuad.cli", *arguments]
        env = environment(Path(__file__).parent.parent) | {"TERM": "dumb"}
        done = subprocess.run(
            command, cwd=scoring.place, env=env, text=True, capture_output=True, timeout=120, check=False
        )
        here = tmuad(scoring.place, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (here.returncode, here.stdout, here.stderr)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a mistake said: one line on standard error that begins with 'error: ', and nothing of our code."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# --- help


def test_help_teaches_the_work_flow_in_order(tmp_path: Path) -> None:
    done = tmuad(tmp_path, "--help")
    assert done.returncode == 0
    steps = [
        done.stdout.index(step) for step in ("tmuad init", "dvc repro", "tmuad classes", "tmuad score", "tmuad results")
    ]
    assert steps == sorted(steps)
    found = [
        re.search(rf"^\W*{name}\s+\w+", done.stdout, re.MULTILINE)
        for name in (
            "init",
            "classes",
            "score",
            "results",
            "sql",
            "explain",
            "refit",
            "forget",
            "history",
            "compare",
            "doctor",
        )
    ]
    places = [command.start() for command in found if command]
    assert len(places) == len(found) and places == sorted(places)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "init",
            ["test/DEFECT", "Nothing is copied or changed", "--layout", "auto|mvtec_ad|mvtec_loco|visa|bmad|folder"],
        ),
        ("score", ["--json", "--check", "stop|skip", "reports/scored/UNIT", "Exit status: 0 done, 1 an error"]),
        ("classes", ["reports/UNIT/classes.png", "data/names/UNIT.yaml"]),
        ("results", ["where to look next"]),
        ("sql", ["read-only", "FROM normal_ranges"]),
    ],
)
def test_each_command_explains_itself(tmp_path: Path, command: str, words: list[str]) -> None:
    done = tmuad(tmp_path, command, "--help")
    text = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert [word for word in words if word not in text] == []


def test_no_command_shows_the_help_and_a_wrong_one_an_error(tmp_path: Path) -> None:
    nothing = tmuad(tmp_path)
    assert "tmuad init" in nothing.stdout + nothing.stderr
    wrong = tmuad(tmp_path, "frobnicate")
    assert wrong.returncode == 2 and "No such command" in wrong.stderr


# --- score


def test_score_for_people(scoring: Bench, tmp_path: Path) -> None:
    bad = save(tmp_path / "new" / "b.png", kit(71, discs=1))
    save(tmp_path / "new" / "a.png", kit(70))
    done = tmuad(scoring.place, "score", str(tmp_path / "new"), "--unit", "kit", "--out", str(tmp_path / "out"))
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    verdicts = [line for line in lines if re.match(r"(GOOD|ANOMALOUS)\b", line)]
    assert [line.split()[0] for line in verdicts] == ["GOOD", "ANOMALOUS"]
    assert str(bad) in verdicts[1] and re.search(r"score [\d.]+, threshold [\d.]+", verdicts[1])
    assert any("Expected 2 class-" in line and "1 is missing at the top right." in line for line in lines)
    assert sum("heat map: " in line and Path(line.split("heat map: ")[1]).is_file() for line in lines) == 2


def test_score_for_machines_prints_json_and_nothing_else(scoring: Bench, tmp_path: Path) -> None:
    save(tmp_path / "new" / "a.png", kit(70))
    save(tmp_path / "new" / "b ä.png", kit(71, discs=1))
    (tmp_path / "new" / "c.png").write_bytes(b"")
    asked = (
        "score",
        str(tmp_path / "new"),
        "-u",
        "kit",
        "--json",
        "--out",
        str(tmp_path / "out"),
        "--on-bad-image",
        "skip",
    )
    done = tmuad(scoring.place, *asked)
    a, b, c = (json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 1 and "0 bytes" in c["error"]
    assert (a["verdict"], b["verdict"]) == ("good", "anomalous") and b["image"].endswith("b ä.png")
    assert {"score", "threshold", "p_value", "shares", "reasons", "heat_map", "text", "unit"} <= set(b)


def test_files_that_are_no_images_are_named_and_the_rest_is_scored(scoring: Bench, tmp_path: Path) -> None:
    """A photograph in a format that is not read must not look as if it had been inspected."""
    new = tmp_path / "new"
    save(new / "a.png", kit(70))
    for name in ("b.heic", "deep/c.webp", "d.txt", "e.raw", "Thumbs.db", ".hidden.heic"):
        (new / name).parent.mkdir(exist_ok=True)
        (new / name).write_bytes(b"x")
    done = tmuad(scoring.place, "score", str(new), "-u", "kit", "--json", "--out", str(new / "maps"))
    assert done.returncode == 0 and [json.loads(text)["image"] for text in done.stdout.splitlines()] == [
        str(new / "a.png")
    ]
    [said] = done.stderr.splitlines()
    assert said.startswith("not scored, because files of their kind are not read: ") and said.endswith(" and 1 more")
    assert "b.heic" in said and "c.webp" in said and "Thumbs" not in said and "hidden" not in said
    again = tmuad(scoring.place, "score", str(new), str(new / "d.txt"), "-u", "kit", "--on-bad-image", "skip")
    [skipped] = [text for text in again.stdout.splitlines() if text.startswith("SKIPPED")]
    assert skipped.split()[1] == str(new / "d.txt") and again.stdout.count("d.txt") == 1


def test_check_tells_by_the_exit_status(scoring: Bench, tmp_path: Path) -> None:
    good, bad = save(tmp_path / "a.png", kit(70)), save(tmp_path / "b.png", kit(71, discs=0))
    out = ("-u", "kit", "--check", "--out", str(tmp_path / "out"))
    assert [tmuad(scoring.place, "score", str(path), *out).returncode for path in (good, bad)] == [0, 3]


def test_mistakes_in_scoring_are_one_line(scoring: Bench, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert "bad.png: not a PNG" in one_line(tmuad(scoring.place, "score", str(tmp_path / "bad.png"), "-u", "kit"))
    assert "Did you mean 'kit'?" in one_line(tmuad(scoring.place, "score", "photos", "-u", "kti"))
    assert "params.yaml: no such file" in one_line(tmuad(tmp_path, "score", "x", "-u", "kit"))
    assert "--unit" in tmuad(scoring.place, "score", "photos").stderr


# --- classes, results, sql, init


@pytest.fixture
def whole(bench: Bench, fitted: Path) -> Path:
    """A copy of the fitted unit, with reports and data base."""
    shutil.copytree(fitted, bench.place, dirs_exist_ok=True)
    bench.report()
    return bench.place


def test_classes_shows_them_and_where_to_name_them(whole: Path) -> None:
    done = tmuad(whole, "classes", "kit")
    assert done.returncode == 0
    assert "3 object classes, learnt from" in done.stdout and "class-3" in done.stdout
    assert (whole / "reports/kit/classes.png").is_file()
    names = whole / "data/names/kit.yaml"
    assert "# class-1:" in names.read_text()
    names.write_text("class-3: disc\n")
    again = tmuad(whole, "classes", "kit")
    assert re.search(r"class-3\s+disc", again.stdout) and names.read_text() == "class-3: disc\n"
    bad = save(whole / "new.png", kit(71, discs=1))
    assert "Expected 2 discs, found 1" in tmuad(whole, "score", str(bad), "-u", "kit").stdout
    names.write_text("class-3: [disc\n")
    assert "data/names/kit.yaml: not readable as YAML" in tmuad(whole, "score", str(bad), "-u", "kit").stderr


def test_results_shows_a_unit_without_a_test_set_and_what_is_not_there(whole: Path) -> None:
    done = tmuad(whole, "results")
    assert done.returncode == 0 and "kit" in done.stdout and "reports/index.html" in done.stdout
    assert "tmuad score IMAGE --unit kit" in done.stdout
    (whole / "artifacts/kit/metrics.json").unlink()
    done = tmuad(whole, "results")
    assert "kit: not run, because its stage 'evaluate' has not run" in done.stdout
    assert "dvc repro" in done.stdout and "reports/index.html" not in done.stdout
    (whole / "artifacts/kit/metrics.json").write_text("{")
    assert "metrics.json: not readable as JSON" in one_line(tmuad(whole, "results"))


def test_sql_answers_and_explains_its_mistakes(whole: Path) -> None:
    done = tmuad(whole, "sql", "SELECT object_class, counts FROM text_bank ORDER BY 1")
    assert done.returncode == 0 and done.stdout.split()[:2] == ["object_class", "counts"] and "class-3" in done.stdout
    for query, words in (
        ("SELEC 1", "syntax error"), ("SELECT * FROM nowhere", "nowhere does not exist"),
        ("SELECT nothing FROM units", "nothing"), ("", "the query is empty"), ("DROP TABLE units", "read-only"),
        ("COPY units TO 'x.csv'", "disabled"), ("SELECT * FROM 'params.yaml'", "does not exist"),
    ):  # fmt: skip
        done = tmuad(whole, "sql", query)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, query
    assert not (whole / "x.csv").exists()
    (whole / "reports/tmuad.duckdb").unlink()
    assert "`dvc repro` builds it" in one_line(tmuad(whole, "sql", "FROM units"))


def test_init_says_what_it_found_and_what_to_do_next(bench: Bench) -> None:
    bench.params({})
    for i in range(3):
        save(bench.place / "photos of parts" / f"{i}.png", kit(i))
    done = tmuad(bench.place, "init", "photos of parts", "--name", "parts")
    assert done.returncode == 0, done.stderr
    assert "parts: folder in photos of parts (added)" in done.stdout
    assert "dvc repro fuse@parts" in done.stdout
    assert "parts:" in (bench.place / "params.yaml").read_text()
    assert "not a unit name" in one_line(tmuad(bench.place, "init", "photos of parts", "--name", "a b"))


# --- stages


@pytest.mark.parametrize("arguments", [["prepare"], ["demo", "kit"], ["frobnicate"], [], ["report", "kit"]])
def test_a_stage_called_wrongly_explains_how(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage: python -m tmuad.stages" in capsys.readouterr().err


@given(st.text(max_size=12))
def test_any_unit_name_is_a_unit_or_an_error_in_words(name: str) -> None:
    from tmuad.config import parse_params
    from tmuad.errors import ParameterError

    try:
        params = parse_params({"units": {name: {"root": "x", "layout": "folder"}}})
    except ParameterError as error:
        assert "units" in str(error)
        return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)
    assert params.unit(name).root == "x"
