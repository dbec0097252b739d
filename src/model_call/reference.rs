//! The reference of `generate`, `enrich` and `embed`: what the prompt completes and `seedmill functions` prints.

/// One named argument of a table function.
#[derive(Debug, Clone, Copy)]
pub struct TableArgument {
    pub name: &'static str,
    /// What stands behind `=>`.
    pub takes: &'static str,
    pub description: &'static str,
}

/// A function that stands in FROM.
#[derive(Debug, Clone, Copy)]
pub struct TableFunction {
    pub name: &'static str,
    pub description: &'static str,
    /// What it gives beside the input's columns.
    pub gives: &'static str,
    pub arguments: &'static [TableArgument],
    /// Statements that can be run as they are, where their models and tables are there.
    pub example: &'static str,
}

const fn argument(name: &'static str, takes: &'static str, description: &'static str) -> TableArgument {
    TableArgument { name, takes, description }
}

const MODEL: TableArgument = argument("model", "literal, required", "a model of seedmill.toml");
const PROMPT: TableArgument =
    argument("prompt", "expression", "the user message; NULL makes no call, the row passes with NULL results");
const SYSTEM: TableArgument = argument("system", "expression", "the system message");
const MESSAGES: TableArgument = argument(
    "messages",
    "expression",
    "instead of prompt and system: a list of {'role': …, 'content': …}; where a text of it is NULL, no call",
);
const WHEN: TableArgument =
    argument("when", "expression", "true or false for a row; where it is not true no call is made");
const RETURNS: TableArgument = argument(
    "returns",
    "literal",
    "columns of the answer as SQL types, such as 'question TEXT, options VARCHAR(60)[4], note TEXT NULL'; sent as a JSON \
     schema",
);
const OUTPUT: TableArgument =
    argument("output", "literal", "without returns: the name of the one text column, completion if not given");
const ITEMS: TableArgument =
    argument("items", "1 to 1000", "with returns: one answer lists so many items, one row each");
const SAMPLES: TableArgument = argument(
    "samples",
    "1 to 1000",
    "independent calls for a row: more rows in generate, lists in enrich; sample in a prompt is the ordinal, from 0",
);
const TEMPERATURE: TableArgument = argument("temperature", "literal", "sent to the server");
const TOP_P: TableArgument = argument("top_p", "literal", "sent to the server");
const MAX_TOKENS: TableArgument = argument("max_tokens", "literal", "sent to the server");
const SEED: TableArgument = argument("seed", "literal", "sent to the server, hashed with the ordinal");
const STOP: TableArgument = argument("stop", "literal", "a text or a list of texts, sent to the server");
const REPAIR: TableArgument = argument(
    "repair",
    "0 to 10",
    "with returns: so often an answer that does not fit is sent back with the error, each time as a call of its own",
);
const EXTRA: TableArgument = argument("extra", "literal", "more of the request as JSON: '{\"top_k\": 40}'");
const VARIANT: TableArgument = argument("variant", "literal", "another variant is another call, on purpose");
const ON_ERROR: TableArgument = argument(
    "on_error",
    "'keep', 'drop', 'fail'",
    "keep, if not given: the row stays, with the error in its call column",
);
const CALL_AS: TableArgument = argument("call_as", "literal", "the name of the call column");

/// The arguments of generate; those of enrich are the same without items.
const GENERATE: &[TableArgument] = &[
    MODEL,
    PROMPT,
    SYSTEM,
    MESSAGES,
    WHEN,
    RETURNS,
    REPAIR,
    OUTPUT,
    ITEMS,
    SAMPLES,
    TEMPERATURE,
    TOP_P,
    MAX_TOKENS,
    SEED,
    STOP,
    EXTRA,
    VARIANT,
    ON_ERROR,
    CALL_AS,
];

const ENRICH: &[TableArgument] = &[
    MODEL,
    PROMPT,
    SYSTEM,
    MESSAGES,
    WHEN,
    RETURNS,
    REPAIR,
    OUTPUT,
    SAMPLES,
    TEMPERATURE,
    TOP_P,
    MAX_TOKENS,
    SEED,
    STOP,
    EXTRA,
    VARIANT,
    ON_ERROR,
    CALL_AS,
];

const EMBED: &[TableArgument] = &[
    MODEL,
    argument("text", "expression, required", "the text to embed; NULL makes no call"),
    WHEN,
    argument("output", "literal", "the name of the vector's column, embedding if not given"),
    argument("dimensions", "literal", "the length of the vectors, sent to the server"),
    EXTRA,
    VARIANT,
    ON_ERROR,
    CALL_AS,
];

/// The table functions that make calls, in the order of a pipeline.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[
    TableFunction {
        name: "generate",
        description: "Asks a model for new rows: any number for each input row (items times samples). A failed call, or an \
                      answer without items, is one row with its error.",
        gives: "The returned columns, or completion, and generate_call: STRUCT(call_id, model, error, finish_reason, \
                reasoning, prompt_tokens, completion_tokens, cost_usd, latency_ms, replayed, item, sample).",
        arguments: GENERATE,
        example: "SELECT topic, question, answer_text\nFROM generate((SELECT 'bees' AS topic), model => 'local',\n    \
                  prompt => 'A question for pupils about ' || topic || ', with a short answer.',\n    \
                  returns => 'question VARCHAR(120), answer_text VARCHAR(40)', max_tokens => 80, seed => 1);",
    },
    TableFunction {
        name: "enrich",
        description: "Asks a model about each row: exactly one row for a row. With samples each returned column is a list.",
        gives: "The returned columns, or completion, and enrich_call: a STRUCT like generate_call without item and sample, \
                with samples a list of them.",
        arguments: ENRICH,
        example: "SELECT question, answer, majority_vote(answer) AS vote\nFROM enrich((SELECT 'What is 2 + 2?' AS \
                  question), model => 'local',\n    prompt => 'Question: ' || question || chr(10) || 'Answer in a few \
                  words:',\n    samples => 3, returns => 'answer VARCHAR(40)', max_tokens => 40, seed => 3);",
    },
    TableFunction {
        name: "embed",
        description: "Asks an embedding model for a vector of each row's text. Texts travel many in one request; each is a \
                      call of its own in the ledger.",
        gives: "embedding FLOAT[], or FLOAT[n] where the dimensions are known, and embed_call: STRUCT(call_id, model, error, \
                prompt_tokens, cost_usd, latency_ms, replayed).",
        arguments: EMBED,
        example: "SELECT question, embedding FROM embed(TABLE curated, model => 'embedder', text => question);",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::planner::{ARGUMENTS, EMBED_ARGUMENTS};
    use super::*;

    #[test]
    fn the_reference_names_what_the_planner_takes() {
        let names = |arguments: &[TableArgument]| arguments.iter().map(|a| a.name).collect::<BTreeSet<_>>();
        assert_eq!(names(GENERATE), BTreeSet::from(ARGUMENTS));
        assert_eq!(names(EMBED), BTreeSet::from(EMBED_ARGUMENTS));
        assert_eq!(&names(GENERATE) - &names(ENRICH), BTreeSet::from(["items"]));
    }
}
