-- Options that are shuffled: each place should have the same number of right answers. Of yes and no, and of entailment
-- and its kin, the order is fixed; they are counted by label.
SELECT options, place, count(*) AS items, round(sum(count(*)) OVER (PARTITION BY options) / options, 1) AS expected
FROM (SELECT cardinality(options) AS options, array_position(options, answer_text) AS place
      FROM run.curated WHERE cardinality(options) > 1 AND format NOT IN ('yes_no', 'nli'))
WHERE place IS NOT NULL
GROUP BY options, place ORDER BY options, place
