"""The object classifier from crops to classes: it learns, always the same, and refuses what it cannot read."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tmuad.config import FinetuneParams
from tmuad.describe import finetune as finetuning
from tmuad.describe.classifier import ClipClassifier, build_model, model_spec
from tmuad.describe.crops import masked_crop
from tmuad.describe.finetune import Finetuned, contrastive_loss, finetune, save
from tmuad.errors import ArtifactError, ParameterError

SIDE = 96
KINDS = {"class-1": ("disk", 14), "class-2": ("disk", 22), "class-3": ("bar", 34)}  # shape, size in px
FAST = FinetuneParams(epochs=3)
Crops = tuple[NDArray[np.uint8], list[str], list[str]]


def make_crops(per_class: int | dict[str, int], seed: int = 0) -> Crops:
    """Grey parts, all of the same brightness: classes 1 and 2 differ in nothing but size."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    crops, labels, keys = [], [], []
    for label, (shape, nominal) in KINDS.items():
        for index in range(per_class if isinstance(per_class, int) else per_class.get(label, 0)):
            size, turn = nominal * rng.uniform(0.95, 1.05), rng.uniform(-0.4, 0.4)
            along, across = rows * np.sin(turn) + cols * np.cos(turn), rows * np.cos(turn) - cols * np.sin(turn)
            bar = (abs(along) < size / 2) & (abs(across) < size / 6)
            mask = np.hypot(rows, cols) < size / 2 if shape == "disk" else bar
            image = (128 + rng.normal(0, 20) + rng.normal(0, 12, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
            crops.append(masked_crop(image, mask, 32))
            labels.append(label)
            keys.append(f"{label}/{seed}/{index}")
    return np.stack(crops), labels, keys


def write(finetuned: Finetuned, path: Path) -> Path:
    save(finetuned, path)
    return path


def accuracy(classifier: ClipClassifier, crops: Crops) -> float:
    return float(np.mean(np.array(classifier.classify(crops[0])[0]) == np.array(crops[1])))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finetuned, Path]:
    result = finetune(*make_crops(20), FinetuneParams())
    return result, write(result, tmp_path_factory.mktemp("model") / "classifier.safetensors")


def test_learns_from_twenty_crops_what_the_untrained_model_does_not_know(trained: tuple[Finetuned, Path]) -> None:
    finetuned, path = trained
    torch.manual_seed(0)
    model = build_model(finetuned.spec)
    random = {name: value.numpy() for name, value in model.state_dict().items()}
    fresh = make_crops(30, seed=1)
    assert accuracy(ClipClassifier(finetuned.spec, random), fresh) < 0.6
    assert accuracy(ClipClassifier.load(path), fresh) >= 0.98
    assert accuracy(ClipClassifier.load(path), make_crops(20)) >= 0.98
    assert finetuned.held_out_accuracy is not None and finetuned.held_out_accuracy >= 0.9


def test_size_alone_tells_two_classes_apart(trained: tuple[Finetuned, Path]) -> None:
    disks = make_crops({"class-1": 30, "class-2": 30}, seed=2)
    assert accuracy(ClipClassifier.load(trained[1]), disks) >= 0.98


def test_curve_has_a_row_per_epoch_and_falls(trained: tuple[Finetuned, Path]) -> None:
    curve = trained[0].curve
    assert list(curve.columns) == ["epoch", "loss", "held_out_loss", "held_out_accuracy"]
    assert list(curve["epoch"]) == list(range(1, len(curve) + 1))
    assert len(curve) < FinetuneParams().epochs  # it stopped early
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0] / 4


def test_round_trip(trained: tuple[Finetuned, Path]) -> None:
    finetuned, path = trained
    crops = make_crops(7, seed=3)[0]
    labels, probabilities = ClipClassifier.load(path).classify(crops)
    in_memory = ClipClassifier(finetuned.spec, finetuned.weights)
    assert labels == in_memory.classify(crops)[0]
    assert np.array_equal(probabilities, in_memory.classify(crops)[1])
    assert probabilities.dtype == np.float32
    assert ((probabilities > 1 / 3) & (probabilities <= 1)).all()
    assert path.stat().st_size < 2_000_000
    assert ClipClassifier.load(path).fingerprint() == in_memory.fingerprint()


