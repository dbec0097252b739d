SELECT stage, model, left(revision, 12) AS revision, json_get_float(parameters, 'parameters', 'temperature') AS temperature,
       json_get_float(parameters, 'parameters', 'top_p') AS top_p,
       json_get_int(parameters, 'parameters', 'max_tokens') AS max_tokens, count(DISTINCT call_id) AS calls
FROM run.calls
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY stage, model, revision, temperature, top_p, max_tokens
