//! What nobody may see of a model's configuration: its key, header values, and values in the query of its addresses.
//! In: the configuration. Out: the key to send, and texts without any of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use url::Url;

use super::{ErrorKind, SendError};
use crate::config::ModelConfig;

/// Header and query values under this many characters are words such as a version or a team; keys are longer.
const LEAST_SECRET: usize = 8;

/// Never printed, not even by `Debug`.
pub(super) struct Secrets {
    model: String,
    key_env: Option<String>,
    key_file: Option<PathBuf>,
    /// Read at the first request.
    key: OnceLock<String>,
    others: Vec<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secrets::SHOWN)
    }
}

impl Secrets {
    /// What stands in the place of a secret.
    const SHOWN: &str = "[key]";

    pub fn new(config: &ModelConfig) -> Self {
        let mut others: Vec<String> = config.headers.values().cloned().collect();
        for url in config.base_urls.iter().filter_map(|url| Url::parse(url).ok()) {
            others.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
            // As they travel, where that differs.
            let raw = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            others.extend(raw.map(|(_, value)| value.to_owned()));
        }
        others.retain(|secret| secret.len() >= LEAST_SECRET);
        // A secret that holds another one is hidden whole.
        others.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        others.dedup();
        Secrets {
            model: config.model.clone(),
            key_env: config.api_key_env.clone(),
            key_file: config.api_key_file.clone(),
            key: OnceLock::new(),
            others,
        }
    }

    /// The key that is sent; `None` for a model without one. The error, of kind `Request`, says where it should be.
    pub fn key(&self) -> Result<Option<&str>, SendError> {
        let Secrets { key_env, key_file, model, .. } = self;
        if key_env.is_none() && key_file.is_none() {
            return Ok(None);
        }
        if let Some(key) = self.key.get() {
            return Ok(Some(key));
        }
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        let from_env = key_env.as_ref().and_then(|name| std::env::var(name).ok());
        let key = match (from_env, key_file) {
            (Some(key), _) => key,
            (None, Some(file)) => std::fs::read_to_string(file).map_err(|e| {
                wrong(format!("the key file {} of model '{model}' cannot be read: {e}", file.display()))
            })?,
            (None, None) => {
                let name = key_env.as_deref().unwrap_or_default();
                return Err(wrong(format!("the environment variable {name}, the key of model '{model}', is not set")));
            }
        };
        let key = key.lines().next().unwrap_or_default().trim().to_owned();
        if key.is_empty() {
            return Err(wrong(format!("the key of model '{model}' is empty")));
        }
        Ok(Some(self.key.get_or_init(|| key)))
    }

    /// The text without any secret: servers quote what they were sent.
    pub fn hide(&self, mut text: String) -> String {
        for secret in self.key.get().into_iter().chain(&self.others) {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), Secrets::SHOWN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_query_values_are_hidden_in_texts_and_in_debug() {
        let mut config = ModelConfig::openai("https://h/v1?sig=hush%2Fhush%2Fhush&api-version=1", "m");
        config.headers.insert("X-Gateway".into(), "hush-hush-header".into());
        config.headers.insert("X-Team".into(), "a".into());
        let secrets = Secrets::new(&config);
        let text = "a team sent hush-hush-header to ?sig=hush%2Fhush%2Fhush (hush/hush/hush), api-version=1";
        assert_eq!(secrets.hide(text.into()), "a team sent [key] to ?sig=[key] ([key]), api-version=1");
        assert!(!format!("{secrets:?} {config:?}").contains("hush"), "{config:?}");
    }
}
