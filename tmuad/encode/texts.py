"""Text encoders: a text becomes one vector (Table VI, rows 1 to 4). CLIP's text tower, and the encoder of T5.

CLIP's vector is that of its end token, as it was trained. T5 was trained for no such vector; the paper does not say which it
takes, and here it is the mean over the text's tokens.
"""

import hashlib
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tmuad import weights
from tmuad.cache import Cache, fingerprint
from tmuad.config_models import ClipEncoderParams, ComputeParams, T5Params
from tmuad.encode.clip import build_clip, clip_config
from tmuad.errors import WeightsError
from tmuad.models.runtime import device_of, in_batches, inference, loaded, precision_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Vectors = NDArray[np.float32]  # (n, D), one row per text
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  # T5's first tokens, 0 to 2
PRESETS: dict[str, dict[str, Any]] = {
    "t5-large": {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16, "vocab_size": 32128},
    "tiny": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 259},
}


class TextEncoder(Protocol):
    """What gives a text a vector."""

    name: str

    def fingerprint(self) -> str:
        """Digest of everything but the text that the vector depends on. No model is loaded for it."""
        ...

    def encode(self, texts: Sequence[str], batch: int) -> Vectors:
        """Vectors (n, D) of `texts`, `batch` of them in one forward; what is too long is cut, and said so."""
        ...


class ClipText:
    """The text tower of open_clip's model."""

    name = "clip"

    def __init__(self, params: ClipEncoderParams, compute: ComputeParams) -> None:
        self.params, self.compute = params, compute

    def fingerprint(self) -> str:
        digest = weights.digest(self.params.weights, self.compute)
        return fingerprint(sys.modules[__name__], self.params.model, digest, precision_of(self.compute))

    def encode(self, texts: Sequence[str], batch: int) -> Vectors:
        """See `TextEncoder`."""
        from open_clip.tokenizer import SimpleTokenizer

        limit = int(clip_config(self.params.model)["text_cfg"]["context_length"])
        tokenizer = SimpleTokenizer(context_length=limit)
        _warn_of_long("CLIP", [len(tokenizer.encode(text)) + 2 for text in texts], limit)  # with start and end
        model = load_clip_text(self.params, self.compute)

        def run(some: Sequence[str]) -> list[NDArray[np.float32]]:
            with inference(self.compute):
                return list(model.encode_text(tokenizer(list(some)).to(device_of(self.compute))).float().cpu().numpy())

        return np.stack(in_batches(run, list(texts), batch, "CLIP texts"))


class T5Text:
    """The encoder of transformers' T5."""

    name = "t5"

    def __init__(self, params: T5Params, compute: ComputeParams) -> None:
        self.params, self.compute = params, compute

    def fingerprint(self) -> str:
        digest = weights.digest(self.params.weights, self.compute)
        return fingerprint(sys.modules[__name__], self.params, digest, precision_of(self.compute))

    def encode(self, texts: Sequence[str], batch: int) -> Vectors:
        """See `TextEncoder`."""
        import torch

        tokenizer, device = t5_tokenizer(self.params, self.compute), device_of(self.compute)
        ids = [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]
        limit = self.params.max_tokens
        _warn_of_long("T5", [len(row) for row in ids], limit)
        rows = [
            torch.tensor(row if len(row) <= limit else [*row[: limit - 1], row[-1]]) for row in ids
        ]  # the end stays
        model = load_t5(self.params, self.compute)

        def run(some: "Sequence[torch.Tensor]") -> list[NDArray[np.float32]]:
            tokens = torch.nn.utils.rnn.pad_sequence(list(some), batch_first=True).to(device)  # the pad token is 0
            seen = torch.arange(tokens.shape[1], device=device) < torch.tensor([[len(r)] for r in some], device=device)
            with inference(self.compute):
                states = model(input_ids=tokens, attention_mask=seen.long()).last_hidden_state.float()
                mean = (states * seen[..., None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
            return list(mean.cpu().numpy())

        return np.stack(in_batches(run, rows, batch, "T5 texts"))


def text_vectors(texts: Sequence[str], encoder: TextEncoder, cache: Cache, batch: int) -> Vectors:
    """The vector of each text (n, D), n > 0; one that was encoded before, for whatever image, comes from `cache`."""
    kind = f"text:{encoder.fingerprint()}"
    keys = {text: hashlib.sha256(text.encode()).hexdigest() for text in texts}
    known: dict[str, NDArray[np.float32]] = {}
    for text, key in keys.items():
        if (record := cache.get(key, kind)) is not None:
            known[text] = record["vector"]
    missing = sorted(set(keys) - set(known), key=lambda text: (len(text), text))  # alike in length: little padding
    if missing:
        for text, vector in zip(missing, encoder.encode(missing, batch), strict=True):
            known[text] = vector
            cache.put(keys[text], kind, {"vector": vector})
    return np.stack([known[text] for text in texts])


def load_clip_text(params: ClipEncoderParams, compute: ComputeParams) -> Any:
    """CLIP on its device without its image tower, loaded once per process."""

    def build() -> Any:
        model = build_clip(params.model, params.weights, compute)
        del model.visual
        return model.to(device_of(compute)).eval()

    return loaded(("clip text", params.model, params.weights, compute.device), build)


def load_t5(params: T5Params, compute: ComputeParams) -> Any:
    """The encoder on its device, loaded once per process."""
    key = ("t5", params.model, params.weights, compute.device)
    return loaded(key, lambda: build_t5(params.model, params.weights, compute).to(device_of(compute)).eval())


def build_t5(model: str, weights_name: str = "", compute: ComputeParams | None = None) -> Any:
    """A `T5EncoderModel` on the CPU; without a weight name its tensors are whatever torch made them (or meta)."""
    import torch
    from transformers import T5Config, T5EncoderModel

    seed = weights.random_seed(weights_name)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        t5 = T5EncoderModel(T5Config(**PRESETS[model], dropout_rate=0.0))
    if weights_name and seed is None:
        path = weights.paths(weights_name, compute or ComputeParams())[0]
        state = weights.read_state(path)
        weights.load_into(
            t5, state, path, ignored=("decoder.", "lm_head.", "encoder.embed_tokens.")
        )  # that is `shared`
    return t5


def t5_tokenizer(params: T5Params, compute: ComputeParams) -> Any:
    """The tokenizer that lies beside the weights; for weights drawn from a seed, one whose tokens are bytes.

    Raises:
        WeightsError: its file is missing or none.
    """
    if weights.random_seed(params.weights) is not None:
        return byte_tokenizer()
    from tokenizers import Tokenizer

    path = next(path for path in weights.paths(params.weights, compute) if path.name == "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: no usable tokenizer ({reason}); run `tmuad weights verify`") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def byte_tokenizer() -> Any:
    """Bytes as tokens, after T5's own three."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((PAD, END, UNKNOWN, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return tokenizer


def _warn_of_long(name: str, lengths: Sequence[int], limit: int) -> None:
    if long := sum(length > limit for length in lengths):
        log.warning(
            "%s: %d of %d texts have more than %d tokens; the rest is not read", name, long, len(lengths), limit
        )
