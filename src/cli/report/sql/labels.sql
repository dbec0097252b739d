SELECT format, answer_text AS label, count(*) AS items
FROM run.curated WHERE format IN ('yes_no', 'nli')
GROUP BY format, label ORDER BY format, label
