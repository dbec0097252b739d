//! A JSON schema as a grammar over tokens, so that every answer parses.
//! In: a schema. Out: a matcher that says after each token which ones may follow.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use super::vocabulary::Vocabulary;

/// Compiles schemas for one vocabulary.
pub(super) struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    pub(super) fn new(vocabulary: Arc<Vocabulary>) -> Result<Grammars, String> {
        // Without `ff_tokens` keys and punctuation would be sampled one by one.
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let env: llguidance::toktrie::TokEnv = vocabulary;
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices).map_err(|e| first_line(&e))?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Grammars { factory })
    }

    /// Compact JSON of exactly this schema: keys in the schema's order, no white space, no keys beside those named.
    pub(super) fn compile(&self, schema: &Value) -> Result<Matcher, String> {
        let mut schema = schema.clone();
        close_objects(&mut schema);
        let options = JsonCompileOptions {
            whitespace_flexible: false,
            // Without \u: a small model that starts one writes noise.
            json_allowed_escapes: Some("nt\"\\".into()),
            ..JsonCompileOptions::default()
        };
        if !schema.is_object() {
            return Err("the answer's JSON schema is not an object".into());
        }
        options.apply_to(&mut schema);
        let parser = self.factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(format!("the answer's JSON schema: {}", first_line(&error))),
            None => Ok(matcher),
        }
    }
}

/// An object schema that says nothing about other keys is closed: a small model would not stop adding some.
fn close_objects(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close_objects);
            if object.get("properties").is_some_and(Value::is_object) && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".into(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close_objects),
        _ => {}
    }
}

/// A library's message without its backtrace.
pub(super) fn first_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
