-- Words of an answer; 30 stands for 30 and more.
SELECT least(word_count(answer_text), 30) AS words,
       count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected
FROM (SELECT answer_text, true AS kept FROM run.curated UNION ALL SELECT answer_text, false FROM run.rejected)
WHERE answer_text IS NOT NULL
GROUP BY words ORDER BY words
