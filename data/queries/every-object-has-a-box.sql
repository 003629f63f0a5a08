-- title: every described object was segmented and lies within its box
-- expect: no rows
SELECT o.unit, o.image_id, i.path, o.object_class, o.number
FROM objects o JOIN images i USING (unit, image_id)
WHERE o.x0 IS NULL OR o.x1 <= o.x0 OR o.y1 <= o.y0
ORDER BY o.unit, i.path
