-- Verdicts: the last checks, and the columns that are published.
-- An item is published as one question that stands alone: what comes before it is part of it.
CREATE VIEW verdicts AS
SELECT CASE WHEN format = 'nli' THEN concat_ws(chr(10), concat('First: ', passage), concat('Second: ', question),
                                             'Does the second follow from the first?')
            ELSE concat_ws(chr(10), passage, question) END AS question,
       options,
       answer_text,
       reasoning,
       knowledge,
       task, family, capability, format, language, license,
       item_key,
       [seed_id] AS seed_ids,
       operator,
       array_remove(array_distinct([coalesce(generate_call['model'], ''), coalesce(solve_call[1]['model'], ''),
                                    coalesce(judge_call['model'], ''), coalesce(enrich_call['model'], '')]), '') AS models,
       array_concat(call_refs('generate', generate_call), call_refs('solve', solve_call), call_refs('judge', judge_call),
                    call_refs('enrich', enrich_call)) AS calls,
       votes,
       array_concat(reasons, reasons(
           'not_enriched',       cardinality(reasons) = 0 AND enrich_call['error'] IS NOT NULL,
           'reasoning_length',   cardinality(reasons) = 0 AND word_count(reasoning) < 3,
           'reasoning_repeats',  cardinality(reasons) = 0 AND is_repetitive(reasoning),
           'knowledge_repeats',  cardinality(reasons) = 0 AND is_repetitive(array_to_string(knowledge, ' ')),
           'reasoning_disagrees', cardinality(reasons) = 0 AND ends_elsewhere(reasoning, answer_text, options, format),
           'names_letters',      cardinality(reasons) = 0 AND speaks_of_letters(reasoning),
           'fact_is_answer',     cardinality(reasons) = 0 AND answer_in_options(answer_text, knowledge),
           'code_fails',         fails_when_run(CASE WHEN cardinality(reasons) = 0 THEN answer_text END, seed_answer, format)
       )) AS reasons
FROM enriched;
