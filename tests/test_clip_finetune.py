"""Fine-tuning of CLIP at toy size: it learns, always the same, goes on after a kill, and is shared between units."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_models import CPU

from tmuad.config_models import ClipFinetuneParams, ComputeParams
from tmuad.describe import clip_classifier, clip_finetune
from tmuad.describe.clip_finetune import TunedClip, finetune_clip, sample
from tmuad.describe.slots import load_classifier
from tmuad.encode.clip import build_clip
from tmuad.errors import ArtifactError, DeviceError, ParameterError, WeightsError

ROOT = Path(__file__).parent.parent
COLOURS = {"red disc": (200, 40, 40), "blue bar": (40, 60, 200), "green ring": (40, 180, 60)}
PARAMS = ClipFinetuneParams(
    model="tiny", weights="random:0", crop_size=32, epochs=5, patience=5, batch_size=12, learning_rate=1e-3, warm_up=2
)
Crops = tuple[NDArray[np.uint8], list[str], list[str]]


def make_crops(per_class: int, seed: int = 0) -> Crops:
    rng = np.random.default_rng(seed)
    crops, labels, keys = [], [], []
    for name, colour in COLOURS.items():
        for i in range(per_class):
            image = np.zeros((32, 32, 3), np.uint8)
            image[8:24, 8:24] = np.clip(np.array(colour) + rng.normal(0, 25, (16, 16, 3)), 0, 255)
            crops.append(image)
            labels.append(name)
            keys.append(f"{name}/{seed}/{i}")
    return np.stack(crops), labels, keys


def train(folder: Path, crops: Crops | None = None, params: ClipFinetuneParams = PARAMS,
          classes: tuple[str, ...] = tuple(COLOURS), compute: ComputeParams = CPU) -> TunedClip:  # fmt: skip
    pixels, labels, keys = crops or make_crops(12)
    sampled = sample(labels, keys, classes, params.crops_per_class)
    return finetune_clip(pixels[sampled.chosen], sampled, sampled.digest(keys), params, compute, folder)


def saved(tuned: TunedClip, path: Path) -> Path:
    clip_classifier.save(tuned.spec, tuned.weights, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TunedClip, Path]:
    folder = tmp_path_factory.mktemp("clip")
    tuned = train(folder)
    return tuned, saved(tuned, folder / "classifier.safetensors")


def accuracy(path: Path, crops: Crops) -> float:
    labels, probabilities = load_classifier(path, CPU).classify(crops[0])
    assert ((probabilities > 0) & (probabilities <= 1)).all()
    return float(np.mean(np.array(labels) == np.array(crops[1])))


def test_it_beats_zero_shot_on_crops_it_has_not_seen(trained: tuple[TunedClip, Path], tmp_path: Path) -> None:
    tuned, path = trained
    fresh = make_crops(8, seed=1)
    zero_shot = saved(
        TunedClip(tuned.spec, dict(build_clip("tiny", "random:0").state_dict()), tuned.curve, None),
        tmp_path / "zero.safetensors",
    )
    assert accuracy(zero_shot, fresh) < 0.7
    assert accuracy(path, fresh) == 1.0
    assert tuned.held_out_accuracy == 1.0
    assert list(tuned.curve.columns) == ["epoch", "loss", "held_out_loss", "held_out_accuracy"]
    assert tuned.curve["loss"].iloc[-1] < 0.3 * tuned.curve["loss"].iloc[0]


def test_the_same_crops_in_any_order_give_the_same_weights(trained: tuple[TunedClip, Path], tmp_path: Path) -> None:
    pixels, labels, keys = make_crops(12)
    order = np.random.default_rng(3).permutation(len(keys))
    again = train(tmp_path, (pixels[order], [labels[i] for i in order], [keys[i] for i in order]))
    assert all(torch.equal(again.weights[n], v) for n, v in trained[0].weights.items())
    assert saved(again, tmp_path / "again.safetensors").read_bytes() == trained[1].read_bytes()
    other = train(tmp_path, params=PARAMS.model_copy(update={"seed": 1, "epochs": 1}))
    assert not torch.equal(other.weights["visual.proj"], trained[0].weights["visual.proj"])


KILLED = """
import os, sys
from pathlib import Path
from tmuad.describe import clip_finetune
save = clip_finetune._Trainer._save
def save_and_die(self, checkpoint):
    save(self, checkpoint)
    if self.progress.epoch == 2:
        os._exit(9)
