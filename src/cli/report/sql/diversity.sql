-- Of the n-grams of words in questions, the share of distinct ones, over at most 1000 questions of each kind.
SELECT 'kept' AS questions, count(*) AS n, distinct_n(question, 1) AS distinct_1, distinct_n(question, 2) AS distinct_2,
       distinct_n(question, 3) AS distinct_3
FROM (SELECT question FROM run.curated WHERE question IS NOT NULL ORDER BY stable_hash(id), id LIMIT 1000)
UNION ALL
SELECT 'rejected', count(*), distinct_n(question, 1), distinct_n(question, 2), distinct_n(question, 3)
FROM (SELECT question FROM run.rejected WHERE question IS NOT NULL ORDER BY stable_hash(id), id LIMIT 1000)
UNION ALL
SELECT 'seeds', count(*), distinct_n(question, 1), distinct_n(question, 2), distinct_n(question, 3)
FROM (SELECT question FROM run.seeds ORDER BY stable_hash(seed_id), seed_id LIMIT 1000)
ORDER BY questions
