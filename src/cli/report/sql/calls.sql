-- A call that two rows share counts once. Replayed calls came out of the ledger: `usd` is what the answers cost when they
-- were asked for, `usd_now` what this run paid.
SELECT stage, model, count(*) AS calls, count(*) FILTER (WHERE replayed) AS replayed,
       sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
       round(sum(cost_usd), 4) AS usd, round(coalesce(sum(cost_usd) FILTER (WHERE NOT replayed), 0), 4) AS usd_now
FROM (SELECT stage, call_id, model, bool_and(replayed) AS replayed, max(prompt_tokens) AS prompt_tokens,
             max(completion_tokens) AS completion_tokens, max(cost_usd) AS cost_usd
      FROM run.calls GROUP BY stage, call_id, model)
GROUP BY stage, model ORDER BY usd DESC, calls DESC, stage, model
