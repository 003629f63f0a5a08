"""Weight files: found, fetched, checked, and refused."""

import functools
import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from tmuad import weights
from tmuad.cli import app
from tmuad.config_models import ComputeParams
from tmuad.errors import WeightsError

ROOT = Path(__file__).parent.parent
CONTENT = b"weights " * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher's site on this machine, and a working folder whose weights.yaml points at it."""
    public = tmp_path / "public"
    public.mkdir()
    (public / "net.safetensors").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(public)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    (tmp_path / "params.yaml").write_text("units: {}\n")
    listing(f"http://127.0.0.1:{server.server_port}/{{file}}")
    yield public
    server.shutdown()
    thread.join()
    server.server_close()


def listing(url: str, **file: object) -> None:
    row = {"file": "net.safetensors", "bytes": len(CONTENT), "sha256": SHA, **file}
    entry = {"source": "here", "url": url, "revision": "1", "licence": "MIT", "files": [row]}
    Path("weights.yaml").write_text(yaml.safe_dump({"weights": {"net": entry}}))


def url() -> str:
    text: str = yaml.safe_load(Path("weights.yaml").read_text())["weights"]["net"]["url"]
    return text


def test_a_missing_file_names_itself_its_size_and_the_command(site: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        weights.paths("net", ComputeParams())
    for word in ("weights/net/net.safetensors", "8 kB", "tmuad weights pull net", "TMUAD_WEIGHTS"):
        assert word in str(caught.value)


def test_pull_fetches_once_and_verify_agrees(site: Path) -> None:
    compute = ComputeParams()
    assert [s.state for s in weights.pull("net", compute)] == ["ok"]
    assert weights.paths("net", compute)[0].read_bytes() == CONTENT
    (site / "net.safetensors").unlink()  # what is there is not fetched again
    assert [s.state for s in weights.pull("net", compute)] == ["ok"]
    assert [s.state for s in weights.verify(["net"], compute)] == ["ok"]
    assert not list(Path("weights/net").glob("*.part"))


def test_another_file_than_the_publisher_states_is_not_kept(site: Path) -> None:
    (site / "net.safetensors").write_bytes(CONTENT[::-1])
    with pytest.raises(WeightsError, match=r"sha256.*states"):
        list(weights.pull("net", ComputeParams()))
    listing(url(), sha256="", bytes=7)
    with pytest.raises(WeightsError, match=r"8,000 bytes where .* states 7"):
        list(weights.pull("net", ComputeParams()))
    assert [p.name for p in Path("weights/net").iterdir()] == []


def test_without_a_network_pull_says_what_to_copy(site: Path) -> None:
    listing("http://127.0.0.1:1/{file}")
    with pytest.raises(WeightsError, match="copy the file to weights/net"):
        list(weights.pull("net", ComputeParams()))


def test_damage_and_truncation_are_found(site: Path) -> None:
    compute = ComputeParams()
    list(weights.pull("net", compute))
    path = Path("weights/net/net.safetensors")
    path.write_bytes(b"W" + CONTENT[1:])
    assert [s.state for s in weights.verify(["net"], compute)] == ["damaged"]
    path.write_bytes(CONTENT[:-1])
    assert [s.state for s in weights.verify(["net"], compute)] == ["size"]
    with pytest.raises(WeightsError, match="7,999 bytes where 8,000 are expected"):
        weights.paths("net", compute)
    path.unlink()
    assert [s.state for s in weights.verify(["net"], compute)] == ["missing"]
    listing(url(), sha256="")
    path.write_bytes(CONTENT)
    assert [s.state for s in weights.verify(["net"], compute)] == ["unstated"]


def test_the_environment_comes_before_the_parameter(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path / "elsewhere"))
    list(weights.pull("net", ComputeParams(weights="unused")))
    assert (tmp_path / "elsewhere/net/net.safetensors").exists()


