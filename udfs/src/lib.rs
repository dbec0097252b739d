//! SQL functions for curating questions and answers, usable in any DataFusion session: one file a function, the SQL
//! reference of each in its module doc. Text comes in as any of Arrow's three string types and goes out as Utf8View.

mod answer_in_options;
mod answers_as_options;
mod approx_tokens;
mod call_refs;
mod concludes_otherwise;
mod detect_language;
mod detokenize;
mod distinct_n;
mod extract_final_number;
mod gold_index;
mod gopher_repetition;
mod has_duplicate_options;
mod has_near_equal_options;
mod has_unclosed_delimiters;
mod is_number;
mod is_option_letter;
mod is_refusal;
mod jinja;
mod last_boxed;
mod longest_option;
mod majority_vote;
mod majority_vote_agg;
mod mask_numbers;
mod math_equal;
mod mentions_missing_context;
mod names_option_letter;
mod ngram_containment;
mod normalize_math_answer;
mod normalize_text;
mod option_index;
mod option_label;
mod option_text;
mod python_list;
mod python_shuffle;
mod python_syntax_error;
mod reasons;
mod repeated_ngram_fraction;
mod rouge_l;
mod row_json;
mod same_text;
mod sample_quota;
mod script_fraction;
mod self_bleu;
mod sentence_count;
mod shuffle_options;
mod smallest;
mod stable_hash;
mod strip;
mod token_f1;
mod word_count;

// What several functions share.
mod arguments;
mod canonical_hash;
mod function;
mod math;
mod number;
mod option_letter;
mod python_literal;
mod words;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use crate::function::{Definition, scalar};
pub use crate::jinja::template_variables;
pub use crate::jinja::unrendered::{Unrendered, jinja_prompt, unrendered};
pub use crate::normalize_text::without_punctuation;
pub use crate::python_list::list as read_python_list;
pub use crate::rouge_l::longest_common_subsequence;

/// Every scalar function, in the order of the reference.
const SCALAR: &[&Definition] = &[
    // prompts
    &jinja::JINJA,
    &jinja::TRY_JINJA,
    &jinja::TRY_JINJA_LIST,
    // answers and options
    &normalize_text::NORMALIZE_TEXT,
    &same_text::SAME_TEXT,
    &answer_in_options::ANSWER_IN_OPTIONS,
    &has_duplicate_options::HAS_DUPLICATE_OPTIONS,
    &has_near_equal_options::HAS_NEAR_EQUAL_OPTIONS,
    &option_index::OPTION_INDEX,
    &option_text::OPTION_TEXT,
    &option_label::OPTION_LABEL,
    &is_option_letter::IS_OPTION_LETTER,
    &longest_option::LONGEST_OPTION,
    &shuffle_options::SHUFFLE_OPTIONS,
    &answers_as_options::ANSWERS_AS_OPTIONS,
    &majority_vote::MAJORITY_VOTE,
    &gold_index::GOLD_INDEX,
    &python_list::PYTHON_LIST,
    &python_shuffle::PYTHON_SHUFFLE,
    // numbers
    &is_number::IS_NUMBER,
    &extract_final_number::EXTRACT_FINAL_NUMBER,
    &math_equal::MATH_EQUAL,
    &mask_numbers::MASK_NUMBERS,
    &last_boxed::LAST_BOXED,
    &normalize_math_answer::NORMALIZE_MATH_ANSWER,
    // raw text
    &strip::STRIP,
    &detokenize::DETOKENIZE,
    // the look of a text
    &word_count::WORD_COUNT,
    &sentence_count::SENTENCE_COUNT,
    &approx_tokens::APPROX_TOKENS,
    &script_fraction::SCRIPT_FRACTION,
    &detect_language::DETECT_LANGUAGE,
    &repeated_ngram_fraction::REPEATED_NGRAM_FRACTION,
    &gopher_repetition::GOPHER_REPETITION,
    &has_unclosed_delimiters::HAS_UNCLOSED_DELIMITERS,
    &python_syntax_error::PYTHON_SYNTAX_ERROR,
    &is_refusal::IS_REFUSAL,
    &mentions_missing_context::MENTIONS_MISSING_CONTEXT,
    &names_option_letter::NAMES_OPTION_LETTER,
    &concludes_otherwise::CONCLUDES_OTHERWISE,
    // two texts
    &rouge_l::ROUGE_L,
    &token_f1::TOKEN_F1,
    &ngram_containment::NGRAM_CONTAINMENT,
    // order
    &stable_hash::STABLE_HASH,
    &row_json::ROW_JSON,
];

