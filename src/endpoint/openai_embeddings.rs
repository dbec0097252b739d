//! OpenAI's `/v1/embeddings`: many texts in one request. In: texts and parameters, then the server's body. Out: the
//! request's body, then one embedding a text with its share of the tokens.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::completion::believable;
use super::nearly_json;
use super::openai_body::{merge, reserved};
use super::{EmbeddingAnswer, Parameters};
use crate::config::ModelConfig;
use crate::counted::counted;

/// The key among these extra keys that may not be set.
pub(super) fn reserved_key(extra: &Map<String, Value>) -> Option<&'static str> {
    reserved(extra).or_else(|| extra.contains_key("input").then_some("input"))
}

/// The body of one request, with its keys in one fixed order.
pub(super) fn body(config: &ModelConfig, texts: &[&str], parameters: &Parameters) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), config.model.as_str().into());
    body.insert("input".into(), texts.into());
    // What every server has; base64 would be smaller.
    body.insert("encoding_format".into(), json!("float"));
    merge(&mut body, &parameters.extra);
    merge(&mut body, &config.extra_body);
    Value::Object(body)
}

/// The embeddings of these texts, in their order. The error says why the body as a whole is no answer; what is wrong
/// with one text's embedding is in that text's answer.
pub(super) fn read(body: &str, texts: &[&str]) -> Result<Vec<EmbeddingAnswer>, String> {
    // Python writes numbers that JSON does not have: they are wrong for their text, not for all.
    let read = nearly_json::read(body);
    let Body { data, usage } = read.map_err(|e| format!("the answer is no list of embeddings ({e})"))?;
    let mut embeddings: Vec<Option<Vector>> = texts.iter().map(|_| None).collect();
    let numbered = data.iter().filter(|item| item.index.is_some()).count();
    if numbered == 0 && data.len() != texts.len() || numbered != 0 && numbered != data.len() {
        return Err(format!(
            "the answer has {} for {}",
            counted(data.len(), "embedding"),
            counted(texts.len(), "text")
        ));
    }
    for (place, item) in data.into_iter().enumerate() {
        let index = item.index.unwrap_or(place);
        match embeddings.get_mut(index) {
            Some(free @ None) => *free = Some(item.embedding),
            Some(Some(_)) => return Err(format!("the answer has two embeddings of the text {index}")),
            None => return Err(format!("the answer has an embedding {index}, but there were {} texts", texts.len())),
        }
    }
    if embeddings.iter().all(Option::is_none) {
        return Err("the answer has no embeddings".into());
    }
    let tokens = usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens)).and_then(believable);
    let shares = shares(tokens, texts);
    let answer = |(embedding, prompt_tokens): (Option<Vector>, Option<u64>)| {
        let embedding = match embedding {
            Some(Vector(embedding)) => embedding,
            None => Err("the server gave no embedding of this text".to_owned()),
        };
        EmbeddingAnswer { embedding, prompt_tokens }
    };
    Ok(embeddings.into_iter().zip(shares).map(answer).collect())
}

/// The tokens of a batch, which servers count as a whole, as shares of its texts by their bytes. Their sum is the whole.
fn shares(tokens: Option<u64>, texts: &[&str]) -> Vec<Option<u64>> {
    let weight = |text: &&str| text.len().max(1) as u128;
    let all: u128 = texts.iter().map(weight).sum();
    let (mut before, mut given) = (0, 0);
    let share = |text: &&str| {
        let tokens = tokens?;
        before += weight(text);
        let until = u64::try_from(u128::from(tokens) * before / all).unwrap_or(tokens);
        let share = until - given;
        given = until;
        Some(share)
    };
    texts.iter().map(share).collect()
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vector,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

/// A list of numbers, or their little-endian 32-bit floats in base64; or what is wrong with it.
struct Vector(Result<Vec<f32>, String>);

impl Vector {
    fn new(numbers: Vec<f32>) -> Self {
        Vector(if numbers.is_empty() {
            Err("the embedding is empty".into())
        } else if numbers.iter().all(|number| number.is_finite()) {
            Ok(numbers)
        } else {
            Err("the embedding has a value that is no number".into())
        })
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VectorVisitor;

        impl<'de> Visitor<'de> for VectorVisitor {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of numbers or a base64 text")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vector, A::Error> {
                let mut numbers = Vec::with_capacity(list.size_hint().unwrap_or(1024));
                while let Some(number) = list.next_element::<Option<f64>>()? {
                    numbers.push(number.map_or(f32::NAN, |number| number as f32));
                }
                Ok(Vector::new(numbers))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vector, E> {
                let numbers =
                    BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() % 4 == 0).map(|bytes| {
                        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
                    });
                Ok(numbers.map_or_else(|| Vector(Err("the embedding is no base64 of floats".into())), Vector::new))
            }
        }

        deserializer.deserialize_any(VectorVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(body: &str, texts: usize) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        read(body, &vec!["text"; texts]).map(|answers| answers.into_iter().map(|answer| answer.embedding).collect())
    }

    #[test]
    fn embeddings_are_put_in_the_order_of_the_texts() {
        let body = json!({"data": [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": "AACAPwAAAEA="}]});
        assert_eq!(embeddings(&body.to_string(), 2), Ok(vec![Ok(vec![1.0, 2.0]), Ok(vec![3.0, 4.5])]));
        let body = json!({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]});
        assert_eq!(embeddings(&body.to_string(), 2), Ok(vec![Ok(vec![1.0]), Ok(vec![2.0])]));
    }

    #[test]
    fn what_is_wrong_with_one_text_is_not_wrong_with_all() {
        let no_number = Err("the embedding has a value that is no number".to_owned());
        let body = r#"{"data": [{"index": 0, "embedding": [NaN, 1.0]}, {"index": 2, "embedding": [1e39]},
            {"index": 3, "embedding": []}, {"index": 4, "embedding": "AAA"}, {"index": 5, "embedding": [-Infinity, 2.5]},
            {"index": 6, "embedding": [0.5]}]}"#;
        assert_eq!(
            embeddings(body, 7),
            Ok(vec![
                no_number.clone(),
                Err("the server gave no embedding of this text".into()),
                no_number.clone(),
                Err("the embedding is empty".into()),
                Err("the embedding is no base64 of floats".into()),
                no_number,
                Ok(vec![0.5]),
            ])
        );
    }

    #[test]
    fn a_body_that_cannot_be_matched_to_the_texts_is_no_answer() {
        for (body, why) in [
            (json!({"data": []}), "0 embeddings for 2 texts"),
            (json!({"data": [{"embedding": [1.0]}]}), "1 embedding for 2 texts"),
            (json!({"data": [{"embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}), "2 embeddings for 2 texts"),
            (json!({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}), "two embeddings of"),
            (json!({"data": [{"index": 7, "embedding": [1]}]}), "an embedding 7, but there were 2 texts"),
            (json!({"data": [{"index": 0, "embedding": ["a"]}]}), "no list of embeddings"),
            (json!({"object": "list"}), "no list of embeddings"),
        ] {
            let error = embeddings(&body.to_string(), 2).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
    }

    #[test]
    fn tokens_are_shared_by_length_and_add_up() {
        assert_eq!(shares(Some(10), &["a", "bbbb", "cccc"]), [Some(1), Some(4), Some(5)]);
        let texts: Vec<String> = (0..64).map(|n| "x".repeat(n * 7 % 50)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(shares(Some(997), &texts).into_iter().flatten().sum::<u64>(), 997);
        assert_eq!(shares(None, &["a"]), [None]);
    }
}
