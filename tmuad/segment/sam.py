"""Segment Anything: one image embedding serves the automatic masks and the box prompts.

The masks are those of the library's own `SamAutomaticMaskGenerator` and `SamPredictor`. Added here: embeddings of a batch
of images at once, and scaled-dot-product attention in the encoder, which needs no (tokens x tokens) matrix of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import masks, weights
from tmuad.cache import fingerprint
from tmuad.config_models import ComputeParams, SamParams
from tmuad.masks import Runs
from tmuad.models.runtime import device_of, in_batches, inference, loaded, precision_of

if TYPE_CHECKING:
    import torch

# Encoder width, depth, heads, blocks with global attention, side of the input in px, prompt and decoder width.
PRESETS: dict[str, tuple[int, int, int, tuple[int, ...], int, int]] = {
    "vit_h": (1280, 32, 16, (7, 15, 23, 31), 1024, 256),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23), 1024, 256),
    "vit_b": (768, 12, 12, (2, 5, 8, 11), 1024, 256),
    "tiny": (32, 2, 2, (1,), 128, 32),
}


@dataclass(frozen=True)
class SamRegion:
    """A mask and how sure the model is of it."""

    runs: Runs  # (S, S)
    area: int  # px
    score: float  # predicted IoU, 0..1


class SegmentAnything:
    """A SAM on its device."""

    def __init__(self, model: str, weights_name: str, compute: ComputeParams) -> None:
        self.compute = compute
        self.sam = build_sam(model, weights_name, compute).to(device_of(compute)).eval()

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list["torch.Tensor"]:
        """Image embeddings (1, C, s, s), one per image (S, S, 3) of one size; batches shrink where memory is short."""
        return in_batches(self._embed, list(images), self.compute.batch, "SAM")

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> list["torch.Tensor"]:
        import torch
        from segment_anything.utils.transforms import ResizeLongestSide

        resize = ResizeLongestSide(self.sam.image_encoder.img_size)
        pixels = np.stack([resize.apply_image(image) for image in images])
        batch = torch.as_tensor(pixels, device=self.sam.device).permute(0, 3, 1, 2)
        with inference(self.compute):
            embedded = self.sam.image_encoder(self.sam.preprocess(batch))
        return list(embedded.float().split(1))

    def automatic(self, image: NDArray[np.uint8], embedding: "torch.Tensor", params: SamParams) -> list[SamRegion]:
        """Everything SAM finds in `image`, largest first."""
        from segment_anything import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(
            self.sam,
            points_per_side=params.points_per_side,
            points_per_batch=params.points_per_batch,
            pred_iou_thresh=params.pred_iou,
            stability_score_thresh=params.stability,
            box_nms_thresh=params.nms,
            output_mode="uncompressed_rle",
        )
        generator.predictor = _predictor(self.sam, embedding, image.shape[:2])
        with inference(self.compute.model_copy(update={"precision": "fp32"})):
            found = generator.generate(image)
        regions = [_region(rle["segmentation"], rle["predicted_iou"]) for rle in found]
        usable = kept([r.area for r in regions], image.shape[0] * image.shape[1], params.min_area, params.max_area)
        regions = sorted((regions[i] for i in usable), key=lambda r: (-r.area, -r.score))
        return regions[: params.max_regions]

    def boxes(
        self, image: NDArray[np.uint8], embedding: "torch.Tensor", boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """One mask per box (n, 4), x0 y0 x1 y1 in px: (n, S, S) and predicted IoUs (n,)."""
        import torch

        if not len(boxes):
            return np.zeros((0, *image.shape[:2]), dtype=np.bool_), np.zeros(0, dtype=np.float32)
        predictor = _predictor(self.sam, embedding, image.shape[:2])
        asked = predictor.transform.apply_boxes_torch(torch.as_tensor(boxes, device=self.sam.device), image.shape[:2])

        def prompt(batch: Sequence["torch.Tensor"]) -> list[tuple[Any, Any]]:
            with inference(self.compute.model_copy(update={"precision": "fp32"})):
                found, quality, _ = predictor.predict_torch(
                    None, None, torch.stack(list(batch)), multimask_output=False
                )
            return list(zip(found[:, 0].cpu().numpy(), quality[:, 0].cpu().numpy(), strict=True))

        answers = in_batches(prompt, list(asked), 64, "SAM boxes")
        return np.stack([a[0] for a in answers]), np.array([a[1] for a in answers], dtype=np.float32)


def load_sam(model: str, weights_name: str, compute: ComputeParams) -> SegmentAnything:
    """The SAM of these settings, loaded once per process whichever slots use it."""
    key = ("sam", model, weights_name, compute.device, compute.precision)
    return loaded(key, lambda: SegmentAnything(model, weights_name, compute))


def sam_fingerprint(model: str, weights_name: str, compute: ComputeParams) -> str:
    """Digest of everything a mask depends on besides image and prompts."""
    import sys

    here = sys.modules[__name__]
    return fingerprint(here, model, weights.digest(weights_name, compute), precision_of(compute))


def kept(areas: Sequence[int], pixels: int, min_area: float, max_area: float) -> list[int]:
    """Indices of the masks that cover neither next to nothing nor all of the image."""
    return [i for i, area in enumerate(areas) if area > 0 and min_area * pixels <= area <= max_area * pixels]


def build_sam(model: str, weights_name: str = "", compute: ComputeParams | None = None) -> Any:
    """A `Sam` of the preset `model`; without a weight name its tensors are whatever torch made them (or meta)."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width, depth, heads, global_blocks, side, channels = PRESETS[model]
    seed = weights.random_seed(weights_name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                depth=depth,
                embed_dim=width,
                img_size=side,
                mlp_ratio=4,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                num_heads=heads,
                patch_size=16,
                qkv_bias=True,
                use_rel_pos=True,
                global_attn_indexes=global_blocks,
                window_size=14 if side == 1024 else 3,
                out_chans=channels,
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=channels,
                image_embedding_size=(side // 16, side // 16),
                input_image_size=(side, side),
                mask_in_chans=16,
            ),
            mask_decoder=MaskDecoder(
                num_multimask_outputs=3,
                transformer=TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=8 * channels, num_heads=8),
                transformer_dim=channels,
                iou_head_depth=3,
                iou_head_hidden_dim=channels,
            ),
            pixel_mean=[123.675, 116.28, 103.53],
            pixel_std=[58.395, 57.12, 57.375],
        )
        if seed is not None:
            _randomise(sam)
    if weights_name and seed is None:
        path = weights.paths(weights_name, compute or ComputeParams())[0]
        weights.load_into(sam, weights.read_state(path), path)
    _use_fused_attention(sam)
    return sam


