"""Segment Anything at toy size, with random weights, against the library it comes from."""

import types
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling.image_encoder import Attention
from tiny_models import CPU, ONE, photos

from tmuad import masks
from tmuad.config_models import SamParams
from tmuad.segment.sam import SegmentAnything, build_sam, kept, load_sam

ALL = SamParams(
    model="tiny", weights="random:5", points_per_side=8, pred_iou=0, stability=0, min_area=0, max_area=1, nms=1
)


@pytest.fixture(scope="module")
def ours() -> SegmentAnything:
    return load_sam("tiny", "random:5", CPU)


@pytest.fixture(scope="module")
def reference() -> Any:
    """The same weights in the library's own classes, with its own attention."""
    sam = build_sam("tiny", "random:5").eval()
    for block in sam.image_encoder.blocks:
        block.attn.forward = types.MethodType(Attention.forward, block.attn)
    return sam


def test_the_fused_attention_is_the_librarys(ours: SegmentAnything, reference: Any) -> None:
    predictor = SamPredictor(reference)
    for image, embedding in zip(photos(3), ours.embed(photos(3)), strict=True):
        predictor.set_image(image)
        assert torch.allclose(embedding, predictor.get_image_embedding(), atol=1e-5)
        assert embedding.std() > 0.1


def test_embedding_a_batch_is_embedding_each(ours: SegmentAnything) -> None:
    batch = ours.embed(photos(4))
    for image, embedding in zip(photos(4), batch, strict=True):
        assert torch.allclose(SegmentAnything("tiny", "random:5", ONE).embed([image])[0], embedding, atol=1e-5)


# A mask of random weights reaches from edge to edge: without suppression all of them are compared, with it one or two.
@pytest.mark.parametrize(("least_iou", "nms", "at_least"), [(0.0, 1.0, 20), (0.3, 1.0, 5), (0.0, 0.95, 1)])
def test_automatic_masks_are_the_same_set(
    ours: SegmentAnything, reference: Any, least_iou: float, nms: float, at_least: int
) -> None:
    image = photos(2)[1]
    params = ALL.model_copy(update={"pred_iou": least_iou, "nms": nms, "max_regions": 1000})
    found = ours.automatic(image, ours.embed([image])[0], params)
    generator = SamAutomaticMaskGenerator(
        reference, points_per_side=8, pred_iou_thresh=least_iou, stability_score_thresh=0, box_nms_thresh=nms
    )
    expected = [mask["segmentation"] for mask in generator.generate(image)]
    assert len(expected) >= at_least
    ours_set = {masks.decode(r.runs, image.shape[:2]).tobytes() for r in found}
    assert ours_set == {m.tobytes() for m in expected if m.any()}
    assert [r.area for r in found] == sorted((r.area for r in found), reverse=True)
    assert all(masks.area(r.runs) == r.area for r in found)


def test_box_prompts_are_the_predictors(ours: SegmentAnything, reference: Any) -> None:
    image = photos(1)[0]
    boxes = np.array([[5, 5, 30, 30], [30, 35, 60, 55], [0, 0, 64, 64]], dtype=np.float32)
    found, quality = ours.boxes(image, ours.embed([image])[0], boxes)
    predictor = SamPredictor(reference)
    predictor.set_image(image)
    for box, mask, score in zip(boxes, found, quality, strict=True):
        expected, iou, _ = predictor.predict(box=box, multimask_output=False)
        assert np.array_equal(mask, expected[0])
        assert score == pytest.approx(iou[0], abs=1e-5)


def test_half_precision_comes_close(ours: SegmentAnything) -> None:
    image = photos(1)[0]
    half = SegmentAnything("tiny", "random:5", CPU.model_copy(update={"precision": "bf16"}))
    full, rough = ours.embed([image])[0], half.embed([image])[0]
    assert rough.dtype == torch.float32 and not torch.equal(full, rough)
    assert torch.cosine_similarity(full.flatten(), rough.flatten(), dim=0) > 0.999
    assert len(half.automatic(image, rough, ALL)) > 20


def test_no_boxes_no_masks(ours: SegmentAnything) -> None:
    image = photos(1)[0]
    found, quality = ours.boxes(image, ours.embed([image])[0], np.zeros((0, 4), np.float32))
    assert found.shape == (0, 64, 64) and quality.shape == (0,)


def test_no_mask_passes_the_thresholds(ours: SegmentAnything) -> None:
    image = photos(1)[0]
    assert ours.automatic(image, ours.embed([image])[0], ALL.model_copy(update={"pred_iou": 1.0})) == []


def test_masks_of_all_or_nothing_are_dropped() -> None:
    assert kept([0, 1, 10, 50, 99, 100], 100, 0.0, 0.98) == [1, 2, 3]
    assert kept([0, 1, 10, 50, 99, 100], 100, 0.05, 1.0) == [2, 3, 4, 5]


def test_random_weights_come_from_their_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        parameter: torch.Tensor = next(build_sam("tiny", f"random:{seed}").image_encoder.parameters())
        return parameter

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
