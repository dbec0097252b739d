//! One logical call: its request and its identity. Made from a row, or from another call with other messages.

use std::sync::Arc;

use serde_json::{Value, json};

use super::progress::StageProgress;
use super::spec::embedding_schema;
use crate::endpoint::{Message, ModelIdentity, Parameters, Request};
use crate::ledger::{CallId, CallKey, KeyTemplate};

/// What all calls of one stage with one ordinal have in common: made once, not once a row.
#[derive(Debug)]
pub struct CallShape {
    parameters: Arc<Parameters>,
    schema: Option<Arc<Value>>,
    pub variant: Arc<str>,
    /// The ordinal among independent calls for one row, from 0.
    pub sample: u32,
    /// Where it is counted.
    pub stage: Arc<StageProgress>,
    /// The number of call stages below: later stages go first.
    pub depth: usize,
    /// JSON: parameters, items and schema, as the ledger keeps them.
    pub recorded_parameters: Arc<str>,
    /// Whether the request is one text to embed.
    pub embeds: bool,
    key: KeyTemplate,
}

impl CallShape {
    pub fn new(
        model: &ModelIdentity,
        parameters: Arc<Parameters>,
        schema: Option<Arc<Value>>,
        items: Option<u32>,
        variant: Arc<str>,
        sample: u32,
        stage: Arc<StageProgress>,
    ) -> Self {
        let recorded = json!({ "parameters": &*parameters, "items": items, "schema": schema.as_deref() });
        let request = Request { messages: Vec::new(), parameters: Arc::clone(&parameters), schema: schema.clone() };
        let key = CallKey { model, request: &request, items, variant: &variant, sample }.template();
        let embeds = schema.as_deref() == Some(&embedding_schema());
        let recorded_parameters = recorded.to_string().into();
        Self { parameters, schema, variant, sample, stage, depth: 0, recorded_parameters, embeds, key }
    }

    /// The same above so many other call stages.
    pub fn at_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }
}

/// A request with what else makes it this call and no other.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: CallId,
    pub request: Request,
    pub shape: Arc<CallShape>,
}

impl Call {
    pub fn new(shape: &Arc<CallShape>, messages: Vec<Message>) -> Self {
        Call {
            id: shape.key.id(&messages),
            request: Request { messages, parameters: Arc::clone(&shape.parameters), schema: shape.schema.clone() },
            shape: Arc::clone(shape),
        }
    }
}
