"""Parameters of the slots that foundation models can fill. `tmuad.config` puts them in their places.

A `weights` value is an entry of weights.yaml, or `random:SEED` for weights drawn from a seed (tests and benchmarks).
"""

from typing import Annotated, Literal

from pydantic import Field

from tmuad.section import Section

CAPTION = (
    "Describe this photograph in a few sentences: which objects it shows, how many of each there are, where they are, and "
    "how they look."
)
SEGMENT_CAPTION = "Describe the object in this picture in one short sentence. The black around it is no part of it."
PROMPT = (
    "Where in the image are these objects: {objects}? "
    "Positions are: top left, top, top right, left, centre, right, bottom left, bottom, bottom right. "
    'Answer with JSON only: a list of positions for each object, like {{"screw": ["top left", "centre"]}}.'
)


class ComputeParams(Section):
    """Where and how models run."""

    device: str = "auto"  # auto: the first GPU, else the CPU; or cpu, cuda, cuda:1, ...
    precision: Literal["auto", "fp32", "bf16", "fp16"] = (
        "auto"  # auto: bf16 on a GPU that has it, fp16 on older, else fp32
    )
    threads: int = Field(1, ge=0)  # of models on a CPU; 0: one per core. More may change the last bits of a result
    batch: int = Field(8, ge=1)  # images of one forward; halved and tried again where memory does not suffice
    weights: str = "weights"  # folder of weight files; the environment variable TMUAD_WEIGHTS comes first


class PlacementParams(Section):
    """What one worker on a Ray cluster takes, and how many there are."""

    num_cpus: float = Field(1, ge=0)
    num_gpus: float = Field(
        0, ge=0
    )  # a fraction shares a GPU; with compute.device auto the worker uses the one it is given
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field({})  # names as in `ray start --resources`
    workers: int = Field(0, ge=0)  # 0: as many as the cluster has room for, shared evenly among the placements below


class RayParams(Section):
    """The cluster of `executor: ray`; see docs/scaling.md. None of it changes a result."""

    address: str = (
        ""  # HOST:PORT or auto; empty: RAY_ADDRESS, else a cluster on this machine for as long as the stage runs
    )
    timeout: float = Field(120.0, gt=0)  # s for the cluster to answer, and for a worker to get its place and start
    attempts: int = Field(3, ge=1)  # times that a batch may lose its worker
    carry: Literal["auto", "always"] = (
        "auto"  # auto: images and records travel to and from nodes without our folders only
    )
    default: PlacementParams = PlacementParams()  # of all but these, and of these where they are not given:
    segment: PlacementParams = PlacementParams()
    describe: PlacementParams = PlacementParams()  # the vision language model
    features: PlacementParams = PlacementParams()  # the encoders


class GroundedSamParams(Section):
    """Grounded segmenter: Grounding DINO finds boxes for object names, SAM turns them into masks."""

    backend: Literal["grounded_sam"] = "grounded_sam"
    detector: Literal["swin_t", "tiny"] = "swin_t"
    detector_weights: str = "groundingdino-swint-ogc"
    text_encoder: str = "bert-base-uncased"  # tokenizer and configuration; its weights are part of the detector's file
    segmenter: Literal["vit_h", "vit_l", "vit_b", "tiny"] = "vit_h"
    segmenter_weights: str = "sam-vit-h"
    box_threshold: float = Field(0.35, ge=0, le=1)  # least score of a box
    text_threshold: float = Field(0.25, ge=0, le=1)  # least score of a word that is part of a box's phrase
    nms: float = Field(0.7, gt=0, le=1)  # of two boxes of one name with a larger IoU the weaker is dropped
    min_area: float = Field(0.0005, ge=0, lt=1)  # smaller masks are dropped; share of the image
    max_area: float = Field(0.98, gt=0, le=1)  # larger masks are the image and no object
    max_objects: int = Field(100, ge=1)  # per image, the surest first
    objects: tuple[str, ...] = ()  # names for units that data/catalog does not know


