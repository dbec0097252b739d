//! The conversation of an item where the pipeline gave none: the user asks the question, the assistant answers.
//! In: the item's columns. Out: `messages`, and `text`, the same conversation as running text.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::schema::{item, message_fields};

/// What a conversation is made of.
pub(crate) struct Parts<'a> {
    pub passage: Option<&'a StringArray>,
    pub question: &'a StringArray,
    pub options: &'a ListArray,
    pub reasoning: &'a StringArray,
    pub answer_text: &'a StringArray,
}

/// `messages` with each NULL filled: one user message (passage, question, lettered options) and one assistant message
/// (reasoning, answer), their parts parted by an empty line. A row without question or answer stays NULL.
pub(crate) fn fill_messages(messages: &ListArray, parts: &Parts<'_>) -> Result<ListArray> {
    if messages.null_count() == 0 {
        return Ok(messages.clone());
    }
    let (mut roles, mut contents) = (StringBuilder::new(), StringBuilder::new());
    let mut lengths = Vec::with_capacity(messages.len());
    let mut valid = Vec::with_capacity(messages.len());
    let mut scratch = String::new();
    for row in 0..messages.len() {
        let count = if messages.is_valid(row) {
            let given = messages.value(row);
            let given = given.as_struct();
            given.column(0).as_string::<i32>().iter().for_each(|role| roles.append_option(role));
            given.column(1).as_string::<i32>().iter().for_each(|content| contents.append_option(content));
            given.len()
        } else if parts.question.is_valid(row) && parts.answer_text.is_valid(row) {
            scratch.clear();
            ask(&mut scratch, parts, row);
            roles.append_value("user");
            contents.append_value(&scratch);
            scratch.clear();
            for part in [parts.reasoning, parts.answer_text] {
                paragraph(&mut scratch, value(part, row));
            }
            roles.append_value("assistant");
            contents.append_value(&scratch);
            2
        } else {
            lengths.push(0);
            valid.push(false);
            continue;
        };
        lengths.push(count);
        valid.push(true);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(roles.finish()), Arc::new(contents.finish())];
    let items = StructArray::try_new(message_fields(), columns, None)?;
    Ok(ListArray::try_new(
        item(DataType::Struct(message_fields())),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(items),
        Some(NullBuffer::from(valid)),
    )?)
}

/// `texts` with each NULL filled by the contents of the row's messages, parted by empty lines. A row without messages
/// stays NULL.
pub(crate) fn fill_texts(texts: &StringArray, messages: &ListArray) -> StringArray {
    if texts.null_count() == 0 {
        return texts.clone();
    }
    let mut filled = StringBuilder::new();
    let mut scratch = String::new();
    for row in 0..texts.len() {
        if texts.is_valid(row) {
            filled.append_value(texts.value(row));
        } else if messages.is_valid(row) {
            scratch.clear();
            let messages = messages.value(row);
            for content in messages.as_struct().column(1).as_string::<i32>().iter().flatten() {
                paragraph(&mut scratch, content);
            }
            filled.append_value(&scratch);
        } else {
            filled.append_null();
        }
    }
    filled.finish()
}

/// Writes passage, question and options.
fn ask(out: &mut String, parts: &Parts<'_>, row: usize) {
    if let Some(passage) = parts.passage {
        paragraph(out, value(passage, row));
    }
    paragraph(out, value(parts.question, row));
    if parts.options.is_null(row) {
        return;
    }
    let options = parts.options.value(row);
    for (place, option) in options.as_string::<i32>().iter().enumerate() {
        out.push_str(if place == 0 { "\n\n" } else { "\n" });
        let option = option.unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = match u8::try_from(place).ok().filter(|place| *place < 26) {
            Some(letter) => write!(out, "{}. {option}", char::from(b'A' + letter)),
            None => write!(out, "{}. {option}", place + 1),
        };
    }
}

fn value(texts: &StringArray, row: usize) -> &str {
    if texts.is_valid(row) { texts.value(row) } else { "" }
}

/// A blank text is no paragraph. Others stand as they are: the indentation of code is part of it.
fn paragraph(out: &mut String, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push_str("\n\n");
    }
    out.push_str(text);
}
