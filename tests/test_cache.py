"""The cache: what comes back is what was put, or nothing."""

import multiprocessing
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tmuad.cache import Cache, Record, fingerprint, write_atomic

DTYPES = (np.uint8, np.bool_, np.int32, np.int64, np.uint32, np.float16, np.float32, np.float64)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda t: arrays(t, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
)


def same(a: Record, b: Record | None) -> bool:
    return (
        b is not None
        and set(a) == set(b)
        and all(a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a)
    )


def entry(root: Path) -> Path:
    (only,) = [path for path in root.rglob("*") if path.is_file()]
    return only


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(st.text(alphabet="abcxyz_", min_size=1, max_size=6), ARRAYS, max_size=4))
def test_a_record_comes_back_bit_by_bit(tmp_path: Path, record: Record) -> None:
    cache = Cache(tmp_path)
    cache.put("image", "kind", record)
    assert same(record, cache.get("image", "kind"))


def test_a_strided_array_comes_back_in_order(tmp_path: Path) -> None:
    cache, array = Cache(tmp_path), np.arange(12).reshape(3, 4).T[::2]
    cache.put("image", "kind", {"x": array})
    assert np.array_equal((cache.get("image", "kind") or {})["x"], array)


def test_image_and_kind_both_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for i, (image, kind) in enumerate([("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "a")]):
        assert not cache.has(image, kind)
        cache.put(image, kind, {"x": np.array([i])})
        assert cache.has(image, kind)
    assert [int((cache.get(*key) or {})["x"][0]) for key in [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "a")]] == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("keep", [0, 1, 31, 32, 33, 60, -1])
def test_a_truncated_entry_is_absent(tmp_path: Path, keep: int) -> None:
    cache = Cache(tmp_path)
    cache.put("image", "kind", {"x": np.arange(50)})
    path = entry(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.get("image", "kind") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_an_altered_byte_makes_the_entry_absent(tmp_path: Path, place: int, change: int) -> None:
    cache = Cache(tmp_path)
    cache.put("image", "kind", {"x": np.arange(50)})
    path = entry(tmp_path)
    blob = bytearray(path.read_bytes())
    blob[place % len(blob)] ^= change
    path.write_bytes(bytes(blob))
    assert cache.get("image", "kind") is None
    cache.put("image", "kind", {"x": np.arange(3)})  # and it can be replaced
    assert same({"x": np.arange(3)}, cache.get("image", "kind"))


def test_a_whole_entry_that_is_no_record_is_absent(tmp_path: Path) -> None:
    import hashlib

    cache = Cache(tmp_path)
    cache.put("image", "kind", {"x": np.arange(5)})
    entry(tmp_path).write_bytes(hashlib.sha256(b"junk").digest() + b"junk")
    assert cache.get("image", "kind") is None


def test_a_folder_that_cannot_be_written_costs_the_entry_only(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("here lies a file")
    for cache in (Cache(blocked), Cache(blocked / "below")):
        assert not cache.writable()
        cache.put("image", "kind", {"x": np.arange(5)})
        assert not cache.has("image", "kind")
        assert cache.get("image", "kind") is None
    assert blocked.read_text() == "here lies a file"


def test_a_new_folder_is_writable_and_stays_clean(tmp_path: Path) -> None:
    assert Cache(tmp_path / "new" / "er").writable()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _write_often(root: str, seed: int) -> None:
    cache = Cache(Path(root))
    for _ in range(60):
        cache.put("image", "kind", {"x": np.full(20_000, seed)})


def test_two_processes_writing_one_entry_leave_a_whole_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(str(tmp_path), seed)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    cache = Cache(tmp_path)
    while any(writer.is_alive() for writer in writers):
        if cache.has("image", "kind"):
            record = cache.get("image", "kind")
            assert record is not None
            seen |= set(np.unique(record["x"]).tolist())
            assert len(np.unique(record["x"])) == 1
    assert all(writer.exitcode == 0 for writer in writers)
    assert seen <= {1, 2}
    assert entry(tmp_path).name[0] != "."  # no temporary file is left


# ---- atomic writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, 5)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


# ---- fingerprints


def test_fingerprints_tell_parameters_apart() -> None:
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert len({fingerprint("a", 1), fingerprint("a", 2), fingerprint("a1"), fingerprint(("a", 1)), fingerprint()}) == 5


def test_a_module_stands_for_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import linecache

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "backend_under_test.py").write_text("X = 1\n")
    module: types.ModuleType = importlib.import_module("backend_under_test")
    before = fingerprint(module)
    assert fingerprint(module) == before
    (tmp_path / "backend_under_test.py").write_text("X = 1  # and more\n")
    linecache.clearcache()
    assert fingerprint(module) != before


def test_a_record_of_nothing_is_a_record(tmp_path: Path) -> None:
    empty: dict[str, NDArray[np.generic]] = {"crops": np.zeros((0, 32, 32, 3), dtype=np.uint8)}
    Cache(tmp_path).put("image", "kind", empty)
    assert same(empty, Cache(tmp_path).get("image", "kind"))