/// All scalar functions of this crate.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let own = [reasons::reasons(), call_refs::call_refs()];
    SCALAR.iter().map(|definition| scalar(definition)).chain(own).map(Arc::new).collect()
}

/// All aggregate functions of this crate.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(majority_vote_agg::majority_vote_agg()),
        Arc::new(distinct_n::distinct_n()),
        Arc::new(self_bleu::self_bleu()),
        Arc::new(smallest::smallest()),
    ]
}

/// All window functions of this crate.
pub fn window_functions() -> Vec<Arc<WindowUDF>> {
    vec![Arc::new(sample_quota::sample_quota())]
}

/// Registers all functions of this crate; a function of the same name that was there before is replaced.
pub fn register_all(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    for function in window_functions() {
        registry.register_udwf(function)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::{Array, ArrayRef, Int64Array, ListBuilder, StringViewArray, StringViewBuilder, new_null_array};
    use datafusion_expr::ColumnarValue;
    use proptest::prelude::*;

    use super::*;
    use crate::arguments::Arguments;
    use crate::function::{Kind, text_item};

    fn invoke(function: &Definition, columns: Vec<ArrayRef>) -> Result<ArrayRef> {
        let rows = columns[0].len();
        let columns = columns.into_iter().map(ColumnarValue::Array).collect();
        (function.invoke)(&Arguments::new(function.name, columns, rows)?)
    }

    #[test]
    fn every_function_has_its_own_name_and_a_reference() {
        let names: HashSet<_> = SCALAR.iter().map(|function| function.name).collect();
        assert_eq!(names.len(), SCALAR.len());
        for function in SCALAR {
            assert!(!function.description.is_empty() && function.example.contains(function.name), "{}", function.name);
        }
    }

    #[test]
    fn null_gives_null_but_in_hashes() {
        for function in SCALAR {
            let nulls = function.parameters.iter().map(|(_, kind)| match kind {
                Kind::Text | Kind::Struct | Kind::Any => new_null_array(&function::text(), 2),
                Kind::TextList => new_null_array(&function::text_list(), 2),
                Kind::Integer => new_null_array(&arrow::datatypes::DataType::Int64, 2),
            });
            let values = invoke(function, nulls.collect()).unwrap();
            assert_eq!(values.data_type(), &(function.returns)(), "{}", function.name);
            assert_eq!(
                values.null_count(),
                if ["stable_hash", "row_json"].contains(&function.name) { 0 } else { 2 },
                "{}",
                function.name
            );
        }
    }

    proptest! {
        #[test]
        fn no_function_panics(
            texts in prop::collection::vec(r"([a-cA-C0-9 .,$%(){}\\/`'\n-]|####|\PC|the |[)] ){0,12}", 3),
            list in prop::collection::vec(prop::option::of(r"([A-C0-9.,$ -]|\PC){0,4}"), 0..5),
            number in -1i64..4,
        ) {
            for function in SCALAR {
                let columns = function.parameters.iter().enumerate().map(|(position, (_, kind))| -> ArrayRef {
                    match kind {
                        Kind::Text | Kind::Struct | Kind::Any => {
                            Arc::new(StringViewArray::from(vec![Some(texts[position].as_str())]))
                        }
                        Kind::TextList => {
                            let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
                            lists.append_value(list.clone());
                            Arc::new(lists.finish())
                        }
                        Kind::Integer => Arc::new(Int64Array::from(vec![number])),
                    }
                });
                // An error, as for n = 0 or an unknown script, is fine.
                if let Ok(values) = invoke(function, columns.collect()) {
                    prop_assert_eq!(values.len(), 1);
                }
            }
        }
    }
}
