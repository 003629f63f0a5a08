"""The columns of the Parquet artifacts: names, types, and what each one means, with its unit.

A producer writes `pa.Table.from_pylist(rows, schema=...)`; the warehouse takes types and comments from here. The
meaning is the field's metadata, so that it cannot drift from the column. px are those of the resized image.
"""

import pyarrow as pa

_STRINGS, _NUMBERS, _RUNS = pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(pa.uint32())


def column(name: str, kind: pa.DataType, comment: str, nullable: bool = False) -> pa.Field:
    """A column that knows what it means."""
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})


def comment_of(field: pa.Field) -> str:
    """What the column means; empty if its producer has not said."""
    comment: bytes = (field.metadata or {}).get(b"comment", b"")
    return comment.decode()


_IMAGE = column("image_id", pa.string(), "SHA-256 of the image file's bytes, in hex")
_CLASS = column("object_class", pa.string(), "object class, as the segmenter names it; empty where no object was found")

MANIFEST_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("path", pa.string(), "image file, relative to the root of the unit"),
        column("split", pa.string(), "train, validation or test"),
        column("kind", pa.string(), "good, logical or structural: what is true of the image"),
        column("defect", pa.string(), "name of the defect; empty for a good image"),
        column("masks", _STRINGS, "ground-truth mask files, relative to the root of the unit"),
    ]
)

SEGMENTS_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("source", pa.string(), "grounded: an object of a class; open: any region"),
        column("index", pa.int32(), "number of the segment within its image and source"),
        column("candidate", pa.int32(), "row among the image's candidates, see segment/scene.py; -1 for a region"),
        column("label", pa.string(), "class the segmenter believes in; empty for a region"),
        column("score", pa.float32(), "confidence of the segmenter, 0..1"),
        column("x0", pa.int32(), "left edge of the box, px"),
        column("y0", pa.int32(), "upper edge of the box, px"),
        column("x1", pa.int32(), "right edge of the box, px, exclusive"),
        column("y1", pa.int32(), "lower edge of the box, px, exclusive"),
        column("area", pa.int32(), "area, px"),
        column("runs", _RUNS, "mask as run lengths, row by row, background first"),
    ]
)

DESCRIPTIONS_SCHEMA = pa.schema(
    [
        _IMAGE,
        _CLASS,
        column("count", pa.int32(), "objects of the class in the image (O_num)"),
        column("position", pa.string(), "grid cells of the objects in reading order (O_pos)"),
        column("size", pa.float64(), "share of the image that the class covers, 0..1 (O_size)"),
        column("text", pa.string(), "canonical text of the class (T_class)"),
        column("image_text", pa.string(), "canonical text of the whole image (T_img)"),
        column("cells", _STRINGS, "all grid cells the objects may be said to be in, in reading order", nullable=True),
        column("x", _NUMBERS, "centre of each object, share of the width, 0..1"),
        column("y", _NUMBERS, "centre of each object, share of the height, 0..1"),
        column("area", _NUMBERS, "share of the image each object covers, 0..1"),
        column(
            "candidates", pa.list_(pa.int32()), "row of each object among the image's candidates, see segment/scene.py"
        ),
        column("object_runs", pa.list_(_RUNS), "mask of each object as run lengths, background first"),
        column("runs", _RUNS, "merged mask of the class as run lengths, background first"),
    ]
)

TEXT_BANK_SCHEMA = pa.schema(
    [
        _CLASS,
        column("images", pa.int32(), "normal images that show the class"),
        column("counts", pa.list_(pa.int32()), "distinct counts the normal images show, ascending"),
        column("size_low", pa.float64(), "smallest normal share of the image that the class covers (s_min)"),
        column("size_high", pa.float64(), "largest normal share of the image that the class covers (s_max)"),
        column("object_size_low", pa.float64(), "smallest normal share of a single object"),
        column("object_size_high", pa.float64(), "largest normal share of a single object"),
        column("reach", pa.float64(), "how far from its normal places an object may stand, share of the side"),
        column("runs", _RUNS, "all pixels the class was seen at, as run lengths (I_c)"),
    ]
)

