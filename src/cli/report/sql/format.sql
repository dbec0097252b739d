SELECT coalesce(format, 'unknown') AS format, count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected,
       round(avg(CASE WHEN kept THEN 1.0 ELSE 0.0 END), 3) AS share_kept
FROM (SELECT format, true AS kept FROM run.curated UNION ALL SELECT format, false FROM run.rejected)
GROUP BY 1 ORDER BY count(*) DESC, 1
