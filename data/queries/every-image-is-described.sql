-- title: every image has a description
-- expect: no rows
-- level: stop
SELECT i.unit, i.image_id, i.path
FROM images i ANTI JOIN descriptions d USING (unit, image_id)
ORDER BY i.unit, i.path
