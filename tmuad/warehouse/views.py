"""The views of the warehouse: what people ask most. Every one has the column `unit`, so that it can be narrowed to one."""

# view -> (SQL, what a row is); a view may use those before it
VIEWS: dict[str, tuple[str, str]] = {
    "first_findings": (
        "SELECT unit, image_id, sentence FROM findings WHERE rank = 1",
        "one row per image with a reason: the strongest",
    ),
    "normal_ranges": (
        """
        WITH train AS (SELECT unit, image_id FROM images WHERE split = 'train'),
        total AS (SELECT unit, count(*) AS n FROM train GROUP BY unit),
        seen AS (SELECT d.* FROM descriptions d JOIN train USING (unit, image_id) WHERE object_class <> '')
        SELECT unit, object_class, any_value(coalesce(c.one, object_class)) AS name,
               any_value(n) AS training_images, count(*) AS images_with_class,
               CASE WHEN count(*) < any_value(n) THEN 0 ELSE min("count") END AS count_min, max("count") AS count_max,
               list_sort(list_distinct(list("count"))) AS counts,
               list_sort(list_distinct(list("position"))) AS positions,
               min(size) AS size_min, max(size) AS size_max
        FROM seen JOIN total USING (unit) LEFT JOIN classes c USING (unit, object_class)
        GROUP BY unit, object_class ORDER BY unit, object_class
        """,
        "one row per unit and object class: counts, positions and sizes over the training images",
    ),
    "normal_rules": (
        """
        SELECT unit, object_class, name, training_images AS support, count_min AS "count",
               CASE WHEN len(positions) = 1 THEN positions[1] END AS "position"
        FROM normal_ranges WHERE count_min = count_max ORDER BY unit, object_class
        """,
        "one row per object class of which every training image shows the same number; its position if that never varies",
    ),
    "rare_normals": (
        """
        WITH train AS (SELECT unit, image_id, path FROM images WHERE split = 'train'),
        texts AS (SELECT DISTINCT unit, image_id, path, image_text FROM descriptions JOIN train USING (unit, image_id))
        SELECT unit, image_id, path, image_text, count(*) OVER same AS images_with_this_text,
               count(*) OVER (PARTITION BY unit) AS training_images
        FROM texts WINDOW same AS (PARTITION BY unit, image_text)
        QUALIFY images_with_this_text = 1 AND training_images > 1 ORDER BY unit, path
        """,
        "one row per training image whose description no other training image has",
    ),
    "wrong_verdicts": (
        """
        SELECT unit, image_id, path, kind, defect, verdict, score, threshold, sentence AS first_reason
        FROM images JOIN verdicts USING (unit, image_id) LEFT JOIN first_findings USING (unit, image_id)
        WHERE split = 'test' AND (kind = 'good') <> (verdict = 'good') ORDER BY unit, kind, score DESC, path
        """,
        "one row per test image whose verdict is not what is true of it",
    ),
    "false_alarms": (
        "SELECT unit, image_id, path, score, threshold, first_reason FROM wrong_verdicts WHERE kind = 'good'",
        "one row per normal test image that was called anomalous, with its first reason",
    ),
    "missed_anomalies": (
        "SELECT unit, image_id, path, kind, defect, score, threshold, first_reason FROM wrong_verdicts WHERE kind <> 'good'",
        "one row per anomalous test image that was called good",
    ),
    "findings_by_reason": (
        """
        SELECT unit, object_class, attribute, kind, count(DISTINCT image_id) AS images, avg(strength) AS mean_strength
        FROM findings JOIN images USING (unit, image_id) WHERE split = 'test'
        GROUP BY ALL ORDER BY unit, images DESC, object_class, attribute, kind
        """,
        "one row per unit, object class, attribute and kind of image: how many test images give that reason",
    ),
    "false_alarms_by_reason": (
        """
        SELECT unit, object_class, coalesce(attribute, 'none') AS attribute, count(DISTINCT image_id) AS images,
               max(strength) AS greatest_strength, list_sort(list(DISTINCT path)) AS paths
        FROM false_alarms LEFT JOIN findings USING (unit, image_id)
        GROUP BY ALL ORDER BY unit, images DESC, object_class, attribute
        """,
        "one row per unit, object class and attribute that stands behind false alarms: how many, and which",
    ),
    "explaining_normals": (
        """
        SELECT v.unit, v.image_id, i.path, v.verdict, v.score, t.path AS nearest_by_text, p.path AS nearest_by_patch,
               c.patch_distance
        FROM verdicts v JOIN images i USING (unit, image_id) LEFT JOIN context c USING (unit, image_id)
        LEFT JOIN (FROM images WHERE split = 'train') t ON t.unit = v.unit AND t.image_id = v.nearest_image_id
        LEFT JOIN (FROM images WHERE split = 'train') p ON p.unit = v.unit AND p.image_id = c.nearest_by_patch
        ORDER BY v.unit, v.score DESC, i.path
        """,
        "one row per scored image: the normal images it was compared with, by text and by patch",
    ),
    "arrivals_by_week": (
        """
        SELECT unit, CAST(date_trunc('week', arrived) AS DATE) AS week, split, kind, count(*) AS images
        FROM images LEFT JOIN context USING (unit, image_id) GROUP BY ALL ORDER BY unit, week NULLS LAST, split, kind
        """,
        "one row per unit, week (its Monday; NULL where no date is known), split and kind: how many images arrived",
    ),
}

# What a view's column means where it is not a table's column of that name.
COLUMNS: dict[tuple[str, str], str] = {
    ("normal_ranges", "name"): "what a person calls one object of the class",
    ("normal_ranges", "training_images"): "training images of the unit",
    ("normal_ranges", "images_with_class"): "training images that show the class",
    ("normal_ranges", "count_min"): "fewest objects of the class in a training image; 0 where one lacks it",
    ("normal_ranges", "count_max"): "most objects of the class in a training image",
    ("normal_ranges", "counts"): "distinct counts in the training images that show the class, ascending",
    ("normal_ranges", "positions"): "distinct positions of the class in the training images",
    ("normal_ranges", "size_min"): "smallest share of the image that the class covers, 0..1",
    ("normal_ranges", "size_max"): "largest share of the image that the class covers, 0..1",
    ("normal_rules", "name"): "what a person calls one object of the class",
    ("normal_rules", "support"): "training images that bear the rule out: all of the unit",
    ("normal_rules", "count"): "objects of the class in every training image",
    ("normal_rules", "position"): "position of the class in every training image; NULL where it varies",
    ("rare_normals", "images_with_this_text"): "training images with the same description: 1",
    ("rare_normals", "training_images"): "training images of the unit",
    ("wrong_verdicts", "first_reason"): "the strongest reason in words; NULL without one",
    ("false_alarms", "first_reason"): "the strongest reason in words; NULL without one",
    ("missed_anomalies", "first_reason"): "the strongest reason in words; NULL without one",
    ("findings_by_reason", "images"): "test images with such a reason",
    ("findings_by_reason", "mean_strength"): "mean strength of these reasons, 0..1",
    ("false_alarms_by_reason", "images"): "false alarms with such a reason",
    ("false_alarms_by_reason", "greatest_strength"): "of these reasons, 0..1",
    ("false_alarms_by_reason", "paths"): "the false alarms, relative to the root of the unit",
    ("explaining_normals", "nearest_by_text"): "path of the normal image with the most similar text (T_sim)",
    ("explaining_normals", "nearest_by_patch"): "path of the normal image that looks most like it",
    ("arrivals_by_week", "week"): "Monday of the week; NULL where no date is known",
    ("arrivals_by_week", "images"): "images that arrived in it",
}