class SamParams(Section):
    """Open segmenter: SAM's automatic masks; the meaning of the thresholds is that of `SamAutomaticMaskGenerator`."""

    backend: Literal["sam"] = "sam"
    model: Literal["vit_h", "vit_l", "vit_b", "tiny"] = "vit_h"
    weights: str = "sam-vit-h"
    points_per_side: int = Field(32, ge=1)
    points_per_batch: int = Field(64, ge=1)
    pred_iou: float = Field(0.88, ge=0, le=1)
    stability: float = Field(0.95, ge=0, le=1)
    nms: float = Field(0.7, gt=0, le=1)
    min_area: float = Field(0.0005, ge=0, lt=1)  # share of the image
    max_area: float = Field(0.98, gt=0, le=1)
    max_regions: int = Field(100, ge=1)  # the largest


class ClipFinetuneParams(Section):
    """Object classifier: a pre-trained CLIP, fine-tuned on masked crops; see tmuad/describe/clip_finetune.py."""

    backend: Literal["clip"] = "clip"
    model: str = "ViT-L-14-quickgelu"  # an open_clip configuration, or tiny
    weights: str = "clip-vit-l-14"
    scope: Literal["unit", "individual", "unified"] = "unit"  # a model per unit, per data set ("-I"), or for all ("-U")
    crops_per_class: int = Field(200, ge=1)  # paper, IV-B
    crop_size: int = Field(224, ge=32)  # px
    epochs: int = Field(10, ge=1)  # at most
    patience: int = Field(2, ge=1)  # epochs without a lower held-out loss after which training stops
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warm_up: int = Field(50, ge=1)  # steps until the learning rate is reached; a cosine takes it to 0 from there
    seed: int = Field(0, ge=0)


class ClipEncoderParams(Section):
    """CLIP as patch encoder (intermediate layers of the whole image) and object encoder (pooled masked crops)."""

    model: str = "ViT-L-14-quickgelu"
    weights: str = "clip-vit-l-14"
    layers: tuple[int, ...] = Field((6, 12, 18, 24), min_length=1)  # blocks, counted from 1
    size: int = Field(448, ge=32)  # px, side of the image; position embeddings are interpolated
    crop_size: int = Field(224, ge=32)  # px, side of an object's crop


class DinoEncoderParams(Section):
    """DINOv2 as patch encoder, and as object encoder (the class token of masked crops)."""

    model: Literal["giant", "large", "base", "small", "tiny"] = "giant"
    weights: str = "dinov2-giant"
    layers: tuple[int, ...] = Field((10, 20, 30, 40), min_length=1)
    size: int = Field(448, ge=32)
    crop_size: int = Field(224, ge=32)  # px, side of an object's crop


class EncodeParams(Section):
    """Encoders that `object_bank.encoder` and `patch_bank.encoders` may name besides `filters`."""

    clip: ClipEncoderParams = ClipEncoderParams()
    dinov2: DinoEncoderParams = DinoEncoderParams()


class VlmParams(Section):
    """The vision language model that `describe.position: vlm` asks."""

    model: Literal["qwen2-vl-7b", "qwen2.5-vl-7b", "tiny", "tiny-2.5"] = "qwen2-vl-7b"
    weights: str = "qwen2-vl-7b-instruct"
    batch: int = Field(4, ge=1)  # questions of one forward
    max_tokens: int = Field(256, ge=1)  # longest answer
    prompt: str = PROMPT  # {objects} stands for the names
    answers: str = "data/answers"  # every answer is kept here, one file per unit, and never asked for again


class T5Params(Section):
    """T5's encoder."""

    model: Literal["t5-large", "tiny"] = "t5-large"
    weights: str = "t5-large"
    max_tokens: int = Field(512, ge=2)  # of a longer text the rest is not read; T5 was trained on 512


class TextsParams(Section):
    """Texts compared as vectors: Table VI's rows 1 to 4, and nothing besides. `vlm` writes them, `encode.clip` is one encoder.

    The paper gives neither its questions nor its T5's size.
    """

    caption: str = CAPTION  # asked of the whole image
    segment_caption: str = SEGMENT_CAPTION  # asked of every object, cut out on black
    max_tokens: int = Field(128, ge=1)  # longest answer
    crop_size: int = Field(224, ge=32)  # px, side of an object's picture
    batch: int = Field(32, ge=1)  # texts of one forward
    t5: T5Params = T5Params()
