-- How alike the questions are among themselves, over at most 200 of each kind.
SELECT 'kept' AS questions, count(*) AS n, self_bleu(question) AS self_bleu
FROM (SELECT question FROM run.curated WHERE question IS NOT NULL ORDER BY stable_hash(id), id LIMIT 200)
UNION ALL
SELECT 'rejected', count(*), self_bleu(question)
FROM (SELECT question FROM run.rejected WHERE question IS NOT NULL ORDER BY stable_hash(id), id LIMIT 200)
UNION ALL
SELECT 'seeds', count(*), self_bleu(question)
FROM (SELECT question FROM run.seeds ORDER BY stable_hash(seed_id), seed_id LIMIT 200)
ORDER BY questions