def _randomise(sam: Any) -> None:
    """Positions that a fresh SAM has at zero get values, so that they take part in what random weights compute."""
    import torch

    for name, parameter in sam.named_parameters():
        if name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
            torch.nn.init.normal_(parameter, std=0.02)


def _predictor(sam: Any, embedding: "torch.Tensor", shape: tuple[int, ...]) -> Any:
    """The library's predictor, given an embedding instead of an image."""
    from segment_anything import SamPredictor

    class Prepared(SamPredictor):  # type: ignore[misc]
        def set_image(self, image: NDArray[np.uint8], image_format: str = "RGB") -> None:
            """The embedding is there already."""

        def reset_image(self) -> None:
            """It stays for further prompts."""

    predictor = Prepared(sam)
    predictor.original_size = tuple(shape[:2])
    predictor.input_size = predictor.transform.get_preprocess_shape(*shape[:2], sam.image_encoder.img_size)
    predictor.features = embedding
    predictor.is_image_set = True
    return predictor


def _use_fused_attention(sam: Any) -> None:
    for block in sam.image_encoder.blocks:
        block.attn.forward = partial(_attention, block.attn)


def _attention(attn: Any, x: "torch.Tensor") -> "torch.Tensor":
    """`segment_anything.modeling.image_encoder.Attention.forward` by one fused kernel; x (B, H, W, C).

    The decomposed relative positions become the additive mask of the kernel.
    """
    from segment_anything.modeling.image_encoder import get_rel_pos
    from torch.nn.functional import scaled_dot_product_attention

    b, h, w, c = x.shape
    qkv = attn.qkv(x).reshape(b, h * w, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)  # (B, heads, H W, c)
    bias = None
    if attn.use_rel_pos:
        rows = get_rel_pos(h, h, attn.rel_pos_h).to(q.dtype)  # (H, H, c)
        columns = get_rel_pos(w, w, attn.rel_pos_w).to(q.dtype)
        grid = q.reshape(b, attn.num_heads, h, w, -1)
        by_row = (grid @ rows.transpose(-1, -2))[..., :, None]  # (B, heads, H, W, H, 1)
        by_column = (grid.transpose(2, 3) @ columns.transpose(-1, -2)).transpose(2, 3)[..., None, :]
        bias = (by_row + by_column).reshape(b, attn.num_heads, h * w, h * w)
    out = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=attn.scale)
    projected: torch.Tensor = attn.proj(
        out.reshape(b, attn.num_heads, h, w, -1).permute(0, 2, 3, 1, 4).reshape(b, h, w, c)
    )
    return projected


def _region(rle: dict[str, Any], score: float) -> SamRegion:
    """The library's run lengths go column by column, ours row by row."""
    from segment_anything.utils.amg import rle_to_mask

    runs = masks.encode(rle_to_mask(rle))
    return SamRegion(runs, masks.area(runs), min(1.0, max(0.0, float(score))))  # an estimate may leave the range
