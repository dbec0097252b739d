//! The vectors of `embed`: as the ledger keeps them, and as the column of the plan. In: one text's numbers. Out: a body
//! in OpenAI's shape, and an Arrow array.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::arrow::array::{ArrayRef, FixedSizeListBuilder, Float32Builder, ListBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use serde_json::json;

use crate::counted::counted;

/// FLOAT[n] where the number of dimensions is known when the query is planned, else FLOAT[].
pub fn vector_type(dimensions: Option<u32>) -> DataType {
    let element = Arc::new(Field::new_list_field(DataType::Float32, true));
    match dimensions.and_then(|n| i32::try_from(n).ok()) {
        Some(n) => DataType::FixedSizeList(element, n),
        None => DataType::List(element),
    }
}

/// One text's answer as the ledger keeps it: the body that a server sends for this text alone when it is asked for
/// `encoding_format: base64` (little-endian 32-bit floats, which are exact and 5⅓ characters a number).
pub fn to_body(model: &str, embedding: &[f32], prompt_tokens: Option<u64>) -> String {
    let bytes: Vec<u8> = embedding.iter().flat_map(|number| number.to_le_bytes()).collect();
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": BASE64_STANDARD.encode(bytes)}],
        "model": model,
        "usage": prompt_tokens.map(|tokens| json!({"prompt_tokens": tokens, "total_tokens": tokens})),
    })
    .to_string()
}

/// The vector in a stored text, or one sentence that says what is wrong with it.
pub fn read(text: &str, dimensions: Option<u32>) -> Result<Vec<f32>, String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|e| format!("the embedding is no base64 ({e})"))?;
    if bytes.is_empty() || bytes.len() % 4 != 0 {
        return Err(format!("the embedding has {} bytes, which are no 32-bit floats", bytes.len()));
    }
    let vector: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    match dimensions {
        Some(n) if vector.len() as u64 != u64::from(n) => {
            Err(format!("the embedding has {}, not {n}", counted(vector.len(), "dimension")))
        }
        _ => Ok(vector),
    }
}

/// Stored texts that [`read`] as one array of [`vector_type`]; every other is NULL.
pub fn to_array(texts: &[Option<&str>], dimensions: Option<u32>) -> ArrayRef {
    let vectors = texts.iter().map(|text| text.and_then(|text| read(text, dimensions).ok()));
    match dimensions.and_then(|n| i32::try_from(n).ok()) {
        Some(n) => {
            let mut builder = FixedSizeListBuilder::with_capacity(Float32Builder::new(), n, texts.len());
            for vector in vectors {
                match &vector {
                    Some(vector) => builder.values().append_slice(vector),
                    None => builder.values().append_nulls(n as usize),
                }
                builder.append(vector.is_some());
            }
            Arc::new(builder.finish())
        }
        None => {
            let mut builder = ListBuilder::with_capacity(Float32Builder::new(), texts.len());
            for vector in vectors {
                builder.values().append_slice(vector.as_deref().unwrap_or_default());
                builder.append(vector.is_some());
            }
            Arc::new(builder.finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::Float32Type;

    use super::*;
    use crate::endpoint::Completion;

    /// Paid answers are kept so: what is written once must be read ever after.
    #[test]
    fn a_vector_is_kept_exactly_in_a_body_that_never_changes() {
        let numbers = [1.0, -0.1, f32::MIN_POSITIVE, 3.4e38];
        let body = to_body("m", &numbers, Some(3));
        insta::assert_snapshot!(body, @r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAP83MzL0AAIAAnsl/fw=="}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#);
        let completion = Completion::from_body(&body).unwrap();
        assert_eq!(completion.prompt_tokens, Some(3));
        assert_eq!(read(&completion.text, Some(4)), Ok(numbers.to_vec()));
        assert_eq!(read(&completion.text, Some(3)).unwrap_err(), "the embedding has 4 dimensions, not 3");
    }

    #[test]
    fn vectors_are_fixed_where_their_size_is_known() {
        let text = BASE64_STANDARD.encode([0, 0, 128, 63, 0, 0, 0, 64]);
        for dimensions in [None, Some(2)] {
            let array = to_array(&[None, Some(&text), Some("no")], dimensions);
            assert_eq!((array.data_type(), array.null_count()), (&vector_type(dimensions), 2));
            let vector = match dimensions {
                None => array.as_list::<i32>().value(1),
                Some(_) => array.as_fixed_size_list().value(1),
            };
            assert_eq!(vector.as_primitive::<Float32Type>().values().to_vec(), [1.0, 2.0]);
        }
    }
}
