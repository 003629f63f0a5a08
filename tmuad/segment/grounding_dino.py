"""Grounding DINO: boxes for object names, many images at once.

Boxes, scores and phrases are those of `groundingdino.util.inference.predict`. A phrase may join words of two names or hold
half of one, so each box is given the name whose words score highest instead; the phrase is what `predict` would say.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import weights
from tmuad.cache import fingerprint
from tmuad.config_models import ComputeParams, GroundedSamParams
from tmuad.errors import ParameterError, WeightsError
from tmuad.models.runtime import device_of, in_batches, inference, loaded, precision_of, without_warnings

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_TOKENS = 256  # of a caption

_SWIN_T: dict[str, Any] = {
    "modelname": "groundingdino", "backbone": "swin_T_224_1k", "position_embedding": "sine", "pe_temperatureH": 20,
    "pe_temperatureW": 20, "return_interm_indices": [1, 2, 3], "backbone_freeze_keywords": None, "enc_layers": 6,
    "dec_layers": 6, "pre_norm": False, "dim_feedforward": 2048, "hidden_dim": 256, "dropout": 0.0, "nheads": 8,
    "num_queries": 900, "query_dim": 4, "num_patterns": 0, "num_feature_levels": 4, "enc_n_points": 4, "dec_n_points": 4,
    "two_stage_type": "standard", "two_stage_bbox_embed_share": False, "two_stage_class_embed_share": False,
    "transformer_activation": "relu", "dec_pred_bbox_embed_share": True, "dn_box_noise_scale": 1.0,
    "dn_label_noise_ratio": 0.5, "dn_label_coef": 1.0, "dn_bbox_coef": 1.0, "embed_init_tgt": True,
    "dn_labelbook_size": 2000, "max_text_len": MAX_TOKENS, "text_encoder_type": "bert", "use_text_enhancer": True,
    "use_fusion_layer": True, "use_checkpoint": False, "use_transformer_ckpt": False, "use_text_cross_attention": True,
    "text_dropout": 0.0, "fusion_dropout": 0.0, "fusion_droppath": 0.1, "sub_sentence_present": True, "masks": False,
    "aux_loss": True,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "swin_t": _SWIN_T,
    "tiny": _SWIN_T | {"enc_layers": 1, "dec_layers": 2, "dim_feedforward": 64, "nheads": 4, "num_queries": 40},
}
_TINY_SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}


@dataclass(frozen=True)
class Detections:
    """The boxes found in one image, the surest first."""

    boxes: NDArray[np.float32]  # (n, 4) x0 y0 x1 y1, shares of the sides, 0..1
    scores: NDArray[np.float32]  # (n,) 0..1
    names: NDArray[np.int64]  # (n,) index into the object names
    phrases: list[str]  # (n) as `predict` words it


class GroundingDino:
    """A detector on its device."""

    def __init__(self, params: GroundedSamParams, compute: ComputeParams) -> None:
        self.compute = compute
        self.model = build_detector(params, compute).to(device_of(compute)).eval()

    def detect(
        self, images: Sequence[NDArray[np.uint8]], names: Sequence[str], box_threshold: float, text_threshold: float
    ) -> list[Detections]:
        """Detections of the object `names` in each image (S, S, 3); none at all is a result like any other.

        Raises:
            ParameterError: a name has no token of its own, two names have the same, or the names are too many.
        """
        text = caption(names)
        spans = self.spans(names)

        def run(batch: Sequence[NDArray[np.uint8]]) -> list[Detections]:
            with inference(self.compute), without_warnings():
                out = self.model(as_input(batch).to(device_of(self.compute)), captions=[text] * len(batch))
            logits, boxes = out["pred_logits"].float().sigmoid().cpu(), out["pred_boxes"].float().cpu()
            return [
                self._read(logits[i], boxes[i], text, spans, box_threshold, text_threshold) for i in range(len(batch))
            ]

        return in_batches(run, list(images), self.compute.batch, "Grounding DINO")

    def spans(self, names: Sequence[str]) -> list[list[int]]:
        """Places of each name's tokens in the caption; see `detect` for the errors."""
        tokenizer = self.model.tokenizer
        owner: dict[tuple[int, ...], str] = {}
        spans, start = [], 1  # place 0 is [CLS]
        for name in names:
            ids = tokenizer(_clean(name), add_special_tokens=False)["input_ids"]
            if not ids or all(i == tokenizer.unk_token_id for i in ids):
                raise ParameterError(f"object name {name!r}: the detector has no word for it; use plain English words")
            if (twin := owner.setdefault(tuple(ids), name)) != name:
                raise ParameterError(f"object names {twin!r} and {name!r} are the same to the detector; rename one")
            spans.append(list(range(start, start + len(ids))))
            start += len(ids) + 1  # the full stop
        if start > MAX_TOKENS - 1:
            raise ParameterError(
                f"{len(names)} object names make {start} tokens, the detector takes {MAX_TOKENS}; use fewer"
            )
        return spans

    def _read(
        self,
        logits: "torch.Tensor",
        boxes: "torch.Tensor",
        text: str,
        spans: list[list[int]],
        box_threshold: float,
        text_threshold: float,
    ) -> Detections:
        """Of one image: logits (queries, 256) and boxes (queries, 4) as centre and size."""
        from groundingdino.util.utils import get_phrases_from_posmap
        from torchvision.ops import box_convert

        keep = logits.max(dim=1)[0] > box_threshold
        logits, boxes = logits[keep], boxes[keep]
        scores, order = logits.max(dim=1)[0].sort(descending=True, stable=True)
        logits, boxes = logits[order], boxes[order]
        tokenized = self.model.tokenizer(text)
        phrases = [
            get_phrases_from_posmap(row > text_threshold, tokenized, self.model.tokenizer).replace(".", "")
            for row in logits
        ]
        by_name = np.stack([logits[:, span].amax(dim=1).numpy() for span in spans], axis=1)  # (n, names)
        corners = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1)
        return Detections(
            corners.numpy().astype(np.float32), scores.numpy().astype(np.float32), by_name.argmax(axis=1), phrases
        )


