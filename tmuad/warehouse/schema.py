"""The tables of the warehouse: columns, keys and what a row is. Columns of an artifact come from `tmuad.tables`."""

from dataclasses import dataclass

import pyarrow as pa

from tmuad import tables
from tmuad.tables import column

VERSION = 2  # of the tables and views; a warehouse of another version is rebuilt, not guessed at

UNIT = column("unit", pa.string(), "name of the unit: a category of a data set")
_IMAGE = column("image_id", pa.string(), "SHA-256 of the image file's bytes, in hex")
_CLASS = column("object_class", pa.string(), "object class, as the segmenter names it")

UNITS_SCHEMA = pa.schema(
    [
        UNIT,
        column("train", pa.int64(), "training images"),
        column("validation", pa.int64(), "held-out normal images"),
        column("test_good", pa.int64(), "normal test images"),
        column("test_logical", pa.int64(), "test images with a logical anomaly"),
        column("test_structural", pa.int64(), "test images with a structural anomaly"),
        column("threshold", pa.float64(), "a score above it is anomalous", nullable=True),
        column("false_alarm_rate_promised", pa.float64(), "0..1", nullable=True),
        column("false_alarm_rate_observed", pa.float64(), "on the normal test images, 0..1", nullable=True),
        column("image_auroc", pa.float64(), "all anomalies, 0..1", nullable=True),
        column("image_auroc_logical", pa.float64(), "good against logical, 0..1", nullable=True),
        column("image_auroc_structural", pa.float64(), "good against structural, 0..1", nullable=True),
        column("pixel_auroc", pa.float64(), "all anomalies, 0..1", nullable=True),
    ]
)

CLASSES_SCHEMA = pa.schema(
    [
        UNIT,
        _CLASS,
        column("one", pa.string(), "what a person calls one object of the class (data/names)"),
        column("many", pa.string(), "what a person calls several"),
    ]
)

OBJECTS_SCHEMA = pa.schema(
    [
        UNIT,
        _IMAGE,
        _CLASS,
        column(
            "number", pa.int32(), "number of the object among those of its class in the image, from 1, in reading order"
        ),
        column("x", pa.float64(), "centre of mass, share of the width from the left edge, 0..1"),
        column("y", pa.float64(), "centre of mass, share of the height from the upper edge, 0..1"),
        column("position", pa.string(), "grid cell of the centre: top left, top, ... bottom right"),
        column("size", pa.float64(), "share of the image that the object covers, 0..1"),
        column("x0", pa.int32(), "left edge of the box, px", nullable=True),
        column("y0", pa.int32(), "upper edge of the box, px", nullable=True),
        column("x1", pa.int32(), "right edge of the box, px, exclusive", nullable=True),
        column("y1", pa.int32(), "lower edge of the box, px, exclusive", nullable=True),
        column("confidence", pa.float32(), "of the segmenter, 0..1", nullable=True),
        column("runs", pa.list_(pa.uint32()), "mask as run lengths, row by row, background first"),
    ]
)

VERSIONS_SCHEMA = pa.schema(
    [
        column("unit", pa.string(), "the unit whose artifact it is; empty for what holds for all"),
        column("part", pa.string(), "schema, tmuad, duckdb, or the name of an artifact file"),
        column("version", pa.string(), "version number; of an artifact the SHA-256 of its bytes, in hex"),
        column("meaning", pa.string(), "what the part is"),
    ]
)


@dataclass(frozen=True)
class Table:
    """One table: its rows come from `file` of each unit's folder, or are made from what lies in the other tables."""

    schema: pa.Schema  # all columns, `unit` among them
    comment: str  # what a row is
    key: tuple[str, ...]  # columns that tell rows apart
    file: str = ""  # artifact that holds the rows, without the column `unit`
    parent: str = "images"  # table whose key every row refers to; empty for none


def _of_unit(schema: pa.Schema) -> pa.Schema:
    return pa.schema([UNIT, *schema])


_BY_IMAGE = ("unit", "image_id")

# In an order in which every row finds its parent.
TABLES: dict[str, Table] = {
    "units": Table(UNITS_SCHEMA, "one row per unit: images, threshold, results", ("unit",), parent=""),
    "classes": Table(CLASSES_SCHEMA, "one row per object class: what a person calls it", ("unit", "object_class"),
                     parent="units"),
    "images": Table(_of_unit(tables.MANIFEST_SCHEMA), "one row per image", _BY_IMAGE, "manifest.parquet", "units"),
    "segments": Table(_of_unit(tables.SEGMENTS_SCHEMA), "one row per segment of an image: an object or a region",
                      (*_BY_IMAGE, "source", "index"), "segments.parquet"),
    "descriptions": Table(_of_unit(tables.DESCRIPTIONS_SCHEMA), "one row per image and object class",
                          (*_BY_IMAGE, "object_class"), "descriptions.parquet"),
    "objects": Table(OBJECTS_SCHEMA, "one row per object of an image, under the class that describes it",
                     (*_BY_IMAGE, "object_class", "number")),
    "text_bank": Table(_of_unit(tables.TEXT_BANK_SCHEMA), "one row per object class: what is normal",
                       ("unit", "object_class"), "text_bank.parquet", "units"),
    "scores": Table(_of_unit(tables.SCORES_SCHEMA), "one row per scored image: what each bank says", _BY_IMAGE,
                    "scores.parquet"),
    "findings": Table(_of_unit(tables.FINDINGS_SCHEMA), "one row per reason", (*_BY_IMAGE, "rank"), "findings.parquet"),
    "verdicts": Table(_of_unit(tables.VERDICTS_SCHEMA), "one row per scored image: the decision", _BY_IMAGE,
                      "verdicts.parquet"),
    "context": Table(_of_unit(tables.CONTEXT_SCHEMA), "one row per image: when it arrived, and what it looks most like",
                     _BY_IMAGE, "context.parquet"),
    "versions": Table(VERSIONS_SCHEMA, "one row per thing that decides what the other tables say", ("unit", "part"),
                      parent=""),
}  # fmt: skip
