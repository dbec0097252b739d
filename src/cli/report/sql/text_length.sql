-- About how many tokens the text of a kept item has; 1000 stands for 1000 and more.
SELECT least(approx_tokens(text) / 25 * 25, 1000) AS tokens, count(*) AS kept
FROM run.curated WHERE text IS NOT NULL
GROUP BY tokens ORDER BY tokens
