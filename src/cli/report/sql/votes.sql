-- The winner's share of the solvers' votes.
SELECT round(votes['share'], 2) AS share, count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE NOT kept) AS rejected
FROM (SELECT votes, true AS kept FROM run.curated UNION ALL SELECT votes, false FROM run.rejected)
WHERE votes['share'] IS NOT NULL
GROUP BY share ORDER BY share
