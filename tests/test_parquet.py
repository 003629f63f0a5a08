"""Parquet files: fixed schema, same bytes, whole or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tmuad import parquet
from tmuad.errors import ArtifactError
from tmuad.parquet import read_parquet, write_parquet

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("area", pa.int32(), nullable=False),
        pa.field("runs", pa.list_(pa.uint32()), nullable=False),
        pa.field("score", pa.float32()),
    ]
)


def rows(count: int = 5) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "score": np.linspace(0, 1, count),
            "name": [f"Größe {index}" for index in range(count)],
            "area": np.arange(count),
            "runs": [np.arange(index, dtype=np.uint32) for index in range(count)],
        }
    )


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "made/on/the/way/a.parquet"
    write_parquet(rows(), path, SCHEMA)
    back = read_parquet(path).to_pandas()
    assert list(back.columns) == ["name", "area", "runs", "score"]
    assert back["area"].dtype == np.int32 and back["score"].dtype == np.float32
    assert all(np.array_equal(a, b) for a, b in zip(back["runs"], rows()["runs"], strict=True))
    assert all(runs.dtype == np.uint32 for runs in back["runs"])
    assert list(back["name"]) == list(rows()["name"])
    assert read_parquet(path, ["score", "name"]).column_names == ["score", "name"]


def test_no_rows(tmp_path: Path) -> None:
    write_parquet(rows(0), tmp_path / "a.parquet", SCHEMA)
    assert len(read_parquet(tmp_path / "a.parquet")) == 0


def test_the_same_rows_give_the_same_bytes_however_they_came_about(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(rows(), preserve_index=False)
    reordered = rows()[["runs", "area", "name", "score"]].set_index(pd.Index(range(40, 45), name="gone"))
    chunks = pa.concat_tables(
        pa.Table.from_pandas(rows().iloc[start : start + 1], preserve_index=False) for start in range(5)
    )
    for number, source in enumerate((rows(), table.replace_schema_metadata({"who": "me"}), reordered, chunks)):
        write_parquet(source, tmp_path / f"{number}.parquet", SCHEMA)
    assert len({(tmp_path / f"{number}.parquet").read_bytes() for number in range(4)}) == 1


def test_columns_that_do_not_match_the_schema(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns .*extra"):
        write_parquet(rows().assign(extra=1), tmp_path / "a.parquet", SCHEMA)
    with pytest.raises(ValueError, match="columns"):
        write_parquet(rows().drop(columns="area"), tmp_path / "a.parquet", SCHEMA)
    with pytest.raises(ValueError, match="null"):
        write_parquet(rows().assign(name=[None] * 5), tmp_path / "a.parquet", SCHEMA)
    nulls = pa.table({"name": [None], "area": [1], "runs": [[1]], "score": [0.5]})
    with pytest.raises(ValueError, match="null"):
        write_parquet(nulls, tmp_path / "a.parquet", SCHEMA)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(rows(), path, SCHEMA)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ArtifactError, match=r"a\.parquet: cannot be written \(No space left on device\)"):
        write_parquet(rows(3), path, SCHEMA)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:  # the tests may run as root, whom no permission bit stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    with pytest.raises(ArtifactError, match=r"a\.parquet: cannot be written \(Permission denied\); make the folder"):
        write_parquet(rows(), tmp_path / "a.parquet", SCHEMA)


def test_missing_truncated_and_outdated_files_name_the_stage_that_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "demo.kit/manifest.parquet"
    with pytest.raises(ArtifactError, match=r"manifest\.parquet: no such file; run: dvc repro prepare@demo\.kit"):
        read_parquet(path)
    write_parquet(rows(), path, SCHEMA)
    with pytest.raises(ArtifactError, match=r"no column image_id: written by another version; run: dvc repro prepare"):
        read_parquet(path, ["name", "image_id"])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=r"damaged or no Parquet file .*remove it and run: dvc repro prepare@demo"):
        read_parquet(path)
    with pytest.raises(ArtifactError, match=r"other\.parquet: no such file; run: dvc repro$"):
        read_parquet(tmp_path / "other.parquet")


def test_rows_come_a_few_at_a_time_and_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 3)
    table = pa.concat_tables([pa.table({"a": [[1, 2], [], [3]], "b": ["x", "y", "z"]})] * 3).slice(1, 7)
    assert list(parquet.rows_of(table)) == table.to_pylist()
    assert list(parquet.rows_of(table.slice(0, 0))) == []
