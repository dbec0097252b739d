SELECT coalesce(operator, 'unknown') AS operator, count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected,
       round(avg(CASE WHEN kept THEN 1.0 ELSE 0.0 END), 3) AS share_kept
FROM (SELECT operator, true AS kept FROM run.curated UNION ALL SELECT operator, false FROM run.rejected)
GROUP BY 1 ORDER BY count(*) DESC, 1
