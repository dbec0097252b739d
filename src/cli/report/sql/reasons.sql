-- An item with several reasons counts under each; `alone` are those that this reason alone keeps out.
SELECT reason, count(*) FILTER (WHERE n = 1) AS alone, count(*) FILTER (WHERE n > 1) AS with_others
FROM (SELECT unnest(array_distinct(reasons)) AS reason, cardinality(array_distinct(reasons)) AS n FROM run.rejected)
GROUP BY reason ORDER BY count(*) DESC, reason
