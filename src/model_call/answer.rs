//! One answer's text read into the values of `returns`: leniently in form, strictly in type.
//! In: the completion's text. Out: one JSON object an item, checked against the return types.

use std::iter::Peekable;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{Result, exec_err};
use serde_json::{Map, Value};

use super::lenient_json::{Piece, list_start, pieces};
use super::quoted_number::quoted_number;
use super::returns::{ReturnColumn, ReturnType, Returns, arrow_fields};

/// The items of an answer, or one sentence that says what is wrong with it. Without `items` there is exactly one.
///
/// A text may quote a schema or an example before its answer: the first JSON in it that fits is the answer, and where
/// none fits the sentence is about the first.
pub fn read_items(text: &str, returns: &Returns, items: Option<u32>) -> Result<Vec<Value>, String> {
    let text = text.trim();
    let names_column = |value: &Value| returns.columns().iter().any(|column| value.get(&column.name).is_some());
    let (mut wrong, mut spare) = (None, None);
    let mut found = pieces(text).peekable();
    while let Some(Piece { start, end, value }) = found.next() {
        let list = match value {
            // Prose may hold brackets of its own.
            Ok(value) if !may_be_answer(&value) && (start, end) != (0, text.len()) => continue,
            Ok(value) if items.is_none() => Ok(vec![only(value)]),
            // One object where a list was asked for, or JSON Lines.
            Ok(value) if value.is_object() && value.get("items").is_none() && names_column(&value) => {
                let mut list = vec![value];
                list.extend(objects_in_a_row(text, end, &mut found, names_column));
                Ok(list)
            }
            Ok(value) => listed(value),
            // What is wrong with it is not said in serde_json's words: they would be in repairs, whose words are part of
            // their calls' identity, and other words would be paid for again.
            Err(_) => {
                let whole = items.and_then(|_| items_before_the_break(&text[start..end]));
                whole.ok_or_else(|| no_json(text))
            }
        };
        match list.and_then(|list| Ok((list.iter().any(names_column), check_items(list, returns)?))) {
            Ok((true, checked)) => return Ok(checked),
            // Where every column may be NULL, any object fits. One without a column is the answer only if no other is.
            Ok((false, checked)) => spare = spare.or(Some(checked)),
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    match (wrong, spare) {
        (Some(error), _) => Err(error),
        (None, Some(checked)) => Ok(checked),
        (None, None) => Err(no_json(text)),
    }
}

fn no_json(text: &str) -> String {
    format!("the answer holds no JSON: {}", excerpt(text))
}

/// Whether a value in prose may be an answer: an object, or a list of some.
fn may_be_answer(value: &Value) -> bool {
    match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => list.iter().any(Value::is_object),
        _ => false,
    }
}

/// The one value of an answer: a list of one is its element.
fn only(value: Value) -> Value {
    match value {
        Value::Array(mut list) if list.len() == 1 => list.remove(0),
        value => value,
    }
}

/// The list of items, which stands bare or under the key `items`. One object is a list of one.
fn listed(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list),
        Value::Object(mut object) => match object.remove("items") {
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(format!("'items' is {}, not a list", kind(&other))),
            None => Ok(vec![Value::Object(object)]),
        },
        other => Err(format!("the answer is {}, not a list of items", kind(&other))),
    }
}

/// The whole objects at the start of a list of items that is broken or cut off: what came is used.
fn items_before_the_break(broken: &str) -> Option<Vec<Value>> {
    let list = &broken[list_start(broken, "items")?..];
    let items = objects_in_a_row(list, 0, &mut pieces(list).peekable(), |_| true);
    (!items.is_empty()).then_some(items)
}

/// The objects that come next in a text with nothing but blanks and commas before each.
fn objects_in_a_row(
    text: &str,
    mut end: usize,
    found: &mut Peekable<impl Iterator<Item = Piece>>,
    belongs: impl Fn(&Value) -> bool,
) -> Vec<Value> {
    let mut list = Vec::new();
    while let Some(piece) = found.next_if(|piece| {
        piece.value.as_ref().is_ok_and(|value| value.is_object() && belongs(value))
            && text[end..piece.start].chars().all(|c| c == ',' || c.is_whitespace())
    }) {
        end = piece.end;
        list.extend(piece.value.ok());
    }
    list
}

