"""The cache in a bucket, on a real S3 server: what holds of the folder holds of it."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from fits import Bench, folder

from tmuad.cache import open_cache, seal
from tmuad.errors import ParameterError


def test_what_is_put_comes_back_until_it_is_removed(bucket: str) -> None:
    cache = open_cache(f"{bucket}/some/where")
    assert cache.writable() and not cache.has("image", "kind") and cache.get("image", "kind") is None
    cache.put("image", "kind", {"x": np.arange(5)})
    record = open_cache(f"{bucket}/some/where/").get("image", "kind")
    assert record is not None and record["x"].tolist() == [0, 1, 2, 3, 4]
    assert cache.lacking(["other", "image", "third"], "kind") == ["other", "third"]
    assert open_cache(bucket).get("image", "kind") is None  # another prefix is another cache
    cache.remove("image", "kind")
    assert not cache.has("image", "kind") and not cache.refused


def test_a_truncated_or_altered_object_is_absent(bucket: str) -> None:
    cache, entry = open_cache(bucket), seal({"x": np.arange(50)})
    for damaged in (entry[:40], entry[:-1], entry[:-3] + b"\0\0\1", b""):
        cache.write("damaged", "kind", damaged)
        assert cache.has("damaged", "kind") and cache.get("damaged", "kind") is None


def _put(bucket: str, cache: object) -> None:
    cache.put("by a child", "kind", {"x": np.arange(3)})  # type: ignore[attr-defined]


def test_forked_processes_have_connections_of_their_own(bucket: str) -> None:
    cache = open_cache(bucket)
    assert not cache.has("by a child", "kind")
    child = multiprocessing.get_context("fork").Process(target=_put, args=(bucket, cache))
    child.start()
    child.join(60)
    assert child.exitcode == 0 and cache.has("by a child", "kind")


def test_stages_use_it_as_they_use_a_folder(bucket: str, bench: Bench) -> None:
    folder(bench.place / "photos", 5)
    unit = {"kit": {"root": "photos", "layout": "folder"}}
    results = []
    for cache in (f"{bucket}/kit", ".tmuad-cache"):
        bench.params(unit, {"data": {"cache": cache, "workers": 1}})
        bench.fit(stages=("prepare", "segment"))
        results.append({p.name: p.read_bytes() for p in Path("artifacts/kit").iterdir()})
    assert results[0] == results[1]


@pytest.mark.parametrize("place", ["s3://nobody/x", "s3:///x"])
def test_a_bucket_that_is_not_there_is_named(bucket: str, bench: Bench, place: str) -> None:
    folder(bench.place / "photos", 4)
    bench.params({"kit": {"root": "photos", "layout": "folder"}}, {"data": {"cache": place}})
    status, _, error = bench.stage("prepare", "kit")
    assert (status, error.count("Traceback")) == (1, 0) and f"data.cache: {place}" in error


def test_a_server_that_is_not_there_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ParameterError, match=r"data\.cache: s3://parts: cannot be read .*AWS_ENDPOINT_URL"):
        open_cache(bucket).has("image", "kind")
