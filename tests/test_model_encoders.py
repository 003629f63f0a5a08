"""CLIP and DINOv2 at toy size, with random weights, against open_clip and transformers."""

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, resize_pos_embed
from safetensors.torch import save_file
from tiny_models import CPU, ONE, photos

from tmuad import masks, weights
from tmuad.config_models import ClipEncoderParams, ComputeParams, DinoEncoderParams
from tmuad.describe.crops import crops_of
from tmuad.encode import clip as clip_module
from tmuad.encode.clip import ClipEncoder, as_input, build_clip, clip_config, clip_fingerprint, standardised
from tmuad.encode.dinov2 import MEAN, STD, DinoEncoder, build_dino
from tmuad.errors import ParameterError, WeightsError
from tmuad.models.meta import parameters
from tmuad.models.runtime import free_models

CLIP_PARAMS = ClipEncoderParams(model="tiny", weights="random:1", layers=(3, 1), size=64, crop_size=32)
DINO_PARAMS = DinoEncoderParams(model="tiny", weights="random:2", layers=(2, 4), size=64, crop_size=32)


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return ClipEncoder(CLIP_PARAMS, CPU)


@pytest.fixture(scope="module")
def dino() -> DinoEncoder:
    return DinoEncoder(DINO_PARAMS, CPU)


def discs(side: int = 64) -> list[masks.Runs]:
    rows, columns = np.mgrid[:side, :side]
    return [masks.encode(np.hypot(rows - y, columns - x) < r) for x, y, r in ((20, 20, 9), (45, 40, 6), (32, 32, 20))]


def test_clip_tokens_at_another_size_are_open_clips(clip: ClipEncoder) -> None:
    config = clip_config("tiny")
    larger = CLIP(**{**config, "vision_cfg": {**config["vision_cfg"], "image_size": 64}}).eval()
    state = build_clip("tiny", "random:1").state_dict()
    resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    with torch.no_grad():
        out = larger.visual.forward_intermediates(as_input(photos(3), 64), indices=[0, 2], output_fmt="NCHW")
    for i, features in enumerate(clip.encode_patches(photos(3))):
        for name, layer in zip(("clip-1", "clip-3"), out["image_intermediates"], strict=True):
            expected = layer[i].permute(1, 2, 0).numpy()
            assert features[name].dtype == np.float16 and features[name].shape == (8, 8, 64)
            assert np.allclose(features[name], expected, atol=2e-3 * np.abs(expected).max())


def test_pooled_crops_are_open_clips(clip: ClipEncoder) -> None:
    crops = np.stack([image[:32, :32] for image in photos(4)])
    with torch.no_grad():
        expected = build_clip("tiny", "random:1").eval().encode_image(as_input(list(crops), 32)).numpy()
    assert np.allclose(clip.encode_crops(crops), expected, atol=1e-5)


def test_objects_are_the_pooled_crops_of_their_masks_on_black(clip: ClipEncoder) -> None:
    images, segments = photos(3), [discs(), [], discs()[:1]]
    found = clip.encode_objects(images, segments)
    assert [f.shape for f in found] == [(3, 32), (0, 32), (1, 32)]
    crops = crops_of(images[0], [masks.decode(r, (64, 64)) for r in segments[0]], 32, (0, 0, 0))
    assert np.allclose(found[0], clip.encode_crops(crops), atol=1e-5)
    assert not np.allclose(found[0][0], found[2][0])


def test_dinos_objects_are_the_class_tokens_of_their_masks_on_black(dino: DinoEncoder) -> None:
    shots = photos(3)
    segments = [discs(), [], discs()[:1]]
    found = dino.encode_objects(shots, segments)
    assert [f.shape for f in found] == [(3, 48), (0, 48), (1, 48)]
    model = build_dino("tiny", "random:2").eval()
    for image, runs, features in zip(shots, segments, found, strict=True):
        if runs:
            crops = crops_of(image, (masks.decode(r, (64, 64)) for r in runs), 32, (0, 0, 0))
            with torch.no_grad():
                state = model(standardised(list(crops), 32, MEAN, STD)).last_hidden_state[:, 0]
            assert np.allclose(features, state.numpy(), atol=1e-5)
    assert dino.encode_objects([], []) == [] and dino.encode_objects(shots[:1], [[]])[0].shape == (0, 48)
    with pytest.raises(ParameterError, match=r"encode\.dinov2\.crop_size: 30 is no multiple"):
        DinoEncoder(DINO_PARAMS.model_copy(update={"crop_size": 30}), CPU)