fn check_items(list: Vec<Value>, returns: &Returns) -> Result<Vec<Value>, String> {
    let several = list.len() > 1;
    list.into_iter()
        .enumerate()
        .map(|(i, item)| {
            let place = if several { format!("items[{i}]") } else { String::new() };
            check_columns(item, returns.columns(), &place)
        })
        .collect()
}

fn check_columns(value: Value, columns: &[ReturnColumn], path: &str) -> Result<Value, String> {
    let Value::Object(mut object) = value else {
        return Err(match path {
            "" => format!("the answer is {}, not an object", kind(&value)),
            path => format!("'{path}' is {}, not an object", kind(&value)),
        });
    };
    let mut checked = Map::with_capacity(columns.len());
    for column in columns {
        let path = if path.is_empty() { column.name.clone() } else { format!("{path}.{}", column.name) };
        let value = match object.remove(&column.name) {
            None | Some(Value::Null) if column.nullable => Value::Null,
            Some(value) => check(value, &column.ty, &path)?,
            None => return Err(format!("'{path}' is missing")),
        };
        checked.insert(column.name.clone(), value);
    }
    Ok(Value::Object(checked))
}

/// A value as its type says, or what is wrong with it. A number in quotes is read as a number, and a number where
/// a text is asked for as its text: models mix these up, and nothing is lost by it.
fn check(value: Value, ty: &ReturnType, path: &str) -> Result<Value, String> {
    let wrong = |value: &Value, wanted: &str| Err(format!("'{path}' is {}, not {wanted}", kind(value)));
    match (ty, value) {
        (ReturnType::Text { max_chars }, Value::String(s)) => {
            if s.chars().count() as u64 > *max_chars {
                return Err(format!("'{path}' is longer than {max_chars} characters"));
            }
            Ok(Value::String(s))
        }
        (ReturnType::Text { .. }, Value::Number(n)) => Ok(Value::String(n.to_string())),
        (ReturnType::Text { .. }, other) => wrong(&other, "a text"),
        (ReturnType::Enum(values), Value::String(s)) => {
            if values.contains(&s) {
                Ok(Value::String(s))
            } else {
                Err(format!("'{path}' is '{s}', not one of {}", values.join(", ")))
            }
        }
        (ReturnType::Enum(_), other) => wrong(&other, "a text"),
        (ReturnType::Integer, value) => match integer(&value) {
            Some(n) => Ok(Value::from(n)),
            None => wrong(&value, "a whole number"),
        },
        (ReturnType::Number, value) => {
            let number = value.as_f64().or_else(|| value.as_str().and_then(quoted_number));
            match number.and_then(serde_json::Number::from_f64) {
                Some(n) => Ok(Value::Number(n)),
                None => wrong(&value, "a number"),
            }
        }
        (ReturnType::Boolean, Value::Bool(b)) => Ok(Value::Bool(b)),
        (ReturnType::Boolean, Value::String(s)) if s.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        (ReturnType::Boolean, Value::String(s)) if s.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        (ReturnType::Boolean, other) => wrong(&other, "true or false"),
        (ReturnType::List { element, length }, Value::Array(list)) => {
            if length.is_some_and(|n| list.len() as u64 != n) {
                return Err(format!("'{path}' has {} elements, not {}", list.len(), length.unwrap_or_default()));
            }
            let checked: Result<Vec<Value>, String> =
                list.into_iter().enumerate().map(|(i, v)| check(v, element, &format!("{path}[{i}]"))).collect();
            checked.map(Value::Array)
        }
        // One object where a list was asked for is a list of one.
        (ReturnType::List { element, length: None | Some(1) }, Value::Object(object))
            if matches!(element.as_ref(), ReturnType::Struct(_)) =>
        {
            Ok(Value::Array(vec![check(Value::Object(object), element, &format!("{path}[0]"))?]))
        }
        (ReturnType::List { .. }, other) => wrong(&other, "a list"),
        (ReturnType::Struct(fields), value) => check_columns(value, fields, path),
    }
}

fn integer(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))
        .or_else(|| value.as_str().and_then(quoted_number))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The beginning of a text on one line, for a message.
fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("'{}…'", &line[..end]),
        None => format!("'{line}'"),
    }
}

/// Texts as an array, whose bytes are allocated once.
pub fn text_array(texts: &[Option<&str>]) -> StringArray {
    let bytes = texts.iter().flatten().map(|text| text.len()).sum();
    let mut builder = StringBuilder::with_capacity(texts.len(), bytes);
    texts.iter().for_each(|text| builder.append_option(*text));
    builder.finish()
}

