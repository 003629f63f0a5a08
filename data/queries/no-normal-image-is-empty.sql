-- title: a unit with object classes shows objects in every normal image
-- expect: no rows
SELECT i.unit, i.image_id, i.path
FROM images i JOIN descriptions d USING (unit, image_id)
WHERE i.kind = 'good' AND d.object_class = '' AND i.unit IN (SELECT unit FROM text_bank)
ORDER BY i.unit, i.path
