"""Where models run, which precision they have, how many items they take at once, and which of them are loaded."""

import contextlib
import gc
import logging
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tmuad.config_models import ComputeParams
from tmuad.errors import DeviceError, ParameterError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_loaded: dict[Hashable, Any] = {}
_fitting: dict[str, int] = {}  # what ran out of memory before, and the batch that it went on with


def device_of(compute: ComputeParams) -> "torch.device":
    """The device that `compute.device` names.

    Raises:
        ParameterError: there is no such device.
    """
    import torch

    if compute.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(compute.device)
    except RuntimeError:
        raise ParameterError(f"compute.device: {compute.device!r} is no device; give auto, cpu or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ParameterError(f"compute.device: {compute.device!r}, but this machine has {count} GPUs; give auto or cpu")
    return device


def dtype_of(compute: ComputeParams) -> "torch.dtype":
    """The precision of the large matrix products."""
    import torch

    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if compute.precision != "auto":
        return named[compute.precision]
    if device_of(compute).type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def precision_of(compute: ComputeParams) -> str:
    """`dtype_of` as part of a cache key: results of two precisions differ."""
    return str(dtype_of(compute)).removeprefix("torch.")


def use_threads(compute: ComputeParams) -> None:
    """Let a model on a CPU have the cores it may; the command line starts with one, for the stages' own processes."""
    import torch

    if device_of(compute).type == "cpu":
        torch.set_num_threads(compute.threads or os.cpu_count() or 1)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Deprecations inside a library that is pinned are nothing its user could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def inference(compute: ComputeParams) -> Iterator[None]:
    """No gradients, matrix products in the chosen precision, errors of the device as ours."""
    import torch

    use_threads(compute)
    device, dtype = device_of(compute), dtype_of(compute)
    mixed = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.inference_mode(), mixed, device_errors():
        yield


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """A GPU that fails under us, as an error that says what is kept. Running out of memory is not such a failure.

    Raises:
        DeviceError: the driver reported that the device is lost or has failed.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error) or not _is_device_failure(error):
            raise
        first = str(error).splitlines()[0]
        raise DeviceError(
            f"the GPU failed ({first}); results so far are kept: run again, or set compute.device to cpu"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def _is_device_failure(error: RuntimeError) -> bool:
    text = str(error)
    return any(sign in text for sign in ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NVIDIA driver", "ECC"))


def in_batches(run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], size: int, what: str) -> list[R]:
    """`run` over `items` in batches of `size`, in order. Out of memory: half the batch, from there on and in later calls
    for the same `what`.

    Raises:
        DeviceError: memory does not suffice for a single item.
    """
    results: list[R] = []
    start, size = 0, min(size, _fitting.get(what, size))
    while start < len(items):
        batch = items[start : start + size]
        try:
            results += run(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise DeviceError(
                    f"{what}: not enough memory for one image ({_memory()}); set compute.precision to bf16, take a "
                    "smaller model (profile edge), or a larger GPU"
                ) from error
            failed, size = len(batch), len(batch) // 2
            _fitting[what] = size
        else:
            start += len(batch)
            continue
        # Outside of the handler: the exception holds the frames that hold the tensors.
        release_memory()
        log.warning("%s: out of memory with %d at once; going on with %d", what, failed, size)
    return results


def loaded(key: Hashable, build: Callable[[], T]) -> T:
    """The model of `key`, built at the first call in this process."""
    if key not in _loaded:
        _loaded[key] = build()
    model: T = _loaded[key]
    return model


def free_models() -> None:
    """Forget all loaded models and give their memory back."""
    _loaded.clear()
    _fitting.clear()
    gc.collect()  # a model and its patched methods refer to one another
    release_memory()


def release_memory() -> None:
    """Give what a GPU's allocator holds back to it; on a CPU memory comes back by itself."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        with contextlib.suppress(RuntimeError):  # the device may be what has failed
            torch.cuda.empty_cache()


def _memory() -> str:
    import torch

    if not torch.cuda.is_available():
        return "on the CPU"
    with contextlib.suppress(RuntimeError):
        free, total = torch.cuda.mem_get_info()
        return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return "on the GPU"