def test_a_batch_says_what_its_crops_say_one_by_one(trained: tuple[Finetuned, Path]) -> None:
    classifier, crops = ClipClassifier.load(trained[1]), make_crops(60, seed=4)[0]
    labels, probabilities = classifier.classify(crops)
    single = [classifier.classify(crops[i : i + 1]) for i in range(len(crops))]
    assert labels == [one[0][0] for one in single]
    np.testing.assert_allclose(probabilities, [one[1][0] for one in single], atol=1e-5)


SCRIPT = """
import sys
from pathlib import Path
from tests.test_finetune import FAST, finetune, make_crops, save
save(finetune(*make_crops(8), FAST), Path(sys.argv[1]))
"""


def test_two_processes_write_the_same_bytes_whatever_the_threads(tmp_path: Path) -> None:
    here = write(finetune(*make_crops(8), FAST), tmp_path / "here")
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "5", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "there")], env=environment, cwd=root, check=True)
    assert here.read_bytes() == (tmp_path / "there").read_bytes()


def test_order_of_the_crops_and_the_callers_torch_do_not_matter(tmp_path: Path) -> None:
    crops, labels, keys = make_crops(8)
    params = FAST.model_copy(update={"epochs": 1, "crops_per_class": 6})
    expected = write(finetune(crops, labels, keys, params), tmp_path / "a").read_bytes()
    order = np.random.default_rng(1).permutation(len(labels))
    torch.manual_seed(99)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    shuffled = finetune(crops[order], [labels[i] for i in order], [keys[i] for i in order], params)
    assert write(shuffled, tmp_path / "b").read_bytes() == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_one_more_crop_replaces_at_most_one_of_the_sampled_and_moves_none_between_training_and_held_out() -> None:
    crops, labels, keys = make_crops({"class-1": 40})

    def sample(count: int) -> tuple[set[bytes], set[bytes]]:
        split = finetuning._split(crops[:count], labels[:count], keys[:count], ["class-1"], 25)
        pixels = [image.numpy().tobytes() for image in split.images]
        assert len(split.train[0]) + len(split.held_out) == 25
        return {pixels[i] for i in split.train[0]}, {pixels[i] for i in split.held_out}

    for count in range(30, 40):
        (train, held_out), (more_train, more_held_out) = sample(count), sample(count + 1)
        assert len((train | held_out) - (more_train | more_held_out)) <= 1
        assert not train & more_held_out and not held_out & more_train


def test_a_class_with_a_single_crop_is_learnt(tmp_path: Path) -> None:
    few = make_crops({"class-1": 20, "class-2": 20, "class-3": 1})
    classifier = ClipClassifier.load(write(finetune(*few, FinetuneParams()), tmp_path / "model"))
    assert classifier.classify(few[0][-1:])[0] == ["class-3"]
    assert (
        accuracy(classifier, make_crops({"class-1": 30, "class-2": 30}, seed=5)) >= 0.95
    )  # and costs the others nothing


def test_one_crop_and_one_class(tmp_path: Path) -> None:
    only = finetune(*make_crops({"class-2": 1}), FinetuneParams())
    assert only.held_out_accuracy is None and len(only.curve) == 1
    classifier = ClipClassifier.load(write(only, tmp_path / "model"))
    labels, probabilities = classifier.classify(make_crops(2)[0])
    assert labels == ["class-2"] * 6 and (probabilities == 1).all()
    assert classifier.classify(np.zeros((0, 32, 32, 3), dtype=np.uint8)) == ([], pytest.approx(np.zeros(0)))


def test_no_crops_give_a_classifier_without_classes(tmp_path: Path) -> None:
    nothing = finetune(np.zeros((0, 32, 32, 3), dtype=np.uint8), [], [], FinetuneParams())
    classifier = ClipClassifier.load(write(nothing, tmp_path / "model"))
    labels, probabilities = classifier.classify(make_crops(1)[0])
    assert nothing.classes == [] and labels == ["", "", ""] and not probabilities.any()


