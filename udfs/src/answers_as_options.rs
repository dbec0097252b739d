//! `answers_as_options(answers TEXT[], options TEXT[], seed, …) → TEXT[]`: several answers to one question, each as the text
//! of the option that it means, where each was asked with the options in another order. NULL for NULL answers.
//!
//! ```sql
//! SELECT answers_as_options(['Nile', 'B', NULL], ['Nile', 'Amazon'], 'question 1');
//! ```
//!
//! The answer at place i, from 0, was given to the options in the order of `shuffle_options(options, seed, …, i)`, which a
//! solver's prompt writes as `shuffle_options(options, seed, …, sample)`: a letter means the option at that place there. An
//! answer that means no option stays as it is, and so do all where options are NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListBuilder, StringViewBuilder};
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::canonical_hash::{feed, hash_arguments};
use crate::function::{Definition, Kind, text_item, text_list};
use crate::option_text::option_text;
use crate::shuffle_options::shuffle;

pub(crate) const ANSWERS_AS_OPTIONS: Definition = Definition {
    name: "answers_as_options",
    parameters: &[("answers", Kind::TextList), ("options", Kind::TextList), ("seed", Kind::Any)],
    variadic: true,
    returns: text_list,
    invoke,
    description: "Answers to options that stood in another order each time, as the texts of the options that they mean.",
    example: "SELECT answers_as_options(['Nile', 'B', NULL], ['Nile', 'Amazon'], 'question 1');",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (answers, options) = (arguments.text_list(0)?, arguments.text_list(1)?);
    let mut texts = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for row in 0..arguments.rows {
        let Some(mut answers) = answers.get(row) else {
            texts.append_null();
            continue;
        };
        if let Some(options) = options.get(row) {
            for (sample, answer) in answers.iter_mut().enumerate() {
                let Some(text) = *answer else { continue };
                let mut hasher = hash_arguments(arguments, 2, row)?;
                feed(&mut hasher, &Int64Array::from(vec![sample as i64]), 0)?;
                let mut shown = options.clone();
                shuffle(&mut shown, hasher.finalize_xof());
                *answer = option_text(&shown, text).or(*answer);
            }
        }
        texts.append_value(answers);
    }
    Ok(Arc::new(texts.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringViewArray};
    use datafusion_expr::ColumnarValue;

    use super::*;
    use crate::shuffle_options::SHUFFLE_OPTIONS;

    fn list(items: &[&str]) -> ArrayRef {
        let mut list = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
        list.append_value(items.iter().map(|item| Some(*item)));
        Arc::new(list.finish())
    }

    fn call(function: &Definition, columns: Vec<ArrayRef>) -> Vec<String> {
        let columns = columns.into_iter().map(ColumnarValue::Array).collect();
        let values = (function.invoke)(&Arguments::new(function.name, columns, 1).unwrap()).unwrap();
        let texts = values.as_list::<i32>().value(0);
        texts.as_string_view().iter().map(|text| text.unwrap().to_owned()).collect()
    }

    #[test]
    fn a_letter_means_the_option_at_that_place_in_its_own_sample() {
        let options = ["Nile", "Amazon", "Rhine", "Volga"];
        let seed: ArrayRef = Arc::new(StringViewArray::from(vec!["q"]));
        let answers =
            call(&ANSWERS_AS_OPTIONS, vec![list(&["B", "B", "B", "rhine", "?"]), list(&options), Arc::clone(&seed)]);
        for (sample, answer) in answers.iter().take(3).enumerate() {
            let sample: ArrayRef = Arc::new(Int64Array::from(vec![sample as i64]));
            let shown = call(&SHUFFLE_OPTIONS, vec![list(&options), Arc::clone(&seed), sample]);
            assert_eq!(answer, &shown[1]);
        }
        assert_eq!(&answers[3..], ["Rhine", "?"]);
    }
}