def test_the_digest_follows_the_bytes(site: Path) -> None:
    compute = ComputeParams()
    list(weights.pull("net", compute))
    first = weights.digest("net", compute)
    assert weights.digest("net", compute) == first
    Path("weights/net/net.safetensors").write_bytes(CONTENT[::-1])
    assert weights.digest("net", compute) != first
    assert weights.digest("random:4", compute) == "random:4"


def test_the_commands(site: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["weights", "list", "--all"]).output.startswith("missing  net")
    assert isinstance(run(app, ["weights", "path", "net"]).exception, WeightsError)
    assert "net.safetensors" in run(app, ["weights", "pull", "net"]).output
    assert run(app, ["weights", "list", "--all"]).output.startswith("there")
    assert run(app, ["weights", "path", "net"]).output.strip() == "weights/net/net.safetensors"
    assert run(app, ["weights", "verify", "net"]).exit_code == 0
    Path("weights/net/net.safetensors").write_bytes(CONTENT[::-1])
    result = run(app, ["weights", "verify", "net"])
    assert result.exit_code == 1 and result.output.startswith("damaged")


def test_unknown_names_and_a_broken_list(site: Path) -> None:
    with pytest.raises(WeightsError, match=r"'nett': not listed.*net"):
        weights.entry("nett")
    with pytest.raises(WeightsError, match="random:x"):
        weights.random_seed("random:x")
    Path("weights.yaml").write_text("weights: {net: {source: here}}")
    with pytest.raises(WeightsError, match="not a list of weights"):
        weights.registry()


def test_every_entry_that_a_profile_needs_is_listed() -> None:
    from tmuad.config import parse_params
    from tmuad.models.slots import model_slots, weight_names

    listed = yaml.safe_load((ROOT / "weights.yaml").read_text())["weights"]
    for profile in (p.stem for p in (ROOT / "profiles").glob("*.yaml")):
        params = parse_params({"units": {}, "profile": profile}, folder=ROOT)
        assert set(weight_names(model_slots(params))) <= set(listed), profile
    digests = [f["sha256"] for entry in listed.values() for f in entry["files"] if "sha256" in f]
    assert digests and all(len(d) == 64 and int(d, 16) for d in digests)


# ---- what is in the files


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_tensors_are_read_from_both_formats(tmp_path: Path, suffix: str) -> None:
    state, path = net().state_dict(), tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    again = net()
    torch.nn.init.zeros_(again[0].weight)
    weights.load_into(again, weights.read_state(path), path)
    assert torch.equal(again[0].weight, state["0.weight"])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code in a weight file was run')",))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"model": Evil()}, path)
    with pytest.raises(WeightsError, match="not readable as weights"):
        weights.read_state(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="not readable as weights"):
        weights.read_state(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_corrupted_file_is_an_error_that_names_it(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(net().state_dict(), path) if suffix == ".pth" else save_file(net().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"\xff" * len(whole), "empty": b""}[damage])
    with pytest.raises(WeightsError, match=f"net{suffix}: not readable"):
        weights.read_state(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    state = net().state_dict()
    with pytest.raises(WeightsError, match=r"another architecture.*1 tensors missing, 1 unknown"):
        weights.load_into(net(), {("x" if n == "0.bias" else n): v for n, v in state.items()}, tmp_path / "f")
    with pytest.raises(WeightsError, match=r"1 of another shape.*'0.weight'"):
        weights.load_into(net(), {**state, "0.weight": torch.zeros(4, 4)}, tmp_path / "f")
    weights.load_into(net(), {**state, "extra.a": torch.zeros(1)}, tmp_path / "f", ignored=("extra.",))


def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no table of tensors"):
        weights.read_state(tmp_path / "list.pth")


def test_sizes_for_people() -> None:
    assert [weights.size(n) for n in (12, 4_200, 694_000_000, 2_564_550_879)] == [
        "12 bytes",
        "4 kB",
        "694 MB",
        "2.6 GB",
    ]