def test_loss_with_repeated_captions_agrees_with_its_definition() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 0, 2, 0, 3, 2, 3])  # class 1 is not in the batch
    to_text = -logits.log_softmax(dim=1)[range(7), targets].mean()
    divergences = []
    for k in (0, 2, 3):
        p = (targets == k).float() / (targets == k).sum()
        q = logits[:, k].softmax(dim=0)
        divergences.append(sum(p[i] * (p[i] / q[i]).log() for i in range(7) if p[i] > 0))
    expected = float(to_text + sum(divergences) / 3) / 2
    assert contrastive_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)
    perfect = 100 * torch.nn.functional.one_hot(targets, 4).float()
    assert contrastive_loss(perfect, targets).item() == pytest.approx(0, abs=1e-5)


def test_prompts_of_the_classes_are_told_apart_by_the_tokens() -> None:
    names = [f"class-{index}" for index in range(1, 14)]
    spec = model_spec(names, 32)
    assert len({tuple(row) for row in spec["tokens"]}) == len(names)
    assert max(max(row) for row in spec["tokens"]) == spec["config"]["text_cfg"]["vocab_size"] - 1
    with pytest.raises(ParameterError, match="'Bolt' and 'bolt'"):
        model_spec(["Bolt", "bolt"], 32)
    with pytest.raises(ParameterError, match="' '"):
        model_spec([" "], 32)


def test_a_training_that_diverges_names_the_parameter() -> None:
    with pytest.raises(ParameterError, match=r"finetune\.learning_rate.*1e\+30"):
        finetune(*make_crops(4), FinetuneParams(learning_rate=1e30))


def test_crops_that_do_not_fit_are_refused(trained: tuple[Finetuned, Path]) -> None:
    crops, labels, keys = make_crops(2)
    with pytest.raises(ValueError, match="5 labels"):
        finetune(crops, labels[:5], keys, FAST)
    with pytest.raises(ValueError, match="twice"):
        finetune(crops, labels, [*keys[:-1], keys[0]], FAST)
    with pytest.raises(ValueError, match=r"\(N, 32, 32, 3\)"):
        ClipClassifier.load(trained[1]).classify(crops[:, :16, :16])


def damaged(path: Path, kind: str) -> bytes:
    from safetensors.numpy import save as to_bytes

    data = path.read_bytes()
    if kind == "another model":
        return to_bytes({"conv.weight": np.zeros(3, dtype=np.float32)}, metadata={"format": "pt"})
    if kind == "another version":
        return data.replace(b'\\"version\\": 1', b'\\"version\\": 7', 1)
    flipped = bytearray(data)
    flipped[-1000] ^= 64
    return {"empty": b"", "text": b"no weights here", "truncated": data[:-100], "a flipped bit": bytes(flipped)}[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "a flipped bit", "another model", "another version"])
def test_a_file_that_is_not_a_whole_classifier_is_refused(
    trained: tuple[Finetuned, Path], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "größe 1.safetensors"
    path.write_bytes(damaged(trained[1], kind))
    assert path.read_bytes() != trained[1].read_bytes()
    with pytest.raises(ArtifactError, match=r"größe 1\.safetensors: .*dvc repro"):
        ClipClassifier.load(path)


def test_weights_of_another_architecture_are_refused(trained: tuple[Finetuned, Path], tmp_path: Path) -> None:
    weights = {**trained[0].weights, "visual.conv1.weight": np.zeros((2, 3, 3, 3), dtype=np.float32)}
    path = write(dataclasses.replace(trained[0], weights=weights), tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"model: .*visual\.bn1\.weight has the shape"):
        ClipClassifier.load(path).classify(make_crops(1)[0])


def test_a_missing_file_names_itself_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere\.safetensors: no such file; run `dvc repro`"):
        ClipClassifier.load(tmp_path / "nowhere.safetensors")
