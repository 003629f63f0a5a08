"""Texts as vectors: CLIP's text tower and T5's encoder against their libraries, what a language model says of images, and
Table VI's rows by the real graph. Everything at toy size with random weights.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from tiny_models import CPU, ONE, photos
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from tmuad import masks, weights
from tmuad.ablate.encoded import novelties
from tmuad.ablate.variants import Encoded
from tmuad.ablate.vlm_captions import VlmCaptionTask
from tmuad.cache import Cache, unpacked_text
from tmuad.config import DataParams, Params
from tmuad.config_models import ClipEncoderParams, ComputeParams, T5Params, TextsParams, VlmParams
from tmuad.describe.crops import crops_of
from tmuad.describe.qwen import Question, load_qwen
from tmuad.encode import texts as module
from tmuad.encode.clip import build_clip
from tmuad.encode.texts import PRESETS, ClipText, T5Text, build_t5, byte_tokenizer, t5_tokenizer, text_vectors
from tmuad.errors import WeightsError
from tmuad.models.meta import parameters
from tmuad.models.runtime import free_models
from tmuad.segment.components import DESCRIPTOR, Component
from tmuad.segment.scene import SceneTask, pack_scene, unpack_scene

CLIP = ClipText(ClipEncoderParams(model="tiny", weights="random:1"), CPU)
T5 = T5Text(T5Params(model="tiny", weights="random:2", max_tokens=40), CPU)
TEXTS = ["2 screws at left, right; 1 lens at centre", "", "a lens", "3 screws", "naïve café"]
VLM = VlmParams(model="tiny", weights="random:0", batch=3)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_clips_vector_is_that_of_open_clip() -> None:
    model = build_clip("tiny", "random:1").eval()
    with torch.no_grad():
        expected = model.encode_text(SimpleTokenizer(context_length=77)(TEXTS)).numpy()
    np.testing.assert_allclose(CLIP.encode(TEXTS, 2), expected, atol=1e-5)


def test_t5s_vector_is_the_mean_over_the_tokens_of_transformers_encoder() -> None:
    model = build_t5("tiny", "random:2").eval()
    assert isinstance(model, T5EncoderModel)
    found = T5.encode(TEXTS, 3)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = byte_tokenizer().encode(text).ids
        assert len(ids) == len(text.encode()) + 1 and ids[-1] == 1  # bytes, and T5's end
        cut = ids if len(ids) <= 40 else [*ids[:39], 1]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([cut])).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(dim=0).numpy(), atol=1e-5)
    assert len(np.unique(np.round(found, 4), axis=0)) == len(TEXTS)


@pytest.mark.parametrize("encoder", [CLIP, T5], ids=["clip", "t5"])
def test_a_batch_of_texts_is_each_by_itself(encoder: ClipText | T5Text) -> None:
    np.testing.assert_allclose(
        encoder.encode(TEXTS, 4), np.concatenate([encoder.encode([t], 1) for t in TEXTS]), atol=1e-5
    )
    half = type(encoder)(encoder.params, CPU.model_copy(update={"precision": "bf16"}))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        half.encode(TEXTS, 4), encoder.encode(TEXTS, 4), atol=0.1 * np.abs(encoder.encode(TEXTS, 4)).max()
    )
    assert half.fingerprint() != encoder.fingerprint()


def test_what_is_too_long_is_cut_and_said(caplog: pytest.LogCaptureFixture) -> None:
    long = "screw " * 100
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(T5.encode([long, "a"], 2)).all() and np.isfinite(CLIP.encode([long, "a"], 2)).all()
    assert "T5: 1 of 2 texts have more than 40 tokens; the rest is not read" in caplog.text
    assert "CLIP: 1 of 2 texts have more than 77 tokens" in caplog.text
    np.testing.assert_allclose(CLIP.encode([long], 1), CLIP.encode([long + "and a lens"], 1))


def test_a_text_is_encoded_once_whatever_image_it_is_of(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    original = T5Text.encode
    monkeypatch.setattr(
        T5Text, "encode", lambda self, texts, batch: asked.append(list(texts)) or original(self, texts, batch)
    )
    first = text_vectors(["a lens", "", "a lens", "3 screws"], T5, cache, 2)
    assert asked == [["", "a lens", "3 screws"]] and np.array_equal(first[0], first[2])
    again = text_vectors(["3 screws", "a lens", "new"], T5, cache, 2)
    assert asked[1:] == [["new"]] and np.array_equal(again[:2], first[[3, 0]])
    text_vectors(["a lens"], T5Text(T5.params.model_copy(update={"weights": "random:3"}), CPU), cache, 2)
    assert asked[2:] == [["a lens"]]  # other weights, another vector


@pytest.mark.parametrize("by", ["clip", "t5"])
def test_novelty_is_one_less_the_largest_cosine(by: str, tmp_path: Path) -> None:
    params = Params(units={}).model_copy(
        update={
            "data": DataParams(cache=str(tmp_path)), "compute": CPU,
            "encode": Params(units={}).encode.model_copy(update={"clip": CLIP.params}),
            "texts": TextsParams(t5=T5.params),
        }
    )  # fmt: skip
    encoder = CLIP if by == "clip" else T5
    normal, asked = TEXTS[:3], ["a lens", "3 screws", "another thing"]
    bank, rows = encoder.encode(normal, 1).astype(np.float64), encoder.encode(asked, 1).astype(np.float64)
    slow = [min(1 - q @ b / np.linalg.norm(q) / np.linalg.norm(b) for b in bank) for q in rows]
    found = novelties(Encoded(of="classes", by=by), normal, asked, params)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, slow, atol=1e-5)
    assert found[0] == pytest.approx(0, abs=1e-6) and found[2] > 1e-4
    assert novelties(Encoded(of="classes", by=by), [], asked, params).tolist() == [1, 1, 1]  # type: ignore[arg-type]


# ---- weights


def test_the_published_t5_has_its_size() -> None:
    assert parameters(lambda: build_t5("t5-large")) == 334_939_648


def t5_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[T5ForConditionalGeneration, Path]:
    """Files as they are published, at toy size: the whole model's tensors, and a tokenizer."""
    torch.manual_seed(5)
    whole = T5ForConditionalGeneration(T5Config(**PRESETS["tiny"], dropout_rate=0.0)).eval()
    home = folder / "t5-mine"
    home.mkdir(parents=True)
    state = {
        name: tensor
        for name, tensor in whole.state_dict().items()
        if "embed_tokens" not in name and "lm_head" not in name
    }
    save_file(state, home / "model.safetensors")
    byte_tokenizer().save(str(home / "tokenizer.json"))
    listed = "".join(f"\n      - {{file: {p.name}, bytes: {p.stat().st_size}}}" for p in sorted(home.iterdir()))
    (folder / "weights.yaml").write_text(
        f"weights:\n  t5-mine:\n    source: x\n    url: x\n    revision: r\n    licence: l\n    files:{listed}\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv(weights.VARIABLE, str(folder))
    free_models()
    return whole, home


def test_a_file_of_the_whole_t5_gives_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, home = t5_folder(tmp_path, monkeypatch)
    mine = T5Text(T5Params(model="tiny", weights="t5-mine"), ONE)
    ids = torch.tensor([byte_tokenizer().encode("a lens").ids])
    with torch.no_grad():
        expected = whole.encoder(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(mine.encode(["a lens"], 1)[0], expected, atol=1e-5)
    before = mine.fingerprint()
    content = bytearray((home / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (home / "model.safetensors").write_bytes(content)
    assert mine.fingerprint() != before


def test_weights_and_tokenizers_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, home = t5_folder(tmp_path, monkeypatch)
    params = T5Params(model="tiny", weights="t5-mine")
    good = (home / "tokenizer.json").read_bytes()
    (home / "tokenizer.json").write_bytes(b"{" + b" " * (len(good) - 1))
    with pytest.raises(WeightsError, match=r"tokenizer\.json: no usable tokenizer .*tmuad weights verify"):
        t5_tokenizer(params, CPU)
    (home / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json: no such weight file.*tmuad weights pull t5-mine"):
        t5_tokenizer(params, CPU)
    (home / "tokenizer.json").write_bytes(good)
    monkeypatch.setitem(module.PRESETS, "tiny", {**PRESETS["tiny"], "d_ff": 64})
    with pytest.raises(WeightsError, match="weights of another architecture than T5EncoderModel"):
        build_t5("tiny", "t5-mine", CPU)


# ---- what the language model says


def scene(image: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """A scene with `number` discs as candidates."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    runs = [masks.encode(np.hypot(rows - 20 - 8 * i, columns - 20 - 8 * i) < 9) for i in range(number)]
    return pack_scene(image, [Component(r, np.zeros(len(DESCRIPTOR), np.float32)) for r in runs], [], [], 32)


def task(of: str, **texts: object) -> VlmCaptionTask:
    after = SceneTask(Params(units={}).segment, 32) if of == "segments" else None
    given = TextsParams.model_validate({"max_tokens": 6, "crop_size": 56, **texts})
    return VlmCaptionTask(of, after, given, VLM, CPU)  # type: ignore[arg-type]


def test_images_are_described_whole_in_the_models_own_words() -> None:
    shown = photos(4)
    records = task("image").many(shown, [{}] * 4)
    model = load_qwen(VLM, CPU)
    for image, record in zip(shown, records, strict=True):
        answer = model.ask([Question(image, TextsParams().caption)], 6)[0]
        assert unpacked_text(record["image"]) == " ".join(answer.split())
    assert len({unpacked_text(record["image"]) for record in records}) > 1


def test_segments_are_described_one_by_one_on_black_and_in_order() -> None:
    shown = photos(3)
    priors = [scene(image, number) for image, number in zip(shown, (2, 0, 3), strict=True)]
    records = task("segments").many(shown, priors)
    lines = [unpacked_text(record["segments"]).split("\n") for record in records]
    assert [len(many) for many in lines] == [2, 1, 3] and lines[1] == [""]
    runs = unpack_scene(priors[2]).candidate_runs
    crops = crops_of(shown[2], (masks.decode(r, (64, 64)) for r in runs), 56, (0, 0, 0))
    said = load_qwen(VLM, CPU).ask([Question(crop, TextsParams().segment_caption) for crop in crops], 6)
    assert lines[2] == [" ".join(answer.split()) for answer in said]
    assert unpacked_text(task("segments")(shown[2], priors[2])["segments"]) == "\n".join(lines[2])


def test_one_loaded_model_gives_answers_of_any_length() -> None:
    model = load_qwen(VLM, CPU)
    question = Question(photos(1)[0], "What is there?")
    long, short = model.ask([question], 20)[0], model.ask([question], 2)[0]
    assert len(short) < len(long) and long.startswith(short)
    assert load_qwen(VLM, CPU) is model


def test_a_caption_is_kept_by_model_question_and_length() -> None:
    marks = {
        task("image").fingerprint,
        task("segments").fingerprint,
        task("image", caption="What?").fingerprint,
        task("image", max_tokens=7).fingerprint,
        replace(task("image"), vlm=VLM.model_copy(update={"weights": "random:1"})).fingerprint,
        replace(task("image"), compute=ComputeParams(device="cpu", precision="bf16")).fingerprint,
    }
    assert len(marks) == 6
    same = replace(task("image", crop_size=99), vlm=VLM.model_copy(update={"batch": 1}), compute=ONE)
    assert same.fingerprint == task("image").fingerprint  # batches and what is not asked change nothing