/// Checked values as one Arrow array; `None` and JSON null give NULL.
pub fn to_array(ty: &ReturnType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    Ok(match ty {
        ReturnType::Text { .. } | ReturnType::Enum(_) => {
            let texts: Vec<Option<&str>> = values.iter().map(|value| value.and_then(Value::as_str)).collect();
            Arc::new(text_array(&texts))
        }
        ReturnType::Integer => {
            let mut builder = Int64Builder::with_capacity(values.len());
            values.iter().for_each(|v| builder.append_option(v.and_then(Value::as_i64)));
            Arc::new(builder.finish())
        }
        ReturnType::Number => {
            let mut builder = Float64Builder::with_capacity(values.len());
            values.iter().for_each(|v| builder.append_option(v.and_then(Value::as_f64)));
            Arc::new(builder.finish())
        }
        ReturnType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(values.len());
            values.iter().for_each(|v| builder.append_option(v.and_then(Value::as_bool)));
            Arc::new(builder.finish())
        }
        ReturnType::List { element, .. } => {
            let lists: Vec<Option<&Vec<Value>>> = values.iter().map(|v| v.and_then(Value::as_array)).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
            let flat: Vec<Option<&Value>> = lists.iter().flatten().flat_map(|list| list.iter().map(Some)).collect();
            let field = Arc::new(Field::new_list_field(element.arrow_type(), true));
            let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
            Arc::new(ListArray::try_new(field, offsets, to_array(element, &flat)?, Some(nulls))?)
        }
        ReturnType::Struct(fields) => {
            let arrays = fields
                .iter()
                .map(|field| {
                    let column: Vec<Option<&Value>> =
                        values.iter().map(|v| v.and_then(|v| v.get(&field.name))).collect();
                    to_array(&field.ty, &column)
                })
                .collect::<Result<Vec<_>>>()?;
            if arrays.is_empty() {
                return exec_err!("a STRUCT in returns has no fields");
            }
            let nulls = NullBuffer::from_iter(values.iter().map(|v| v.is_some_and(|v| v.is_object())));
            Arc::new(StructArray::try_new(arrow_fields(fields), arrays, Some(nulls))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::Int64Type;
    use serde_json::json;

    use super::*;

    fn returns() -> Returns {
        Returns::parse("question TEXT, options TEXT[2], n BIGINT").unwrap()
    }

    const ITEM: &str = r#"{"question": "a?", "options": ["x", "y"], "n": 3}"#;

    #[test]
    fn answers_are_read_through_fences_prose_and_trailing_commas() {
        let fenced = format!("Sure! Here it is:\n```json\n{ITEM}\n```\nAnything else?");
        let trailing = ITEM.replace("3}", "3,}").replace("\"y\"]", "\"y\", ]");
        let prose = format!("I thought {{hard}} about [it]. {ITEM}");
        for text in [ITEM, &fenced, &trailing, &prose, &format!("[{ITEM}]")] {
            let items = read_items(text, &returns(), None).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(items[0]["options"][1], "y", "{text}");
        }
    }

    #[test]
    fn a_list_may_come_bare_wrapped_or_as_one_object() {
        for text in [format!("{{\"items\": [{ITEM}, {ITEM}]}}"), format!("[{ITEM}, {ITEM}]")] {
            assert_eq!(read_items(&text, &returns(), Some(2)).unwrap().len(), 2);
        }
        assert_eq!(read_items(ITEM, &returns(), Some(2)).unwrap().len(), 1);
    }

    #[test]
    fn types_are_checked_and_the_sentence_names_the_place() {
        let wrong = |text: &str| read_items(text, &returns(), None).unwrap_err();
        assert_eq!(wrong(r#"{"question": "a?", "options": ["x"], "n": 3}"#), "'options' has 1 elements, not 2");
        assert_eq!(wrong(r#"{"question": "a?", "options": ["x", null], "n": 3}"#), "'options[1]' is null, not a text");
        assert_eq!(wrong(r#"{"question": "a?", "options": ["x", "y"]}"#), "'n' is missing");
        assert_eq!(wrong("no idea"), "the answer holds no JSON: 'no idea'");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([\[\]{},:"\\\\ a-z0-9]|null|true|"question":|"options":|é|\u{1F600}){0,60}"#) {
            for items in [None, Some(2)] {
                if let Ok(items) = read_items(&text, &returns(), items) {
                    let values: Vec<Option<&Value>> = items.iter().map(Some).collect();
                    proptest::prop_assert!(to_array(&ReturnType::Struct(returns().columns().to_vec()), &values).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_list_cut_off_gives_the_items_that_came_whole() {
        let read = |text: &str| read_items(text, &returns(), Some(5)).map(|items| items.len());
        assert_eq!(read(&format!("{{\"items\" : [{ITEM}, {ITEM}, {{\"question\": \"b")), Ok(2));
        assert_eq!(read(&format!("Here: [{ITEM},\n{ITEM},")), Ok(2));
        assert_eq!(read(&format!("[{}, {{\"que", ITEM.replace("3}", "3,}"))), Ok(1));
        assert!(read("{\"items\": [{\"question\": \"b").is_err());
        // A list inside the one object that was cut is not the list of items.
        let cut = "{\"facts\": [{\"f\": 1}, {\"que";
        assert_eq!(read(cut), Err(format!("the answer holds no JSON: '{cut}'")));
        // The list may stand behind other keys, and behind brackets of prose.
        assert_eq!(read(&format!("{{\"note\": \"[1]\", \"items\": [{ITEM}, {ITEM}, {{\"q")), Ok(2));
        assert_eq!(read(&format!("Here are [2] items: {{\"items\":[{ITEM},{ITEM},{{\"q")), Ok(2));
        let wrong = ITEM.replace("3}", "null}");
        let error = Err("'items[1].n' is null, not a whole number".to_owned());
        assert_eq!(read(&format!("[{ITEM}, {wrong}, {{")), error);
    }

    #[test]
    fn a_column_declared_null_may_be_null_or_missing_and_no_other() {
        let returns = Returns::parse("q TEXT NULL, s STRUCT<a TEXT, n INT NULL>[] NULL, e ENUM('x') NULL").unwrap();
        for text in [r#"{"q": null, "s": null, "e": null}"#, r#"{"q": "x", "s": [{"a": "b"}]}"#, "{\"s\": []}"] {
            let items = read_items(text, &returns, None).unwrap_or_else(|e| panic!("{text}: {e}"));
            let array = to_array(&ReturnType::Struct(returns.columns().to_vec()), &[items.first()]).unwrap();
            assert_eq!(array.as_struct().column(2).null_count(), 1, "{text}");
        }
        let wrong = |text: &str| read_items(text, &returns, None).unwrap_err();
        assert_eq!(wrong(r#"{"s": [{"a": "b"}, {"n": 1}]}"#), "'s[1].a' is missing");
        assert_eq!(wrong(r#"{"e": "y"}"#), "'e' is 'y', not one of x");
    }

    #[test]
    fn lists_of_structs_come_back_as_they_were() {
        let returns = Returns::parse("f STRUCT<a TEXT, g STRUCT<n INT>[]>[]").unwrap();
        let item = json!({"f": [{"a": "x", "g": [{"n": 1}, {"n": 2}]}, {"a": "y", "g": []}]});
        let checked = read_items(&item.to_string(), &returns, None).unwrap().remove(0);
        assert_eq!(checked, item);
        let f = to_array(&returns.columns()[0].ty, &[Some(&checked["f"]), None, Some(&checked["f"])]).unwrap();
        let f = f.as_list::<i32>();
        assert_eq!((f.len(), f.value_length(0), f.null_count()), (3, 2, 1));
        let g = f.values().as_struct().column(1).as_list::<i32>();
        let n = g.values().as_struct().column(0).as_primitive::<Int64Type>();
        assert_eq!((n.values().to_vec(), g.value_length(1)), (vec![1, 2, 1, 2], 0));
        // One object for a list is a list of one.
        assert_eq!(
            read_items(r#"{"f": {"a": "x", "g": {"n": "7"}}}"#, &returns, None).unwrap()[0]["f"][0]["g"][0]["n"],
            7
        );
        let wrong = read_items(r#"{"f": [{"a": "x", "g": [{"n": "many"}]}]}"#, &returns, None).unwrap_err();
        assert_eq!(wrong, "'f[0].g[0].n' is a text, not a whole number");
    }

    #[test]
    fn a_number_in_quotes_is_a_number_and_a_number_for_a_text_is_its_text() {
        let items = read_items(r#"{"question": 12, "options": ["x", "y"], "n": "1,234"}"#, &returns(), None).unwrap();
        assert_eq!(items[0]["question"], "12");
        assert_eq!(items[0]["n"], 1234);
    }

    #[test]
    fn a_part_of_a_broken_answer_is_never_the_answer() {
        let nested = Returns::parse("question TEXT, follow_up STRUCT<question TEXT> NULL").unwrap();
        let cut = r#"{"question": "A?", "follow_up": {"question": "B?"}"#;
        let fenced = format!("```json\n{cut}\n```");
        for text in [
            cut,
            fenced.as_str(),
            r#"{"question": "A?" "follow_up": {"question": "B?"}}"#,
            r#"{"question": "A?", {"question": "B?"}}"#,
            r#"{"items": [{"question":"A?","follow_up":{"question":"B?"}"#,
            r#"[{"question":"A?","follow_up":{"question":"B?"}"#,
        ] {
            for items in [None, Some(2)] {
                // These words are in the messages of repairs: with others they would be other calls, and paid for again.
                assert_eq!(
                    read_items(text, &nested, items),
                    Err(format!("the answer holds no JSON: {}", excerpt(text)))
                );
            }
        }
        // Where one item came whole, the part of the next is none.
        let list = r#"{"items": [{"question":"A?"}, {"question":"C?","follow_up":{"question":"B?"}"#;
        assert_eq!(read_items(list, &nested, Some(2)).unwrap(), [json!({"question": "A?", "follow_up": null})]);
    }

    #[test]
    fn a_line_break_inside_a_text_does_not_lose_the_others() {
        let returns = Returns::parse("verdict STRUCT<ok BOOLEAN, why TEXT> NULL, note TEXT NULL").unwrap();
        let text = "{\"verdict\": {\"ok\": true, \"why\": \"x\"}, \"note\": \"one\n\ttwo\"}";
        let items = read_items(text, &returns, None).unwrap();
        assert_eq!(items, [json!({"verdict": {"ok": true, "why": "x"}, "note": "one\n\ttwo"})]);
    }

    #[test]
    fn the_first_json_that_fits_is_the_answer() {
        let question = Returns::parse("question TEXT").unwrap();
        let read = |text: &str, items| read_items(text, &question, items);
        let answer = vec![json!({"question": "A?"})];
        let proof = format!("{} so: {{\"question\": \"A?\"}}", "{x_1} in [0, 1), ".repeat(99));
        for text in [
            r#"The schema is {"type": "object"}. My answer: {"question": "A?"}"#,
            r#"{"type": "object"} {"question": "A?"}"#,
            r#"As {"question": ...}, it is {"question": "A?"} (not {"question": "B?"})."#,
            r#"{{"question": "A?"}}"#,
            r#"Use {"question" or so. Then: {"question": "A?"}"#,
            &proof,
        ] {
            for items in [None, Some(1)] {
                assert_eq!(read(text, items).as_ref(), Ok(&answer), "{text}");
            }
        }
        // Where none fits it is about the first, in the words that it has always had.
        for none in [r#"Use {"question" or so. {"question": null}"#, r#"Use {"question" or so. [{"question": null}]"#] {
            for items in [None, Some(1)] {
                assert_eq!(read(none, items).unwrap_err(), format!("the answer holds no JSON: '{none}'"));
            }
        }
        let none = r#"The schema is {"type": "object"}. {"question": null}"#;
        assert_eq!(read(none, None).unwrap_err(), "'question' is missing");
        // Any object fits where all may be NULL: the one with a column of them is the answer.
        let nullable = Returns::parse("question TEXT NULL").unwrap();
        let text = r#"The schema is {"type": "object"}. My answer: {"question": "A?"}"#;
        assert_eq!(read_items(text, &nullable, None).as_ref(), Ok(&answer));
        assert_eq!(read_items("{\"x\": 1}", &nullable, None).unwrap(), [json!({"question": null})]);
    }

    #[test]
    fn json_lines_are_a_list() {
        let read = |text: &str| read_items(text, &returns(), Some(3)).map(|items| items.len());
        assert_eq!(read(&format!("{ITEM}\n{ITEM}\n{ITEM}\n")), Ok(3));
        assert_eq!(read(&format!("Here:\n{ITEM},\n{ITEM}\n{{\"question\": \"b")), Ok(2));
        assert_eq!(read(&format!("{{\"type\": \"object\"}}\n{ITEM}\n{ITEM}\n")), Ok(2));
        let wrong = ITEM.replace("3}", "null}");
        let error = Err("'items[1].n' is null, not a whole number".to_owned());
        assert_eq!(read(&format!("{ITEM}\n{wrong}\n{ITEM}")), error);
    }
}
