-- title: every verdict is what its score and threshold say
-- expect: {value: 0}
-- level: stop
SELECT count(*) FROM verdicts WHERE (verdict = 'anomalous') <> (score > coalesce(threshold, 'inf'))
