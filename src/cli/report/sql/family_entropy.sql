-- How evenly items are spread over families: 1 where each has as many, 0 where there is one.
SELECT items, families, round(entropy, 3) AS bits,
       round(CASE WHEN families > 1 THEN entropy / log(2, families) ELSE 0 END, 3) AS evenness
FROM (SELECT items, count(*) AS families, -sum(p * log(2, p)) AS entropy
      FROM (SELECT items, CAST(n AS DOUBLE) / sum(n) OVER (PARTITION BY items) AS p
            FROM (SELECT 'kept' AS items, family, count(*) AS n FROM run.curated GROUP BY family
                  UNION ALL SELECT 'rejected', family, count(*) FROM run.rejected GROUP BY family
                  UNION ALL SELECT 'seeds', family, count(*) FROM run.seeds GROUP BY family))
      GROUP BY items)
ORDER BY items
