"""Grounding DINO at toy size, with random weights, against `groundingdino.util.inference.predict`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CPU, ONE, photos

from tmuad.config_models import GroundedSamParams
from tmuad.errors import ParameterError
from tmuad.models.meta import parameters
from tmuad.segment.grounded_sam import chosen_boxes
from tmuad.segment.grounding_dino import (
    Detections,
    GroundingDino,
    as_input,
    build_detector,
    caption,
    import_library,
    load_detector,
)

PARAMS = GroundedSamParams(detector="tiny", detector_weights="random:3")
NAMES = ["screw", "lens cap", "red wire"]


@pytest.fixture(scope="module")
def detector() -> GroundingDino:
    return load_detector(PARAMS, CPU)


@pytest.mark.parametrize("threshold", [0.3, 0.85])
def test_detections_are_those_of_predict(detector: GroundingDino, threshold: float) -> None:
    import_library()
    from groundingdino.util.inference import predict

    found = detector.detect(photos(3), NAMES, threshold, 0.25)
    assert sum(len(d.scores) for d in found) > 3
    for image, d in zip(photos(3), found, strict=True):
        boxes, scores, phrases = predict(detector.model, as_input([image])[0], caption(NAMES), threshold, 0.25, "cpu")
        order = np.argsort(-scores.numpy(), kind="stable")
        assert np.allclose(d.scores, scores.numpy()[order], atol=1e-4)
        centre, size = boxes.numpy()[order, :2], boxes.numpy()[order, 2:]
        expected = np.concatenate([centre - size / 2, centre + size / 2], axis=1).clip(0, 1)
        assert np.allclose(d.boxes, expected, atol=1e-3)
        assert sorted(d.phrases) == sorted(phrases)


def test_a_batch_is_each_image_by_itself(detector: GroundingDino) -> None:
    batch = detector.detect(photos(3), NAMES, 0.3, 0.25)
    alone = GroundingDino(PARAMS, ONE).detect(photos(3), NAMES, 0.3, 0.25)
    for a, b in zip(batch, alone, strict=True):
        assert np.allclose(a.scores, b.scores, atol=1e-4)
        assert np.allclose(a.boxes, b.boxes, atol=1e-3)


def test_half_precision_comes_close(detector: GroundingDino) -> None:
    half = GroundingDino(PARAMS, CPU.model_copy(update={"precision": "bf16"}))
    for a, b in zip(detector.detect(photos(2), NAMES, 0, 0), half.detect(photos(2), NAMES, 0, 0), strict=True):
        assert np.abs(a.scores[:10] - b.scores[:10]).max() < 0.05 and not np.array_equal(a.scores, b.scores)


def test_a_box_gets_the_name_whose_words_score_highest(detector: GroundingDino) -> None:
    spans = detector.spans(NAMES)
    tokens = detector.model.tokenizer(caption(NAMES))["input_ids"]
    for name, span in zip(NAMES, spans, strict=True):
        words = "".join(detector.model.tokenizer.convert_ids_to_tokens([tokens[i] for i in span]))
        assert words.replace("##", "") == name.replace(" ", "")
    logits, width = torch.zeros(2, 256), torch.zeros(2, 4)
    logits[0, spans[2][1]], logits[1, spans[0][0]] = 0.9, 0.8
    found = detector._read(logits, width, caption(NAMES), spans, 0.5, 0.25)
    assert [NAMES[i] for i in found.names] == ["red wire", "screw"]


def test_nothing_detected_is_a_result(detector: GroundingDino) -> None:
    (d,) = detector.detect(photos(1), NAMES, 1.0, 0.25)
    assert d.boxes.shape == (0, 4) and len(d.scores) == len(d.names) == len(d.phrases) == 0
    assert chosen_boxes(d, PARAMS) == []


@pytest.mark.parametrize("name", ["", " . ", "部品", "???", "\u200b"])
def test_a_name_without_a_token_is_an_error_that_names_it(detector: GroundingDino, name: str) -> None:
    with pytest.raises(ParameterError, match="the detector has no word for it"):
        detector.detect(photos(1), ["screw", name], 0.3, 0.25)


def test_two_names_that_are_the_same_and_too_many_names(detector: GroundingDino) -> None:
    with pytest.raises(ParameterError, match=r"'Screw' and 'screw\.' are the same"):
        detector.spans(["Screw", "screw."])
    with pytest.raises(ParameterError, match="60 object names make"):
        detector.spans([f"part {i:02}" for i in range(60)])


def test_no_names_say_where_to_list_them() -> None:
    with pytest.raises(ParameterError, match=r"data/catalog/.*--classes"):
        caption([])


def boxes(rows: list[tuple[float, float, float, float, float, int]]) -> Detections:
    ordered = sorted(rows, key=lambda r: -r[4])
    array = np.array([r[:4] for r in ordered], dtype=np.float32).reshape(-1, 4)
    scores, names = np.array([r[4] for r in ordered], np.float32), np.array([r[5] for r in ordered], np.int64)
    return Detections(array, scores, names, [""] * len(ordered))


def test_overlapping_boxes_of_one_name_count_once_and_of_two_names_twice() -> None:
    same, other = (0.1, 0.1, 0.5, 0.5), (0.11, 0.1, 0.5, 0.5)
    assert chosen_boxes(boxes([(*same, 0.9, 0), (*other, 0.8, 0)]), PARAMS) == [0]
    assert chosen_boxes(boxes([(*same, 0.9, 0), (*other, 0.8, 1)]), PARAMS) == [0, 1]


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0.5, 1)],
                          st.floats(0.1, 1), st.integers(0, 3)), max_size=30))  # fmt: skip
def test_chosen_boxes_come_surest_first_and_do_not_overlap(
    rows: list[tuple[float, float, float, float, float, int]],
) -> None:
    found = boxes(rows)
    chosen = chosen_boxes(found, PARAMS)
    assert (np.diff(found.scores[chosen]) <= 0).all()
    for i, a in enumerate(chosen):
        for b in chosen[:i]:
            if found.names[a] == found.names[b]:
                assert _iou(found.boxes[a], found.boxes[b]) <= PARAMS.nms + 1e-6


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inter = float(np.prod(np.maximum(high - low, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inter
    return inter / union if union else 0.0


def test_the_published_model_has_172_million_parameters() -> None:
    assert parameters(lambda: build_detector(GroundedSamParams(), empty=True)) == 172_839_682


def test_a_half_written_cache_of_yapf_does_not_stop_us(tmp_path: Path) -> None:
    def python(code: str) -> int:
        env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False).returncode

    ours = "from tmuad.segment.grounding_dino import import_library; import_library()"
    assert python(ours) == 0 and not list(tmp_path.rglob("*.pickle"))
    assert python("import yapf") == 0
    kept = list(tmp_path.rglob("*.pickle"))
    assert kept
    for file in kept:
        file.write_bytes(b"")
    assert python("import yapf") != 0, "yapf mends its cache by now: import_library is no longer needed"
    assert python(ours) == 0
