//! SQL functions for curating questions and answers, usable in any DataFusion session: one file a function, the SQL
//! reference of each in its module doc. Text comes in as any of Arrow's three string types and goes out as Utf8View.

mod answer_in_options;
mod approx_tokens;
mod call_refs;
mod extract_final_number;
mod has_duplicate_options;
mod has_unclosed_delimiters;
mod is_number;
mod is_option_letter;
mod is_refusal;
mod jinja;
mod longest_option;
mod majority_vote;
mod mask_numbers;
mod mentions_missing_context;
mod ngram_containment;
mod normalize_text;
mod option_index;
mod option_label;
mod option_text;
mod reasons;
mod repeated_ngram_fraction;
mod rouge_l;
mod same_text;
mod script_fraction;
mod sentence_count;
mod shuffle_options;
mod stable_hash;
mod word_count;

// What several functions share.
mod arguments;
mod canonical_hash;
mod function;
mod number;
mod option_letter;
mod words;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::function::{Definition, scalar};
pub use crate::jinja::template_variables;

/// Every scalar function, in the order of the reference.
const SCALAR: &[&Definition] = &[
    // prompts
    &jinja::JINJA,
    &jinja::TRY_JINJA,
    // answers and options
    &normalize_text::NORMALIZE_TEXT,
    &same_text::SAME_TEXT,
    &answer_in_options::ANSWER_IN_OPTIONS,
    &has_duplicate_options::HAS_DUPLICATE_OPTIONS,
    &option_index::OPTION_INDEX,
    &option_text::OPTION_TEXT,
    &option_label::OPTION_LABEL,
    &is_option_letter::IS_OPTION_LETTER,
    &longest_option::LONGEST_OPTION,
    &shuffle_options::SHUFFLE_OPTIONS,
    &majority_vote::MAJORITY_VOTE,
    // numbers
    &is_number::IS_NUMBER,
    &extract_final_number::EXTRACT_FINAL_NUMBER,
    &mask_numbers::MASK_NUMBERS,
    // the look of a text
    &word_count::WORD_COUNT,
    &sentence_count::SENTENCE_COUNT,
    &approx_tokens::APPROX_TOKENS,
    &script_fraction::SCRIPT_FRACTION,
    &repeated_ngram_fraction::REPEATED_NGRAM_FRACTION,
    &has_unclosed_delimiters::HAS_UNCLOSED_DELIMITERS,
    &is_refusal::IS_REFUSAL,
    &mentions_missing_context::MENTIONS_MISSING_CONTEXT,
    // two texts
    &rouge_l::ROUGE_L,
    &ngram_containment::NGRAM_CONTAINMENT,
    // order
    &stable_hash::STABLE_HASH,
];

/// All scalar functions of this crate.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let own = [reasons::reasons(), call_refs::call_refs()];
    SCALAR.iter().map(|definition| scalar(definition)).chain(own).map(Arc::new).collect()
}

/// All aggregate functions of this crate. There are none yet: votes are taken over lists by `majority_vote`.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    Vec::new()
}

/// Registers all functions of this crate; a function of the same name that was there before is replaced.
pub fn register_all(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    Ok(())
}