clip_finetune._Trainer._save = save_and_die
from test_clip_finetune import train
train(Path(sys.argv[1]))
"""


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    trained: tuple[TunedClip, Path], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, timeout=120, check=False)
    assert process.returncode == 9
    (checkpoint,) = tmp_path.glob("*.safetensors")
    again = train(tmp_path)
    assert all(torch.equal(again.weights[n], v) for n, v in trained[0].weights.items())
    assert again.curve.equals(trained[0].curve)
    assert not checkpoint.exists()


def test_after_a_kill_only_the_rest_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    epochs = count_epochs(monkeypatch)
    train(tmp_path)
    assert epochs == [3, 4, 5]
    epochs.clear()
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    (checkpoint,) = tmp_path.glob("*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])  # a broken one is not trusted
    monkeypatch.undo()
    epochs = count_epochs(monkeypatch)
    train(tmp_path)
    assert epochs == [1, 2, 3, 4, 5]


def stop_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    original: Callable[..., None] = clip_finetune._Trainer._save

    def save(self: clip_finetune._Trainer, checkpoint: Path) -> None:
        original(self, checkpoint)
        if self.progress.epoch == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(clip_finetune._Trainer, "_save", save)


def count_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    epochs: list[int] = []
    original: Callable[..., None] = clip_finetune._Trainer._epoch

    def epoch(self: clip_finetune._Trainer) -> None:
        original(self)
        epochs.append(self.progress.epoch)

    monkeypatch.setattr(clip_finetune._Trainer, "_epoch", epoch)
    return epochs


def test_it_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    wild = PARAMS.model_copy(update={"learning_rate": 3e-2, "patience": 1, "epochs": 30})
    tuned = train(tmp_path, params=wild)
    assert len(tuned.curve) < 30
    best = tuned.curve["held_out_loss"].idxmin()
    assert tuned.held_out_accuracy == tuned.curve["held_out_accuracy"][best]
    assert best == len(tuned.curve) - 2


def test_mixed_precision_learns_too(tmp_path: Path) -> None:
    tuned = train(tmp_path, compute=ComputeParams(device="cpu", precision="bf16"))
    assert tuned.held_out_accuracy == 1.0
    assert all(v.dtype == torch.float32 for v in tuned.weights.values() if v.is_floating_point())


def test_a_class_without_crops_is_told_by_its_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuned = train(tmp_path, classes=(*COLOURS, "ghost"), params=PARAMS.model_copy(update={"epochs": 2}))
    assert "no object of the class 'ghost' was found" in caplog.text
    assert load_classifier(saved(tuned, tmp_path / "c.safetensors"), CPU).classes[-1] == "ghost"  # type: ignore[attr-defined]


@pytest.mark.parametrize("per_class", [0, 3])
def test_with_one_class_or_no_crop_the_pretrained_weights_stay(tmp_path: Path, per_class: int) -> None:
    pixels, labels, keys = make_crops(3)
    mine = [i for i, label in enumerate(labels) if label == "red disc"][:per_class]
    crops = (pixels[mine], [labels[i] for i in mine], [keys[i] for i in mine])
    tuned = train(tmp_path, crops, classes=("red disc",))
    assert torch.equal(tuned.weights["visual.proj"], build_clip("tiny", "random:0").visual.proj)
    labels_found, _ = load_classifier(saved(tuned, tmp_path / "c.safetensors"), CPU).classify(pixels)
    assert set(labels_found) == {"red disc"}


def test_no_class_at_all(tmp_path: Path) -> None:
    tuned = train(tmp_path, (np.zeros((0, 32, 32, 3), np.uint8), [], []), classes=())
    labels, probabilities = load_classifier(saved(tuned, tmp_path / "c.safetensors"), CPU).classify(make_crops(1)[0])
    assert labels == [""] * 3 and not probabilities.any()


def test_a_diverging_training_and_a_batch_too_large_say_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParameterError, match=r"finetune.learning_rate: diverged in epoch \d+ at 1e\+18; lower it"):
        train(tmp_path, params=PARAMS.model_copy(update={"learning_rate": 1e18}))

    def full(self: object, batch: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(clip_finetune._Trainer, "_step", full)
    with pytest.raises(DeviceError, match=r"finetune.batch_size: 12 crops of 32 px do not fit"):
        train(tmp_path)


@pytest.mark.parametrize("names", [("screw", ""), ("screw", "\u200b \t")])
def test_a_name_that_tokenises_to_nothing(names: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError, match="has no readable name"):
        clip_classifier.prompt_tokens(names)
    with pytest.raises(ParameterError, match="'Screw' and 'screw' have the same prompt"):
        clip_classifier.prompt_tokens(["Screw", "screw"])


def test_crops_of_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"finetune\.crop_size: 64, but tiny was trained on 32 px"):
        train(tmp_path, params=PARAMS.model_copy(update={"crop_size": 64}))


# ---- files


def test_files_that_are_no_classifier(trained: tuple[TunedClip, Path], tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(ArtifactError, match=r"c.safetensors: no such (classifier|file)"):
        load_classifier(path, CPU)
    path.write_bytes(trained[1].read_bytes()[:5000])
    with pytest.raises(ArtifactError, match=r"c\.safetensors"):
        load_classifier(path, CPU)
    clip_classifier.save({**trained[0].spec, "model": "ViT-B-16"}, trained[0].weights, path)
    with pytest.raises(WeightsError, match="another architecture"):
        load_classifier(path, CPU)
    with pytest.raises(ValueError, match="expected uint8"):
        load_classifier(trained[1], CPU).classify(np.zeros((1, 16, 16, 3), np.uint8))


def test_units_share_a_model_and_know_their_own_classes(trained: tuple[TunedClip, Path], tmp_path: Path) -> None:
    shared, mine = saved(trained[0], tmp_path / "all.safetensors"), tmp_path / "mine.safetensors"
    clip_classifier.save_reference(["red disc", "blue bar"], shared, mine)
    assert mine.stat().st_size < 2000
    pixels, labels, _ = make_crops(4, seed=5)
    found, _ = load_classifier(mine, CPU).classify(pixels)
    known = [i for i, label in enumerate(labels) if label != "green ring"]
    assert [found[i] for i in known] == [labels[i] for i in known]
    assert set(found) <= {"red disc", "blue bar"}
    with pytest.raises(ArtifactError, match=r"does not know lens; train it again"):
        clip_classifier.save_reference(["lens"], shared, mine)
    clip_classifier.save({**trained[0].spec, "pretrained": "another"}, trained[0].weights, shared)
    with pytest.raises(ArtifactError, match=r"not the model that .* refers to"):
        load_classifier(mine, CPU)
    shared.unlink()
    with pytest.raises(ArtifactError, match=r"all\.safetensors"):
        load_classifier(mine, CPU)


# ---- sampling


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60), st.integers(1, 12), st.randoms())
def test_a_sample_is_the_same_in_any_order(labels: list[str], limit: int, random: object) -> None:
    keys = [f"{label}:{i}" for i, label in enumerate(labels)]
    one = sample(labels, keys, ["a", "b", "c"], limit)
    order = list(range(len(keys)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = sample([labels[i] for i in order], [keys[i] for i in order], ["a", "b", "c"], limit)
    assert [keys[i] for i in one.chosen] == [keys[order[i]] for i in other.chosen]
    assert (one.held_out == other.held_out).all() and (one.targets == other.targets).all()
    counts = np.bincount(one.targets, minlength=3) if len(one.targets) else np.zeros(3)
    assert [min(limit, labels.count(name)) for name in "abc"] == counts.tolist()
    for c in set(one.targets.tolist()):
        assert not one.held_out[one.targets == c].all()  # something is left to train on


def test_one_more_crop_changes_neither_the_sample_nor_what_is_held_out() -> None:
    labels, keys = ["a"] * 40, [f"k{i}" for i in range(40)]
    before = sample(labels, keys, ["a"], 20)
    after = sample([*labels, "a"], [*keys, "new"], ["a"], 20)
    held = {keys[i] for i, out in zip(before.chosen, before.held_out, strict=True) if out}
    names = [*keys, "new"]
    held_after = {names[i] for i, out in zip(after.chosen, after.held_out, strict=True) if out}
    assert len({keys[i] for i in before.chosen} ^ {names[i] for i in after.chosen}) <= 2
    assert len(held ^ held_after) <= 2
