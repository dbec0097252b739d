-- How many items came how far. A seed may give several; a stage counts the items that a call was made for.
WITH items AS (
    SELECT row_number() OVER () AS item, *
    FROM (SELECT seed_ids, calls, CAST([] AS TEXT[]) AS reasons, true AS kept FROM run.curated
          UNION ALL SELECT seed_ids, calls, reasons, false FROM run.rejected)
)
SELECT step, items
FROM (SELECT 1 AS place, 'seeds' AS step, count(DISTINCT seed_id) AS items FROM (SELECT unnest(seed_ids) AS seed_id FROM items)
      UNION ALL SELECT 2, 'generated', count(*) FROM items
      UNION ALL SELECT 3, 'parsed', count(*) FROM items WHERE NOT array_has_any(reasons, ['call_failed', 'unparsed'])
      UNION ALL SELECT 4, CASE WHEN stage LIKE '%e' THEN stage || 'd' ELSE stage || 'ed' END, count(DISTINCT item)
                FROM (SELECT item, call['stage'] AS stage FROM (SELECT item, unnest(calls) AS call FROM items))
                WHERE stage <> 'generate' GROUP BY stage
      UNION ALL SELECT 5, 'kept', count(*) FROM items WHERE kept)
ORDER BY place, items DESC, step
