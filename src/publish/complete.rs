//! Fills in what the sink itself knows: id, messages, text, config_sha256 and split.
//! In: aligned columns. Out: a batch of the schema `rejected`, in which kept rows have no reasons.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_err};

use super::align::Aligned;
use super::conversation::{Parts, fill_messages, fill_texts};
use super::item_id::{IdParts, fill_ids};
use super::schema::{SPLIT, rejected_schema};

/// Completes one batch. A row whose own `split` is another than `train` is an error: such a row must never be here.
pub(crate) fn complete(aligned: Aligned, config_sha256: &str) -> Result<RecordBatch> {
    let schema = rejected_schema();
    let Aligned { mut columns, passage, rows } = aligned;
    let place = |name: &str| schema.index_of(name);
    let text = |columns: &[ArrayRef], name: &str| -> Result<StringArray> {
        Ok(columns[place(name)?].as_string::<i32>().clone())
    };
    let list =
        |columns: &[ArrayRef], name: &str| -> Result<ListArray> { Ok(columns[place(name)?].as_list::<i32>().clone()) };

    let (question, answer_text) = (text(&columns, "question")?, text(&columns, "answer_text")?);
    let (options, seed_ids) = (list(&columns, "options")?, list(&columns, "seed_ids")?);
    let reasoning = text(&columns, "reasoning")?;

    let parts = IdParts { question: &question, options: &options, answer_text: &answer_text, seed_ids: &seed_ids };
    let ids = fill_ids(&text(&columns, "id")?, &parts);

    let parts = Parts {
        passage: passage.as_ref(),
        question: &question,
        options: &options,
        reasoning: &reasoning,
        answer_text: &answer_text,
    };
    let messages = fill_messages(&list(&columns, "messages")?, &parts)?;
    let texts = fill_texts(&text(&columns, "text")?, &messages);
    let splits = text(&columns, "split")?;
    if let Some(row) = (0..rows).find(|row| splits.is_valid(*row) && splits.value(*row) != SPLIT) {
        return exec_err!(
            "the item {} comes from the split '{}'; only items from '{SPLIT}' are published",
            ids.value(row),
            splits.value(row)
        );
    }
    let config = fill(&text(&columns, "config_sha256")?, config_sha256);
    let splits = fill(&splits, SPLIT);

    let filled: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(ids)),
        ("messages", Arc::new(messages)),
        ("text", Arc::new(texts)),
        ("config_sha256", Arc::new(config)),
        ("split", Arc::new(splits)),
    ];
    for (name, column) in filled {
        columns[place(name)?] = column;
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// `texts` with each NULL replaced by `value`.
fn fill(texts: &StringArray, value: &str) -> StringArray {
    let mut filled = StringBuilder::with_capacity(texts.len(), texts.len() * value.len());
    texts.iter().for_each(|text| filled.append_value(text.unwrap_or(value)));
    filled.finish()
}