def test_dino_layers_are_the_hidden_states(dino: DinoEncoder) -> None:
    with torch.no_grad():
        states = dino.model(standardised(photos(3), 64, MEAN, STD), output_hidden_states=True).hidden_states
    for i, features in enumerate(dino.encode_patches(photos(3))):
        for layer in (2, 4):
            expected = states[layer][i, 1:].reshape(8, 8, -1).numpy()
            assert np.allclose(features[f"dinov2-{layer}"], expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["clip", "dinov2"])
def test_a_batch_is_each_image_by_itself(name: str) -> None:
    def encode(compute: ComputeParams) -> list[dict[str, np.ndarray]]:
        encoder = ClipEncoder(CLIP_PARAMS, compute) if name == "clip" else DinoEncoder(DINO_PARAMS, compute)
        return encoder.encode_patches(photos(5))

    for a, b in zip(encode(CPU), encode(ONE), strict=True):
        for layer in a:
            assert np.allclose(a[layer], b[layer], atol=4e-3 * np.abs(a[layer]).max())


def test_half_precision_comes_close(clip: ClipEncoder) -> None:
    half = ClipEncoder(CLIP_PARAMS, ComputeParams(device="cpu", precision="bf16"))
    crops = np.stack([image[:32, :32] for image in photos(4)])
    full, rough = clip.encode_crops(crops), half.encode_crops(crops)
    cosine = (full * rough).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.999).all() and not np.array_equal(full, rough)


def test_layers_and_sizes_that_the_model_has_not() -> None:
    with pytest.raises(ParameterError, match=r"encode.clip.layers: \[5\]; this model has the blocks 1 to 4"):
        ClipEncoder(CLIP_PARAMS.model_copy(update={"layers": (5,)}), CPU)
    with pytest.raises(ParameterError, match=r"encode.dinov2.layers: \[1, 1\]"):
        DinoEncoder(DINO_PARAMS.model_copy(update={"layers": (1, 1)}), CPU)
    with pytest.raises(ParameterError, match=r"encode.dinov2.size: 60 is no multiple.*take 56"):
        DinoEncoder(DINO_PARAMS.model_copy(update={"size": 60}), CPU)
    with pytest.raises(ParameterError, match="CLIP model 'ViT-Z'"):
        clip_config("ViT-Z")


def test_weights_from_a_file_and_those_of_another_model(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights/net").mkdir(parents=True)
    state = {n: v.contiguous() for n, v in build_clip("tiny", "random:8").state_dict().items()}
    path = tmp_path / "weights/net/net.safetensors"
    save_file(state, path)
    (tmp_path / "weights.yaml").write_text(
        "weights: {net: {source: s, url: u, revision: r, licence: l, files: "
        f"[{{file: net.safetensors, bytes: {path.stat().st_size}}}]}}}}"
    )
    loaded = build_clip("tiny", "net", CPU)
    assert torch.equal(loaded.visual.conv1.weight, state["visual.conv1.weight"])
    params = CLIP_PARAMS.model_copy(update={"weights": "net"})
    before = clip_fingerprint(params, CPU)
    with pytest.raises(WeightsError, match="another architecture than Dinov2Model"):
        build_dino("tiny", "net", CPU)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert clip_fingerprint(params, CPU) != before  # the weights are part of every cache key
    assert weights.digest("net", CPU) not in before


def test_one_loaded_tower_serves_patches_and_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    free_models()
    built: list[str] = []
    original = clip_module.build_clip
    monkeypatch.setattr(clip_module, "build_clip", lambda *a, **k: built.append("clip") or original(*a, **k))
    ClipEncoder(CLIP_PARAMS, CPU)
    ClipEncoder(CLIP_PARAMS, CPU)
    assert built == ["clip"]
    free_models()


def test_published_models_have_their_published_sizes() -> None:
    assert parameters(lambda: build_clip("ViT-L-14-quickgelu")) == 427_616_513
    assert parameters(lambda: build_dino("giant")) == 1_136_480_768
    assert parameters(lambda: build_dino("small")) == 22_056_576
