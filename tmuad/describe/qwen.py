"""Qwen2-VL and Qwen2.5-VL: questions about images, many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tmuad import weights
from tmuad.config_models import ComputeParams, VlmParams
from tmuad.errors import WeightsError
from tmuad.models.runtime import device_of, dtype_of, in_batches, inference, loaded

if TYPE_CHECKING:
    import torch

NEWER = ("qwen2.5-vl-7b", "tiny-2.5")
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Question:
    image: NDArray[np.uint8]  # (S, S, 3)
    text: str


class Qwen:
    """A vision language model on its device, with its processor."""

    def __init__(self, params: VlmParams, compute: ComputeParams) -> None:
        self.params, self.compute = params, compute
        self.processor = build_processor(params, compute)
        self.model = build_qwen(params, compute).to(device_of(compute)).eval()

    def ask(self, questions: Sequence[Question], max_tokens: int | None = None) -> list[str]:
        """The answer to each question, decoded greedily: the same question always gets the same answer.

        `max_tokens`: of the longest answer, where it is not that of the parameters.
        """
        limit = max_tokens or self.params.max_tokens
        return in_batches(
            lambda some: self._ask(some, limit), list(questions), self.params.batch, "vision language model"
        )

    def _ask(self, questions: Sequence[Question], max_tokens: int) -> list[str]:
        from PIL import Image

        chats = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": q.text}]}] for q in questions
        ]
        texts = [self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
        images = [Image.fromarray(q.image) for q in questions]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt").to(
            device_of(self.compute)
        )
        with inference(self.compute):
            tokens: torch.Tensor = self.model.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=max_tokens, temperature=None, top_p=None,
                top_k=None, repetition_penalty=1.0,
            )  # fmt: skip
        new = tokens[:, inputs["input_ids"].shape[1] :]
        answers: list[str] = self.processor.batch_decode(new, skip_special_tokens=True)
        return answers


def load_qwen(params: VlmParams, compute: ComputeParams) -> Qwen:
    """The model of these settings, loaded once per process."""
    key = ("qwen", params.model, params.weights, params.max_tokens, params.batch, compute.device, compute.precision)
    return loaded(key, lambda: Qwen(params, compute))


def build_processor(params: VlmParams, compute: ComputeParams) -> Any:
    """Tokenizer and image preparation, padded on the left, where generation needs it."""
    if weights.random_seed(params.weights) is not None:
        return plain_processor()
    from transformers import AutoProcessor

    folder = _folder(params, compute)
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, use_fast=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{folder}: no usable processor ({' '.join(str(error).split())[:200]})") from None
    processor.tokenizer.padding_side = "left"
    return processor


def build_qwen(params: VlmParams, compute: ComputeParams | None = None, empty: bool = False) -> Any:
    """The model; `empty` leaves its tensors as torch made them and needs no file (meta device)."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration

    cls = Qwen2_5_VLForConditionalGeneration if params.model in NEWER else Qwen2VLForConditionalGeneration
    seed = None if empty else weights.random_seed(params.weights)
    if empty or seed is not None:
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return cls(config_of(params.model))
    compute = compute or ComputeParams()
    folder = _folder(params, compute)
    try:
        return cls.from_pretrained(
            folder, local_files_only=True, dtype=dtype_of(compute), attn_implementation="sdpa", use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{folder}: not the weights of {params.model} ({reason}); run `tmuad weights verify`"
        ) from None


def config_of(model: str) -> Any:
    """The published configuration of `model`, or a small one."""
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig

    tokens = {name: i for i, name in enumerate(SPECIAL, 151643)}
    if model.startswith("tiny"):
        vocabulary = plain_processor().tokenizer.get_vocab()
        tokens = {name: vocabulary[name] for name in SPECIAL}
        text: dict[str, Any] = {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": len(vocabulary), "max_window_layers": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        }  # fmt: skip
        vision: dict[str, Any] = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14}
        if model in NEWER:  # one block attends within windows, the other everywhere
            vision = {
                "depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 48,
                "window_size": 56, "fullatt_block_indexes": [1],
            }  # fmt: skip
    else:
        text = {
            "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
            "num_key_value_heads": 4, "vocab_size": 152064, "max_window_layers": 28, "max_position_embeddings": 32768,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
        }  # fmt: skip
        vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "patch_size": 14}
        if model == "qwen2.5-vl-7b":
            vision = {
                "depth": 32,
                "hidden_size": 1280,
                "out_hidden_size": 3584,
                "num_heads": 16,
                "intermediate_size": 3420,
            }
    ids = {
        "vision_start_token_id": tokens["<|vision_start|>"], "vision_end_token_id": tokens["<|vision_end|>"],
        "image_token_id": tokens["<|image_pad|>"], "video_token_id": tokens["<|video_pad|>"],
    }  # fmt: skip
    ends = {
        "bos_token_id": tokens["<|endoftext|>"],
        "eos_token_id": tokens["<|im_end|>"],
        "pad_token_id": tokens["<|endoftext|>"],
    }
    cls = Qwen2_5_VLConfig if model in NEWER else Qwen2VLConfig
    config = cls(text_config=text | ends, vision_config=vision, tie_word_embeddings=False, **ids, **ends)
    config._attn_implementation = "sdpa"
    return config


def plain_processor() -> Any:
    """A processor whose tokens are bytes: for models without weights, whose words mean nothing."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen2VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )
    image = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    return Qwen2VLProcessor(image, fast, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)


def _folder(params: VlmParams, compute: ComputeParams) -> Path:
    return weights.paths(params.weights, compute)[0].parent
