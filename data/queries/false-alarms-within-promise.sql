-- title: no unit raises three times the false alarms that its threshold promises
-- expect: no rows
SELECT unit, false_alarm_rate_promised AS promised, false_alarm_rate_observed AS observed
FROM units
WHERE false_alarm_rate_observed > 3 * false_alarm_rate_promised AND test_good >= 20
ORDER BY unit
