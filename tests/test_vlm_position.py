"""Positions by a vision language model: asked for real at toy size, kept, corrected, and compared as the paper does."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import SHAPE, scene, thing
from tiny_models import CPU, photos
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration

from tmuad.banks.text import TextBank
from tmuad.config import DataParams, TextScoreParams
from tmuad.config_models import ComputeParams, VlmParams
from tmuad.describe import vlm_position
from tmuad.describe.placing import load_corrections, place, write_placed
from tmuad.describe.qwen import Question, Qwen, build_qwen, load_qwen
from tmuad.describe.table import descriptions_table, read_descriptions
from tmuad.describe.vlm_position import Answer, Answers, ask_positions, prompt, revision
from tmuad.engine import ImageRef
from tmuad.errors import ParameterError
from tmuad.models.meta import parameters
from tmuad.score.text import find_differences

TINY = VlmParams(model="tiny", weights="random:0", max_tokens=8, batch=3)
CLASSES = {"tiny": Qwen2VLForConditionalGeneration, "tiny-2.5": Qwen2_5_VLForConditionalGeneration}


@pytest.fixture(scope="module", params=CLASSES)
def qwen(request: pytest.FixtureRequest) -> Qwen:
    return load_qwen(TINY.model_copy(update={"model": request.param}), CPU)


def questions() -> list[Question]:
    texts = ["Where is the screw?", "Where are the screw, the lens and the much longer name of a part?", "?", "x"]
    return [Question(image, text) for image, text in zip(photos(4), texts, strict=True)]


def test_it_is_the_librarys_model_generating(qwen: Qwen) -> None:
    assert isinstance(qwen.model, CLASSES[qwen.params.model])
    question = questions()[0]
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
    text = qwen.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    inputs = qwen.processor(text=[text], images=[Image.fromarray(question.image)], return_tensors="pt")
    tokens = qwen.model.generate(**inputs, do_sample=False, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
    assert qwen.ask([question]) == [qwen.processor.decode(tokens, skip_special_tokens=True)]


def test_a_batch_of_questions_is_each_by_itself(qwen: Qwen) -> None:
    together = qwen.ask(questions())
    assert together == [qwen.ask([q])[0] for q in questions()]
    assert len(set(together)) > 1  # the image and the words make a difference


def test_it_answers_in_half_precision() -> None:
    for model in CLASSES:
        half = Qwen(TINY.model_copy(update={"model": model}), CPU.model_copy(update={"precision": "bf16"}))
        half.model.bfloat16()  # as weights from a file are loaded
        assert half.ask(questions()) == [half.ask([q])[0] for q in questions()]


def test_the_published_models_have_their_sizes() -> None:
    assert parameters(lambda: build_qwen(VlmParams(), empty=True)) == 8_291_375_616
    newer = parameters(lambda: build_qwen(VlmParams(model="qwen2.5-vl-7b"), empty=True))
    assert newer == pytest.approx(8.29e9, rel=0.01)


# ---- answers are kept


def unit(tmp_path: Path, number: int = 4) -> tuple[list[ImageRef], list[object], VlmParams, DataParams]:
    refs = []
    for i, image in enumerate(photos(number)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        refs.append(ImageRef(f"image-{i}", tmp_path / f"{i}.png"))
    described = [scene(i, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5)) for i in range(number)]
    return refs, described, TINY.model_copy(update={"answers": str(tmp_path / "answers")}), DataParams(size=64)


def test_an_answer_is_never_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, described, vlm, data = unit(tmp_path)
    asked: list[int] = []
    original = Qwen.ask
    monkeypatch.setattr(Qwen, "ask", lambda self, qs: asked.append(len(qs)) or original(self, qs))
    ask_positions("kit", refs[:3], described[:3], vlm, CPU, data)
    before = (tmp_path / "answers/kit.jsonl").read_bytes()
    ask_positions("kit", refs, described, vlm, CPU, data)
    assert asked == [3, 1]
    after = (tmp_path / "answers/kit.jsonl").read_bytes().splitlines()
    assert set(before.splitlines()) < set(after) and len(after) == 4
    ask_positions("kit", refs, described, vlm.model_copy(update={"prompt": "{objects}?"}), CPU, data)
    ask_positions("kit", refs, described, vlm.model_copy(update={"max_tokens": 7}), CPU, data)
    assert asked == [3, 1, 3, 1, 3, 1]  # another prompt, another revision


def test_what_the_model_says_is_used(tmp_path: Path) -> None:
    refs, described, vlm, data = unit(tmp_path, 2)
    mark, answers = revision(vlm, CPU), Answers(tmp_path / "answers/kit.jsonl")
    answers.add(Answer("image-0", mark, prompt(described[0], vlm.prompt), '{"screw": "upper left", "lens": "no idea"}'))
    answers.add(Answer("image-1", mark, prompt(described[1], vlm.prompt), "lens: right and bottom"))
    said = ask_positions("kit", refs, described, vlm, CPU, data)
    assert said == {("image-0", "screw"): ["top left"], ("image-1", "lens"): ["right", "bottom"]}


def test_an_image_without_objects_is_not_asked_about(tmp_path: Path) -> None:
    refs, _, vlm, data = unit(tmp_path, 1)
    assert ask_positions("kit", refs, [scene(0)], vlm, CPU, data) == {}
    assert not (tmp_path / "answers/kit.jsonl").exists()


def test_a_line_cut_short_costs_that_answer_alone(tmp_path: Path) -> None:
    path = tmp_path / "kit.jsonl"
    first, second, third = (Answer(f"image-{i}", "r", "p", "left") for i in range(3))
    answers = Answers(path)
    answers.add(first)
    answers.add(second)
    path.write_bytes(path.read_bytes()[:-7])
    again = Answers(path)
    assert (again.get("image-0", "r", "p"), again.get("image-1", "r", "p")) == ("left", None)
    again.add(third)
    assert Answers(path).get("image-2", "r", "p") == "left"
    again.tidy()
    assert [json.loads(line)["image_id"] for line in path.read_text().splitlines()] == ["image-0", "image-2"]


def test_a_kill_keeps_the_answers_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs, described, vlm, data = unit(tmp_path)
    vlm = vlm.model_copy(update={"batch": 1})
    original, calls = vlm_position.load_image, []

    def killed(path: Path, params: DataParams) -> np.ndarray:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(path, params)

    monkeypatch.setattr(vlm_position, "load_image", killed)
    with pytest.raises(KeyboardInterrupt):
        ask_positions("kit", refs, described, vlm, CPU, data)
    assert len(Answers(tmp_path / "answers/kit.jsonl").known) == 2


def test_revision_names_precision_and_weights() -> None:
    half = ComputeParams(device="cpu", precision="bf16")
    marks = {revision(TINY, CPU), revision(TINY, half), revision(TINY.model_copy(update={"weights": "random:1"}), CPU)}
    assert len(marks) == 3


# ---- where each position is from


def test_fall_backs_are_counted_listed_and_corrected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    described = [
        scene(0, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5)),
        scene(1, thing("screw", 0.5, 0.5)),
        scene(2),
    ]
    said = {("image-0", "screw"): ["top left", "left"]}
    with caplog.at_level(logging.WARNING):
        placed, sources = place(described, said, {("image-1", "screw"): ["bottom"]})
    assert "1 of 3 positions are the grid's" in caplog.text
    assert placed[0].by_name["screw"].position == "top left, left"
    assert placed[0].by_name["lens"].position == "right"
    assert placed[1].by_name["screw"].text.startswith("1 screw at bottom, ")
    assert [(s.object_class, s.source) for s in sources] == [
        ("lens", "grid"),
        ("screw", "vlm"),
        ("screw", "correction"),
    ]
    write_placed(sources, tmp_path / "positions.csv")
    assert (tmp_path / "positions.csv").read_text().splitlines()[1] == 'image-0,"lens",grid,"right"'


def test_where_nobody_is_asked_nothing_is_listed_but_corrections_count(caplog: pytest.LogCaptureFixture) -> None:
    described = [scene(0, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5))]
    placed, sources = place(described, None, {})
    assert placed[0].text == described[0].text and sources == [] and caplog.text == ""
    placed, sources = place(described, None, {("image-0", "lens"): ["left"]})
    assert placed[0].by_name["lens"].position == "left" and len(sources) == 1


def test_said_positions_survive_the_table() -> None:
    described = [scene(0, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5)), scene(1)]
    placed, _ = place(described, {("image-0", "screw"): ["top", "left"]}, {})
    for before in (placed, described):
        table = descriptions_table(before, SHAPE, 0.05)
        after = read_descriptions(table)
        assert [d.text for d in after] == [d.text for d in before]
        assert [[c.said for c in d.classes] for d in after] == [[c.said for c in d.classes] for d in before]
        assert descriptions_table(after, SHAPE, 0.05) == table


def test_positions_in_words_are_compared_with_those_of_the_nearest_text() -> None:
    normal = [scene(i, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5)) for i in range(6)]
    normal, _ = place(normal, {(d.image_id, "screw"): ["top left", "top"] for d in normal}, {})
    query, _ = place(
        [scene(9, thing("screw", 0.2, 0.2), thing("lens", 0.8, 0.5))], {("image-9", "screw"): ["left"]}, {}
    )
    bank = TextBank(normal, SHAPE)
    params = TextScoreParams(similar="text", undercount="paper", position="words")
    findings, _ = find_differences(query[0], bank, params)
    assert [(f.attribute, f.object_class, f.expected, f.found, f.strength) for f in findings] == [
        ("position", "screw", "top left, top", "left", 1.0)
    ]
    assert find_differences(normal[0], bank, params)[0] == []
    assert find_differences(query[0], bank, params.model_copy(update={"position": "places"}))[0] == []


CORRECTION = "- {image: test/a.png, object: screw, position: [left, top right]}\n"


def test_a_correction_is_read_by_path_or_id(tmp_path: Path) -> None:
    path = tmp_path / "kit.yaml"
    path.write_text(CORRECTION + "- {image: id-b, object: lens, position: centre}\n")
    found = load_corrections(path, {"test/a.png": "id-a", "test/b.png": "id-b"})
    assert found == {("id-a", "screw"): ["top right", "left"], ("id-b", "lens"): ["centre"]}
    assert load_corrections(tmp_path / "none.yaml", {}) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1", "expected a list of rows"),
        ("- 3", "row 1: expected the keys"),
        (CORRECTION.replace("left,", "middle,"), "row 1: position ['middle', 'top right']; known are top left"),
        (CORRECTION.replace("a.png", "z.png"), "row 1: no image 'test/z.png'"),
        (CORRECTION * 2, "row 2: test/a.png has a position of 'screw' already"),
        (CORRECTION.replace("[left, top right]", "[]"), "row 1: position []"),
    ],
)
def test_corrections_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "kit.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError) as caught:
        load_corrections(path, {"test/a.png": "id-a"})
    assert words in str(caught.value)
