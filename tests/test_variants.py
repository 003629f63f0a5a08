"""variants.yaml: what a list may say, what a variant is run with, and what a wrong one is told."""

from pathlib import Path

import pytest
import yaml

from tmuad.ablate.store import READS
from tmuad.ablate.variants import GROUPS, VARIANTS, check_all, load_variants, named, params_of, selected, slots_of
from tmuad.config import parse_params
from tmuad.errors import ParameterError, WeightsError
from tmuad.report.paper.collect import check_places
from tmuad.report.paper.reference import FOLDER, load_references

PROJECT = Path(__file__).parent.parent
UNIT = {"units": {"kit": {"root": "x", "layout": "folder"}}}
EMBEDDED = parse_params(UNIT)
PAPER = parse_params(UNIT | {"profile": "paper"}, folder=PROJECT)
OWN = load_variants(PROJECT / VARIANTS)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / VARIANTS
    path.write_text(text)
    return path


def test_the_projects_own_list_is_sound() -> None:
    check_places(OWN, load_references(PROJECT / FOLDER))
    check_all(OWN, EMBEDDED)
    for name, variant in selected(OWN, PAPER).items():
        params_of(name, variant, PAPER)  # parameters exist; the weights need not
    assert {variant.group for variant in OWN.values()} == set(GROUPS)


@pytest.mark.parametrize("params", [EMBEDDED, PAPER], ids=["embedded", "paper"])
def test_no_two_variants_of_a_profile_fill_one_cell(params) -> None:
    cells = [(v.table, v.shown_as) for v in selected(OWN, params).values() if v.shown_as]
    assert len(cells) == len(set(cells))


@pytest.mark.parametrize("params", [EMBEDDED, PAPER], ids=["embedded", "paper"])
def test_the_variants_of_a_profile_fill_every_row_of_the_ablation_tables(params) -> None:
    filled = {(v.table, v.shown_as) for v in selected(OWN, params).values()}
    references = load_references(PROJECT / FOLDER)
    for table in (5, 6, 8):
        assert {(table, row) for row in references[table].rows} <= filled
    assert {(9, column) for column in references[9].columns} <= filled


def test_a_profile_without_a_language_model_needs_none_of_its_weights() -> None:
    small = parse_params(UNIT | {"profile": "tmuad-u-s"}, folder=PROJECT)
    left_out = set(selected(OWN, PAPER)) - set(selected(OWN, small))
    assert left_out == {"whole-image-clip", "whole-image-t5", "segments-t5"}


def test_the_weights_of_a_variant_are_those_of_its_texts_as_well() -> None:
    def kinds(name: str) -> list[tuple[str, str]]:
        changed = params_of(name, OWN[name], PAPER)
        return [(slot.kind, slot.weights) for slot in slots_of(OWN[name], changed) if slot.group == "texts"]

    assert kinds("whole-image-clip") == [("Qwen", "qwen2-vl-7b-instruct"), ("CLIP", "clip-vit-l-14")]
    assert kinds("segments-t5") == [("Qwen", "qwen2-vl-7b-instruct"), ("T5", "t5-large")]
    assert kinds("classes-t5") == [("T5", "t5-large")]
    assert kinds("class-level") == []


