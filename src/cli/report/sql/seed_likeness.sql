-- ROUGE-L of a question to that of its seed, in steps of 0.05.
SELECT floor(rouge_l(i.question, s.question) * 20) / 20 AS rouge_l,
       count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected
FROM (SELECT question, unnest(seed_ids) AS seed_id, true AS kept FROM run.curated
      UNION ALL SELECT question, unnest(seed_ids), false FROM run.rejected) AS i
JOIN run.seeds AS s ON s.seed_id = i.seed_id
WHERE i.question IS NOT NULL
GROUP BY rouge_l ORDER BY rouge_l