SCORES_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("s_text", pa.float64(), "maximum of the text bank's map (S_T)"),
        column("s_objects", pa.float64(), "maximum of the object bank's map (S_O)"),
        column("s_patches", pa.float64(), "maximum of the patch bank's map (S_P)"),
        column("score", pa.float64(), "maximum of the fused map (S_pixel, Eq. 5)"),
        column("s_text+objects", pa.float64(), "score without the patch bank", nullable=True),
        column("s_text+patches", pa.float64(), "score without the object bank", nullable=True),
        column("s_objects+patches", pa.float64(), "score without the text bank", nullable=True),
        column("p_value", pa.float64(), "share of normal images that score as high", nullable=True),
    ]
)

VERDICTS_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("verdict", pa.string(), "anomalous if the score is above the threshold, else good"),
        column("score", pa.float64(), "fused anomaly score"),
        column("threshold", pa.float64(), "of the score, set from held-out normal images"),
        column("share_text", pa.float64(), "text bank's part in the fused score, 0..1", nullable=True),
        column("share_objects", pa.float64(), "object bank's part in the fused score, 0..1", nullable=True),
        column("share_patches", pa.float64(), "patch bank's part in the fused score, 0..1", nullable=True),
        column("nearest_image_id", pa.string(), "normal image with the most similar text (T_sim)", nullable=True),
    ]
)

FINDINGS_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("rank", pa.int32(), "1 for the image's strongest reason"),
        column("object_class", pa.string(), "class the reason speaks of; empty where it lies on none"),
        column("attribute", pa.string(), "missing, extra, position, size or appearance"),
        column("expected", pa.string(), "what the normal images show"),
        column("found", pa.string(), "what this image shows"),
        column("strength", pa.float64(), "0..1"),
        column("x0", pa.int32(), "left edge of the region, px"),
        column("y0", pa.int32(), "upper edge of the region, px"),
        column("x1", pa.int32(), "right edge of the region, px, exclusive"),
        column("y1", pa.int32(), "lower edge of the region, px, exclusive"),
        column("runs", _RUNS, "region as run lengths, background first"),
        column("sentence", pa.string(), "the reason in words"),
    ]
)

BANK_SCORES_SCHEMA = pa.schema(
    [
        _IMAGE,
        column(
            "nearest_image_id", pa.string(), "normal image with the most similar text (T_sim); empty for an empty bank"
        ),
        column(
            "region_runs", pa.list_(_RUNS), "masks the object bank was asked about, as run lengths, background first"
        ),
        column(
            "region_distance",
            pa.list_(pa.float32()),
            "distance of each open segment to the object bank, in their order",
        ),
        column("grid", pa.list_(pa.int32()), "rows and columns of the patch grid"),
        column("patch_distance", pa.list_(pa.float32()), "distance of each patch to the patch bank, row by row"),
    ]
)

BANK_FINDINGS_SCHEMA = pa.schema(
    [
        _IMAGE,
        _CLASS,
        column("attribute", pa.string(), "missing, extra, position or size"),
        column("expected", pa.string(), "what the normal images show"),
        column("found", pa.string(), "what this image shows"),
        column("strength", pa.float64(), "0..1, before it is weighed by how reliable findings of its kind are"),
        column("region", _RUNS, "region as run lengths, background first"),
        column("count", pa.int32(), "objects concerned"),
        column("where", pa.string(), "grid cells of the region in words"),
    ]
)

REPLICATES_SCHEMA = pa.schema(
    [
        column("metric", _STRINGS, "keys that lead to the figure in metrics.json"),
        column("value", pa.float64(), "the figure, 0..1"),
        column("replicates", pa.list_(pa.float32()), "the figure in each bootstrap resample, that of the images first"),
    ]
)

CONTEXT_SCHEMA = pa.schema(
    [
        _IMAGE,
        column("arrived", pa.timestamp("s"), "when the image arrived; NULL where nothing tells", nullable=True),
        column("arrived_from", pa.string(), "what tells it: log, photograph (EXIF), name (of the file), or empty"),
        column(
            "nearest_by_patch", pa.string(), "training image that looks most like it, place by place; empty for none"
        ),
        column(
            "patch_distance",
            pa.float64(),
            "mean distance to it over the places, in standard deviations of normal images",
            nullable=True,
        ),
    ]
)
