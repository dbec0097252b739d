-- Words of a question; 100 stands for 100 and more.
SELECT least(word_count(question) / 5 * 5, 100) AS words,
       count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected
FROM (SELECT question, true AS kept FROM run.curated UNION ALL SELECT question, false FROM run.rejected)
WHERE question IS NOT NULL
GROUP BY words ORDER BY words
