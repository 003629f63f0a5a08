"""The small CLIP in numpy against open_clip's, on the same weights."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.describe.classifier import as_input, build_model, model_spec
from tmuad.describe.small_clip import SmallClip


def trained(classes: list[str], size: int, seed: int) -> tuple[dict[str, Any], Any, dict[str, NDArray[np.generic]]]:
    """Specification, open_clip's model and its weights, with normalisations as training leaves them: all different."""
    spec = model_spec(classes, size)
    torch.manual_seed(seed)
    model = build_model(spec).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return spec, model, {name: value.numpy() for name, value in model.state_dict().items()}


def crops(count: int, size: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([32, 64, 96]), count=st.integers(1, 5))
def test_both_towers_say_what_open_clip_says(seed: int, size: int, count: int) -> None:
    spec, model, weights = trained(["screw", "a long flat nut", "class-3"], size, seed)
    mine, shown = SmallClip(spec["config"], weights), crops(count, size, seed)
    with torch.inference_mode():
        images = model.encode_image(as_input(shown), normalize=True).numpy()
        prompts = model.encode_text(torch.tensor(spec["tokens"]), normalize=True).numpy()
    np.testing.assert_allclose(mine.encode_image(shown.astype(np.float32) / 127.5 - 1), images, atol=1e-5)
    np.testing.assert_allclose(mine.encode_text(spec["tokens"]), prompts, atol=1e-5)
    assert mine.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_a_crop_is_judged_by_itself() -> None:
    spec, _, weights = trained(["a", "b"], 32, 0)
    mine, shown = SmallClip(spec["config"], weights), crops(7, 32, 1).astype(np.float32) / 127.5 - 1
    alone = np.concatenate([mine.encode_image(one[None]) for one in shown])
    np.testing.assert_allclose(mine.encode_image(shown), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("visual.layer2.0.conv2.weight", None, "there is no visual.layer2.0.conv2.weight"),
        ("visual.bn1.bias", np.zeros(3, np.float32), r"visual.bn1.bias has the shape \(3,\), expected \(4,\)"),
        ("visual.attnpool.positional_embedding", np.zeros((5, 256), np.float32), "positional_embedding has the shape"),
        ("token_embedding.weight", np.zeros((2, 64), np.float32), "token_embedding.weight has 2 rows"),
    ],
)
def test_weights_that_do_not_fit_are_named(name: str, value: NDArray[np.float32] | None, message: str) -> None:
    spec, _, weights = trained(["a", "b"], 32, 0)
    wrong = {key: array for key, array in weights.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(ValueError, match=message):
        mine = SmallClip(spec["config"], wrong)
        mine.encode_text(spec["tokens"])
        mine.encode_image(np.zeros((1, 32, 32, 3), np.float32))


def test_another_number_of_stages_is_refused() -> None:
    spec, _, weights = trained(["a", "b"], 32, 0)
    vision = spec["config"]["vision_cfg"] | {"layers": [1, 1]}
    with pytest.raises(ValueError, match="2 stages, expected 4"):
        SmallClip(spec["config"] | {"vision_cfg": vision}, weights)


def test_whoever_asks_needs_no_torch() -> None:
    code = "import sys, tmuad.inspector, tmuad.describe.slots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