def test_a_variant_changes_what_it_says_and_nothing_else() -> None:
    changed = params_of("k-25", OWN["k-25"], EMBEDDED)
    assert changed.patch_bank.clusters == 25
    assert changed.model_copy(update={"patch_bank": EMBEDDED.patch_bank}) == EMBEDDED
    paper = params_of("patches-clip", OWN["patches-clip"], PAPER)
    assert paper.patch_bank.encoders == ("clip",)
    assert paper.profile == "paper" and paper.finetune == PAPER.finetune and paper.segment == PAPER.segment
    drawn = params_of("four-strict", OWN["four-strict"], EMBEDDED, seed=2)
    assert (drawn.data.shots, drawn.data.shots_seed) == (4, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected groups of variants at the top: banks, text"),
        ("bank: {}", "unknown group 'bank', did you mean 'banks'"),
        (
            "banks: {a: {about: x, bank: [text]}}",
            "variant 'a': unknown key 'bank', did you mean 'banks'.*known here: profile",
        ),
        ("banks: {a: {about: x, banks: [tekst]}}", "variant 'a': banks.0: .*did you mean 'text'"),
        ("banks: {a: {banks: [text]}}", "variant 'a': about: required"),
        ("banks: {a: {about: x, group: text}}", "leave `group` out"),
        ("banks: {A b: {about: x}}", "variant 'A b': a name has lower-case letters"),
        ("banks: {a: {about: x}}\ntext: {a: {about: x}}", "variant 'a' stands twice, in banks and in text"),
        ("banks: {a: {about: x, change: {patch_bank: {clusters: 3}}}}", "changes 'patch_bank'.*may change fuse"),
        ("cost: {a: {about: x, change: {fuse: {}}}}", "may change nothing"),
        ("text: {a: {about: x, change: {describe: {fuzz: 0.1}}}}", "may take the grid's positions, .*classified again"),
        ("banks: {a: {about: x, encoded: {of: image, by: words}}}", "needs `group: text`"),
        (
            "text: {a: {about: x, banks: [text], encoded: {of: image, bye: words}}}",
            "unknown key 'encoded.bye', did you mean",
        ),
        ("clusters: {a: {about: x, seeds: [1]}}", "`seeds`.*`group: shots`"),
        ("banks: 3", "banks: expected variants by name, found 3"),
        ("banks: {a: 3}", "variant 'a': expected a mapping"),
        ("banks: {a: {about: x, table: 12}}", "table: .*less than or equal to 11"),
    ],
)
def test_a_wrong_list_is_told_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        load_variants(write(tmp_path, text))


def test_a_change_of_a_parameter_that_does_not_exist_names_its_neighbours(tmp_path: Path) -> None:
    listed = load_variants(write(tmp_path, "clusters: {k: {about: x, change: {patch_bank: {cluster: 3}}}}"))
    with pytest.raises(ParameterError, match=r"variant 'k'.*'patch_bank.cluster'; did you mean 'clusters'"):
        check_all(listed, EMBEDDED)


def test_an_unknown_name_lists_the_neighbours() -> None:
    with pytest.raises(
        ParameterError, match=r"unknown variant 'k-1000', did you mean 'k-100'\?; variants.yaml has: m-t, "
    ):
        named(OWN, "k-1000")


def test_a_backend_without_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUAD_WEIGHTS", str(tmp_path / "none"))
    text = "patches: {dino: {about: x, banks: [patches], change: {patch_bank: {encoders: [dinov2], distance: cosine}}}}"
    with pytest.raises(WeightsError, match=r"variant 'dino' asks for a model that is not there: .*dinov2-giant"):
        check_all(load_variants(write(tmp_path, text)), EMBEDDED)


def test_a_text_encoder_without_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUAD_WEIGHTS", str(tmp_path / "none"))
    for by, weight in (("t5", "t5-large"), ("clip", "clip-vit-l-14")):
        text = f"text: {{mine: {{about: x, banks: [text], encoded: {{of: classes, by: {by}}}}}}}"
        with pytest.raises(WeightsError, match=rf"variant 'mine' asks for a model that is not there: .*{weight}"):
            check_all(load_variants(write(tmp_path, text)), EMBEDDED)


def test_a_place_that_the_paper_has_not_is_told_its_neighbours(tmp_path: Path) -> None:
    references = load_references(PROJECT / FOLDER)
    listed = load_variants(write(tmp_path, "banks: {a: {about: x, table: 5, as: M_T + M_O}}"))
    with pytest.raises(
        ParameterError, match=r"variant 'a': as: table 5 has no row or column 'M_T \+ M_O', did you mean"
    ):
        check_places(listed, references)
    with pytest.raises(ParameterError, match="needs `table`"):
        check_places(load_variants(write(tmp_path, "banks: {a: {about: x, as: M_T}}")), references)


def test_the_stages_depend_on_what_the_variants_of_their_group_read() -> None:
    stages = yaml.safe_load((PROJECT / "ablations/dvc.yaml").read_text())["stages"]
    assert set(stages) == {*GROUPS, "publish"}
    for group in GROUPS:
        stage = stages[group]["do"]
        assert stage["cmd"] == f"python -m tmuad.ablate {group} ${{key}}"
        params = {name: keys for entry in stage["params"] for name, keys in entry.items()}
        assert params["variants.yaml"] == [group]
        assert tuple(params["artifacts/params.yaml"] or ()) == READS.get(group, ())
        assert all((PROJECT / dep).exists() for dep in stage["deps"] if dep.startswith("tmuad/"))