def load_detector(params: GroundedSamParams, compute: ComputeParams) -> GroundingDino:
    """The detector of these settings, loaded once per process."""
    key = ("grounding dino", params.detector, params.detector_weights, compute.device, compute.precision)
    return loaded(key, lambda: GroundingDino(params, compute))


def detector_fingerprint(params: GroundedSamParams, compute: ComputeParams) -> str:
    import sys

    digests = [weights.digest(params.detector_weights, compute)]
    if weights.random_seed(params.detector_weights) is None:
        digests.append(weights.digest(params.text_encoder, compute))
    return fingerprint(sys.modules[__name__], params.detector, digests, precision_of(compute))


def caption(names: Sequence[str]) -> str:
    """'screw. lens.': the names as the detector was trained to read them.

    Raises:
        ParameterError: there is no name.
    """
    if not names:
        raise ParameterError(
            "no object names to look for; list them under 'objects' in data/catalog/<data set>.yaml, or give "
            '`tmuad init FOLDER --classes "screw, lens"`'
        )
    return " ".join(f"{_clean(name)}." for name in names)


def _clean(name: str) -> str:
    return " ".join(name.lower().replace(".", " ").replace("?", " ").split())


def as_input(images: Sequence[NDArray[np.uint8]]) -> "torch.Tensor":
    """(n, S, S, 3) uint8 -> (n, 3, S, S), standardised as the detector was trained."""
    import torch

    pixels = torch.as_tensor(np.stack(list(images))).permute(0, 3, 1, 2).float().div(255)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def import_library() -> None:
    """What has to be imported before `groundingdino`, in every process.

    It imports yapf, which keeps a pickle in the user's cache folder that processes starting together write over each other:
    one of them reads half a file and ends. Here yapf gets an empty folder of its own instead, which costs 0.1 s.
    """
    if "yapf" in sys.modules:
        return
    import platformdirs

    place = platformdirs.user_cache_dir
    with tempfile.TemporaryDirectory() as folder:
        platformdirs.user_cache_dir = lambda *_, **__: folder
        try:
            import yapf  # noqa: F401
        finally:
            platformdirs.user_cache_dir = place


