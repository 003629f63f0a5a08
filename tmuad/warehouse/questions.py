"""Twenty questions that people ask, in words and in SQL. docs/sql.md shows them with their answers."""

QUESTIONS: tuple[tuple[str, str], ...] = (
    (
        "Which units are there, and how well are their anomalies found?",
        """
SELECT unit, train, validation, test_good, test_logical, test_structural, image_auroc
FROM units ORDER BY unit""",
    ),
    (
        "What is normal: how many of each part, where, and how large?",
        """
SELECT name, counts, positions[1:3] AS "first positions", 100 * size_min AS "size from %", 100 * size_max AS "to %"
FROM normal_ranges WHERE unit = 'demo.hardware_kit'""",
    ),
    (
        "Which rules hold in every training image?",
        """
SELECT unit, name, "count", "position", support FROM normal_rules""",
    ),
    (
        "Which normal images show something that no other one shows?",
        """
SELECT unit, count(*) AS rare, any_value(training_images) AS of, list(path ORDER BY path)[1:3] AS "the first"
FROM rare_normals GROUP BY unit ORDER BY unit""",
    ),
    (
        "Of which images is the verdict wrong?",
        """
SELECT unit, path, kind, verdict, score, threshold
FROM wrong_verdicts ORDER BY abs(score - threshold) / threshold DESC LIMIT 8""",
    ),
    (
        "What stands behind the false alarms?",
        """
SELECT unit, object_class, attribute, images, paths FROM false_alarms_by_reason""",
    ),
    (
        "Which anomalies were missed by a hair?",
        """
SELECT unit, path, defect, score, threshold, 1 - score / threshold AS "short by"
FROM missed_anomalies ORDER BY "short by" LIMIT 6""",
    ),
    (
        "Which normal images explain the highest scores?",
        """
SELECT unit, path, score, nearest_by_text, nearest_by_patch FROM explaining_normals ORDER BY score DESC LIMIT 6""",
    ),
    (
        "How many images arrived in each week?",
        """
SELECT unit, week, sum(images) AS images FROM arrivals_by_week GROUP BY ALL ORDER BY unit, week""",
    ),
    (
        "Which reasons are given most often, and for what kind of image?",
        """
SELECT attribute, kind, sum(images) AS images, avg(mean_strength) AS strength
FROM findings_by_reason GROUP BY ALL ORDER BY images DESC, attribute, kind LIMIT 8""",
    ),
    (
        "Which test images lack a part that every training image shows?",
        """
SELECT i.unit, i.path, i.kind, r.name AS lacks
FROM images i JOIN normal_rules r USING (unit)
ANTI JOIN descriptions d ON (d.unit, d.image_id, d.object_class) = (i.unit, i.image_id, r.object_class)
WHERE i.split = 'test' AND r."count" > 0 ORDER BY i.unit, i.path LIMIT 6""",
    ),
    (
        "Which bank carries the verdicts?",
        """
SELECT kind, count(*) AS anomalous, avg(share_text) AS text, avg(share_objects) AS objects, avg(share_patches) AS patches
FROM verdicts JOIN images USING (unit, image_id) WHERE verdict = 'anomalous' AND split = 'test'
GROUP BY kind ORDER BY kind""",
    ),
    (
        "How far apart are the scores of good and bad images?",
        """
SELECT i.unit, kind, quantile_cont(score, [0.1, 0.5, 0.9]) AS "10 %, median, 90 %"
FROM scores JOIN images i USING (unit, image_id) WHERE split = 'test' GROUP BY ALL ORDER BY i.unit, kind""",
    ),
    (
        "Where do the parts of each class lie in the normal images?",
        """
PIVOT (SELECT coalesce(c.one, object_class) AS part, "position" FROM objects JOIN images i USING (unit, image_id)
       LEFT JOIN classes c USING (unit, object_class) WHERE unit = 'demo.hardware_kit' AND i.split = 'train')
ON "position" USING count(*) ORDER BY part""",
    ),
    (
        "Which normal image holds the smallest part of each class, and which the largest?",
        """
SELECT object_class, arg_min(path, size) AS smallest, 100 * min(size) AS "%", arg_max(path, size) AS largest,
       100 * max(size) AS "% "
FROM objects JOIN images USING (unit, image_id) WHERE unit = 'demo.hardware_kit' AND split = 'train'
GROUP BY object_class ORDER BY object_class""",
    ),
    (
        "Which descriptions do most normal images share?",
        """
SELECT unit, count(DISTINCT image_id) AS images, image_text
FROM descriptions JOIN images USING (unit, image_id) WHERE split = 'train'
GROUP BY ALL ORDER BY images DESC, unit, image_text LIMIT 4""",
    ),
    (
        "Which verdicts are too close to call: within a tenth of the threshold?",
        """
SELECT i.unit, path, kind, verdict, score, v.threshold
FROM verdicts v JOIN images i USING (unit, image_id)
WHERE abs(score - v.threshold) < 0.1 * v.threshold AND split = 'test' ORDER BY i.unit, path LIMIT 8""",
    ),
    (
        "How many test images of each defect were found?",
        """
SELECT unit, kind, defect, count(*) FILTER (verdict = 'anomalous') AS found, count(*) AS of
FROM images JOIN verdicts USING (unit, image_id) WHERE split = 'test' AND kind <> 'good' GROUP BY ALL ORDER BY ALL""",
    ),
    (
        "What would the verdicts be without one of the banks?",
        """
SELECT unit, count(*) FILTER (kind <> 'good' AND score > threshold) AS "all banks",
       count(*) FILTER (kind <> 'good' AND "s_objects+patches" > threshold) AS "without text",
       count(*) FILTER (kind <> 'good' AND "s_text+patches" > threshold) AS "without objects",
       count(*) FILTER (kind <> 'good' AND "s_text+objects" > threshold) AS "without patches"
FROM scores JOIN images USING (unit, image_id) JOIN (SELECT unit, threshold FROM units) USING (unit)
WHERE split = 'test' GROUP BY unit ORDER BY unit""",
    ),
    (
        "What was all this computed from?",
        """
SELECT unit, part, left(version, 12) AS version, meaning FROM versions
WHERE unit IN ('', 'demo.hardware_kit') AND part IN ('schema', 'text_bank.parquet', 'object_bank.safetensors',
                                                     'patch_bank.safetensors', 'calibration.json') ORDER BY unit, part""",
    ),
)
