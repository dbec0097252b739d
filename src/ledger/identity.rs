//! The identity of a call: a hash of the logical request, and of nothing else.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::endpoint::{Message, ModelIdentity, Request};

/// Domain and version of the hash. Another value would make every paid answer worthless: it never changes.
const DOMAIN: &str = "seedmill call v1";

/// BLAKE3 of a call's canonical JSON, shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId([u8; 32]);

impl CallId {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        CallId(bytes)
    }

    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| CallId(*hash.as_bytes()))
    }
}

/// An id is a hash already: a part of it tells ids apart.
impl Hash for CallId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({})", self.to_hex())
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(hex) = Text::deserialize(deserializer)?;
        CallId::from_hex(&hex).ok_or_else(|| D::Error::custom(format!("'{hex}' is no call id: 64 hex digits are")))
    }
}

/// A string that is read where it stands, if it can be; `Cow` by itself is always a copy.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Everything that makes two calls the same call. Position, run, URL, batching and the way the schema travels
/// are no part of it.
#[derive(Debug, Clone, Copy)]
pub struct CallKey<'a> {
    pub model: &'a ModelIdentity,
    pub request: &'a Request,
    /// How many items the answer is asked to list; `None` for one object or free text.
    pub items: Option<u32>,
    pub variant: &'a str,
    /// The ordinal among independent calls for one row, from 0.
    pub sample: u32,
}

impl CallKey<'_> {
    /// BLAKE3 over the domain and the key's canonical JSON: objects with sorted keys, no white space.
    pub fn id(&self) -> CallId {
        self.template().id(&self.request.messages)
    }

    /// Everything of the key but the messages, hashed as far as they allow it.
    pub fn template(&self) -> KeyTemplate {
        let parameters = serde_json::to_value(&*self.request.parameters).unwrap_or(Value::Null);
        // In sorted order `items` stands before the messages and all others after them.
        let after = canonical(json!({
            "provider": self.model.provider,
            "model": self.model.model,
            "revision": self.model.revision,
            "parameters": parameters,
            "schema": self.request.schema.as_deref(),
            "variant": self.variant,
            "sample": self.sample,
        }))
        .to_string();
        let mut before = blake3::Hasher::new_derive_key(DOMAIN);
        before.update(format!("{{\"items\":{},\"messages\":", json!(self.items)).as_bytes());
        KeyTemplate { before, after: after.replacen('{', ",", 1) }
    }
}

/// The key of calls that differ only in their messages: one hash a call, and no JSON value is built for it.
#[derive(Debug, Clone)]
pub struct KeyTemplate {
    before: blake3::Hasher,
    after: String,
}

impl KeyTemplate {
    /// The same as [`CallKey::id`] with these messages.
    pub fn id(&self, messages: &[Message]) -> CallId {
        let canonical: Vec<CanonicalMessage> = messages.iter().map(CanonicalMessage::from).collect();
        // In one piece: a hasher takes many small ones slowly. Memory takes every write, and a message has no value that
        // JSON lacks.
        let mut rest = Vec::with_capacity(256);
        let _ = serde_json::to_writer(&mut rest, &canonical);
        rest.extend_from_slice(self.after.as_bytes());
        let mut hasher = self.before.clone();
        hasher.update(&rest);
        CallId(*hasher.finalize().as_bytes())
    }
}

/// A message with its keys in sorted order.
#[derive(Serialize)]
struct CanonicalMessage<'a> {
    content: &'a str,
    role: &'a str,
}

impl<'a> From<&'a Message> for CanonicalMessage<'a> {
    fn from(message: &'a Message) -> Self {
        CanonicalMessage { content: &message.content, role: &message.role }
    }
}

/// The same value with the keys of every object in sorted order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(k, v)| (k, canonical(v))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::endpoint::{Message, Parameters};

    fn request(extra: &str) -> Request {
        Request {
            messages: vec![Message::new("user", "Why is the sky blue?")],
            parameters: Arc::new(Parameters {
                temperature: Some(0.7),
                extra: serde_json::from_str(extra).unwrap(),
                ..Default::default()
            }),
            schema: Some(Arc::new(json!({"type": "object"}))),
        }
    }

    fn id(request: &Request, model: &str, variant: &str, sample: u32, items: Option<u32>) -> CallId {
        let model = ModelIdentity { provider: "openai".into(), model: model.into(), revision: "".into() };
        CallKey { model: &model, request, items, variant, sample }.id()
    }

    #[test]
    fn the_order_of_keys_is_no_part_of_a_call() {
        let a = id(&request(r#"{"top_k": 40, "min_p": 0.1}"#), "m", "", 0, None);
        let b = id(&request(r#"{"min_p": 0.1, "top_k": 40}"#), "m", "", 0, None);
        assert_eq!(a, b);
    }

    #[test]
    fn each_part_makes_another_call() {
        let base = request("{}");
        let mut other = base.clone();
        other.messages[0].content.push('!');
        let mut unbound = base.clone();
        unbound.schema = None;
        let ids = [
            id(&base, "m", "", 0, None),
            id(&base, "n", "", 0, None),
            id(&base, "m", "v2", 0, None),
            id(&base, "m", "", 1, None),
            id(&base, "m", "", 0, Some(3)),
            id(&other, "m", "", 0, None),
            id(&unbound, "m", "", 0, None),
            id(&request(r#"{"top_k": 1}"#), "m", "", 0, None),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    /// As the identity is defined: the canonical form of the whole key, hashed at once.
    fn defined(key: &CallKey) -> CallId {
        let whole = json!({
            "provider": key.model.provider,
            "model": key.model.model,
            "revision": key.model.revision,
            "messages": key.request.messages,
            "parameters": serde_json::to_value(&*key.request.parameters).unwrap(),
            "schema": key.request.schema.as_deref(),
            "items": key.items,
            "variant": key.variant,
            "sample": key.sample,
        });
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(canonical(whole).to_string().as_bytes());
        CallId(*hasher.finalize().as_bytes())
    }

    proptest::proptest! {
        #[test]
        fn a_template_gives_the_id_of_the_whole_key(
            texts in proptest::collection::vec("(?s).{0,40}", 0..4),
            variant in ".{0,8}",
            items in proptest::option::of(0u32..9),
            sample in 0u32..3,
        ) {
            let mut request = request(r#"{"top_k": 40, "a": {"z": 1, "b": null}}"#);
            request.messages = texts.into_iter().map(|text| Message::new("user", text)).collect();
            let model = ModelIdentity { provider: "openai".into(), model: "m\"{".into(), revision: "{".into() };
            let key = CallKey { model: &model, request: &request, items, variant: &variant, sample };
            proptest::prop_assert_eq!(key.id(), defined(&key));
        }
    }

    /// A change of this value would ask, and bill, every call of every user again.
    #[test]
    fn the_identity_of_a_call_never_changes() {
        insta::assert_snapshot!(id(&request(r#"{"top_k": 40}"#), "m", "v", 2, Some(3)).to_hex(), @"4c7ac7b55001bb6fabfba6e0f6466b49a71949936c5d04f8525bfce5adceaf17");
    }
}