def build_detector(params: GroundedSamParams, compute: ComputeParams | None = None, empty: bool = False) -> Any:
    """A `GroundingDINO` with its weights; `empty` leaves them as torch made them and needs no file (meta device)."""
    import torch

    import_library()
    with without_warnings():
        from groundingdino.models import build_model
    seed = None if empty else weights.random_seed(params.detector_weights)
    without_files = empty or seed is not None
    bert = None if without_files else _bert_folder(params, compute or ComputeParams())
    tiny = params.detector == "tiny"
    with _own_parts(bert, tiny), without_warnings(), torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        from types import SimpleNamespace

        model = build_model(SimpleNamespace(**PRESETS[params.detector]))
        if seed is not None:
            _spread(model)
    if not without_files:
        path = weights.paths(params.detector_weights, compute or ComputeParams())[0]
        state = {name.removeprefix("module."): value for name, value in weights.read_state(path).items()}
        weights.load_into(model, state, path, ignored=("bert.embeddings.position_ids", "label_enc."))
    return model


def _spread(model: Any) -> None:
    """A fresh detector's boxes are all alike, and its scores all 0 or 1: random weights should tell boxes apart."""
    import torch

    for head in (*model.bbox_embed, model.transformer.enc_out_bbox_embed):
        torch.nn.init.normal_(head.layers[-1].weight, std=0.3)
    with torch.no_grad():
        model.transformer.decoder.norm.weight.mul_(0.05)


def _bert_folder(params: GroundedSamParams, compute: ComputeParams) -> Path:
    return weights.paths(params.text_encoder, compute)[0].parent


@contextmanager
def _own_parts(bert: Path | None, tiny: bool) -> Iterator[None]:
    """Within, the library takes our tokenizer, an untrained text encoder (its weights come with the detector's), and for
    the preset `tiny` a small Swin. Nothing is looked up on a network.
    """
    from groundingdino.models.GroundingDINO import groundingdino as module
    from groundingdino.models.GroundingDINO.backbone import backbone as backbones
    from transformers import BertConfig, BertModel, BertTokenizerFast

    def tokenizer(_: object) -> Any:
        if bert is None:
            return plain_tokenizer()
        try:
            return BertTokenizerFast.from_pretrained(bert, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise WeightsError(f"{bert}: not the tokenizer of a BERT ({str(error).splitlines()[0]})") from None

    def encoder(_: object) -> Any:
        if bert is not None:
            config = BertConfig.from_json_file(bert / "config.json")
        elif tiny:
            config = BertConfig(
                vocab_size=len(plain_tokenizer()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=64,
            )  # fmt: skip
        else:
            config = BertConfig()
        return BertModel(config)

    parts = module.get_tokenlizer
    kept = (parts.get_tokenlizer, parts.get_pretrained_language_model, backbones.build_swin_transformer)
    parts.get_tokenlizer, parts.get_pretrained_language_model = tokenizer, encoder
    if tiny:
        from groundingdino.models.GroundingDINO.backbone.swin_transformer import SwinTransformer

        def swin(_: str, pretrain_img_size: int, **kw: Any) -> Any:
            return SwinTransformer(pretrain_img_size=pretrain_img_size, **(_TINY_SWIN | kw))

        backbones.build_swin_transformer = swin
    try:
        yield
    finally:
        parts.get_tokenlizer, parts.get_pretrained_language_model = kept[:2]
        if tiny:
            backbones.build_swin_transformer = kept[2]


def plain_tokenizer() -> Any:
    """A BERT tokenizer whose words are single letters: for models without weights, whose words mean nothing."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_'"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *letters, *(f"##{c}" for c in letters)]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=tokenizer)
