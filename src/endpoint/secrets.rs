//! What nobody may see of a model's configuration: its key, header values, and values in the query of its addresses.
//! In: the configuration. Out: the key to send, and texts without any of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use url::Url;

use super::{ErrorKind, SendError};
use crate::config::ModelConfig;

/// Values under this many characters are words such as a version, a team or a key `none`; keys are longer.
const LEAST_SECRET: usize = 8;

/// Words, dates and numbers that are shorter are hidden in no answer: a key such as `lm-studio` cannot be told from what
/// the answer says, and what is replaced in a paid answer is lost for good.
const LEAST_WORDS_IN_ANSWER: usize = 16;

/// A value of an address's query authenticates where its name, in whatever case, has one of these as a part. Others,
/// such as `api-version`, are no secrets.
const AUTHENTICATING: [&str; 8] =
    ["authorization", "key", "token", "secret", "sig", "signature", "password", "credential"];

/// Any header may authenticate to a gateway, but not those whose names have one of these as a part, or of the others as
/// whole words: what they say may stand in an answer (`application/json`, `2023-06-01-preview`).
const PUBLIC_PARTS: [&str; 4] = ["content-type", "user-agent", "referer", "version"];
const PUBLIC_WORDS: [&str; 3] = ["accept", "title", "beta"];

/// Never printed, not even by `Debug`.
pub(super) struct Secrets {
    model: String,
    key_env: Option<String>,
    key_file: Option<PathBuf>,
    /// Read at the first request.
    key: OnceLock<String>,
    /// All values of headers and queries but short ones.
    others: Vec<String>,
    /// Those of them that authenticate.
    authenticating: Vec<String>,
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
        // Each with whether it is hidden in answers.
        let authenticates = |name: &str, value: &str| has_part(name, &AUTHENTICATING) && is_told_from_words(value);
        let may_authenticate = |name: &str, value: &str| {
            // Of what only may be a secret a short value is a team, a model, a dataset.
            authenticates(name, value) || value.len() >= LEAST_WORDS_IN_ANSWER && !is_public(name)
        };
        let headers = config.headers.iter().map(|(name, value)| (value.clone(), may_authenticate(name, value)));
        let mut values: Vec<(String, bool)> = headers.collect();
        for url in config.base_urls.iter().filter_map(|url| Url::parse(url).ok()) {
            values.extend(url.query_pairs().map(|(name, value)| {
                let authenticates = authenticates(&name, &value);
                (value.into_owned(), authenticates)
            }));
            // As they travel, where that differs.
            let raw = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            values.extend(raw.map(|(name, value)| (value.to_owned(), authenticates(name, value))));
        }
        values.retain(|(value, _)| value.len() >= LEAST_SECRET);
        // A secret that holds another one is hidden whole.
        values.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        let others = values.iter().map(|(value, _)| value.clone()).collect();
        values.retain(|(_, authenticates)| *authenticates);
        let authenticating = values.into_iter().map(|(value, _)| value).collect();
        Secrets {
            model: config.model.clone(),
            key_env: config.api_key_env.clone(),
            key_file: config.api_key_file.clone(),
            key: OnceLock::new(),
            others,
            authenticating,
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

    /// An error's text without any secret: servers quote what they were sent, and a word too many lost does no harm.
    pub fn hide_in_error(&self, text: String) -> String {
        hide(text, self.key.get().into_iter().chain(&self.others))
    }

    /// The body of an answer without what authenticates. All else stays as it came: it is kept and used as the answer.
    pub fn hide_in_answer(&self, body: String) -> String {
        let key = self.key.get().filter(|key| is_told_from_words(key));
        hide(body, key.into_iter().chain(&self.authenticating))
    }
}

fn is_public(name: &str) -> bool {
    has_part(name, &PUBLIC_PARTS) || has_words(name, &PUBLIC_WORDS)
}

fn has_part(name: &str, parts: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    parts.iter().any(|part| name.contains(part))
}

/// Whether a name has one of these as whole words, in whatever case: `X-PageTitle` has `title`, and `X-Entitlement` has
/// none.
fn has_words(name: &str, words: &[&str]) -> bool {
    let (mut parts, mut was_lower) = (String::from("-"), false);
    for c in name.chars() {
        if was_lower && c.is_ascii_uppercase() {
            parts.push('-');
        }
        was_lower = c.is_ascii_lowercase();
        parts.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    }
    parts.push('-');
    words.iter().any(|word| parts.contains(&format!("-{word}-")))
}

/// Whether an answer that holds this value quotes a secret, and does not say the same by itself.
fn is_told_from_words(value: &str) -> bool {
    value.len() >= LEAST_WORDS_IN_ANSWER || value.len() >= LEAST_SECRET && !is_plain(value)
}

/// Whether these may be words, a date or a number: `lm-studio`, `OpenRouter`, `2024-10-21-preview`. Keys have digits
/// behind letters or among them, other signs, or capitals in many places.
fn is_plain(value: &str) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |part: &str| {
        let pairs = part.as_bytes().windows(2);
        let capitals = pairs.filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
        capitals <= 1 && part.chars().all(char::is_alphabetic)
    };
    let mut behind_numbers = value.split(['-', '_', '.', '/', ':', ' ']).skip_while(|part| is_number(part));
    behind_numbers.all(is_word)
}

fn hide<'a>(mut text: String, secrets: impl Iterator<Item = &'a String>) -> String {
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), Secrets::SHOWN);
        }
    }
    text
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
        assert_eq!(secrets.hide_in_error(text.into()), "a team sent [key] to ?sig=[key] ([key]), api-version=1");
        assert!(!format!("{secrets:?} {config:?}").contains("hush"), "{config:?}");
    }

    fn with_key(config: &ModelConfig, key: &str) -> Secrets {
        let secrets = Secrets::new(config);
        secrets.key.set(key.into()).unwrap();
        secrets
    }

    #[test]
    fn an_answer_keeps_its_words_and_an_error_keeps_no_secret() {
        let mut config = ModelConfig::openai("https://h/v1?api-version=2024-10-21-preview&sig=short-sig", "m");
        config.headers.insert("X-Title".into(), "the-synthetic-data-team".into());
        let body =
            r#"{"token": "The API of 2024-10-21-preview is out, says the-synthetic-data-team to none, short-sig."}"#;
        for key in ["none", "token", "EMPTY", "ollama", "a"] {
            let secrets = with_key(&config, key);
            assert_eq!(secrets.hide_in_answer(body.into()), body, "{key}");
        }
        assert_eq!(
            with_key(&config, "none").hide_in_error(body.into()),
            r#"{"token": "The API of [key] is out, says [key] to [key], [key]."}"#
        );
    }

    #[test]
    fn what_authenticates_is_hidden_in_answers_too() {
        let mut config = ModelConfig::openai("https://h/v1?Signature=hush%2Fhush%2Fhush%2Fhush&api-version=1", "m");
        config.headers.insert("X-Gateway".into(), "hush-gateway-0123".into());
        config.headers.insert("X-Entitlement-Token".into(), "hush-entitlement".into());
        let secrets = with_key(&config, "sk-0123456789abcdef0123");
        let body = "sk-0123456789abcdef0123, hush-gateway-0123, hush-entitlement, hush%2Fhush%2Fhush%2Fhush, hush/hush/hush/hush, 1";
        for hidden in [secrets.hide_in_answer(body.into()), secrets.hide_in_error(body.into())] {
            assert_eq!(hidden, "[key], [key], [key], [key], [key], 1");
        }
        for name in ["Proxy-Authorization", "api_key", "X-Amz-Credential", "sig", "PASSWORD", "client-secret"] {
            assert!(has_part(name, &AUTHENTICATING), "{name}");
        }
        assert!(!has_part("api-version", &AUTHENTICATING));
    }

    #[test]
    fn a_short_key_is_hidden_in_answers_unless_it_may_be_a_word_of_them() {
        let config = ModelConfig::openai("https://h/v1", "m");
        for key in ["sk-12345", "hush4711", "h0sh-h0sh", "hush!hush", "qWeRtYuI", "0123abcd", "key-2024"] {
            let hidden = with_key(&config, key).hide_in_answer(format!("it is {key}, they say"));
            assert_eq!(hidden, "it is [key], they say", "{key}");
        }
        for word in ["anything", "NOT-NEEDED", "lm-studio", "LMStudio", "OpenRouter", "no key at all", "Schlüssel"] {
            assert_eq!(with_key(&config, word).hide_in_answer(format!("say {word}")), format!("say {word}"));
        }
        for number in ["2024-10-21", "2024-10-21-pre", "12345678", "1.234.567", "10:30:00"] {
            assert_eq!(with_key(&config, number).hide_in_answer(number.into()), number);
        }
        assert_eq!(with_key(&config, "sk-1234").hide_in_answer("sk-1234".into()), "sk-1234", "too short to tell");
    }

    #[test]
    fn a_header_is_public_by_whole_words_of_its_name() {
        for name in [
            "anthropic-version",
            "X-APIVersion",
            "x-apiversion",
            "X-PageTitle",
            "HTTP-Referer",
            "X-Title",
            "ACCEPT",
            "content-type",
        ] {
            assert!(is_public(name), "{name}");
        }
        for name in ["X-Entitlement", "X-Conversation", "Acceptance-Key", "Alphabeta", "Content", "X-Gateway"] {
            assert!(!is_public(name), "{name}");
        }
        let mut config = ModelConfig::openai("https://h/v1", "m");
        config.headers.insert("X-Entitlement".into(), "hush-4711-hush-4711".into());
        config.headers.insert("X-Title".into(), "team-4711-of-synthesis".into());
        // Short ones are secrets where their names say so.
        config.headers.insert("X-Dataset".into(), "gsm8k-main".into());
        config.headers.insert("X-Token".into(), "hush4711".into());
        let body = "hush-4711-hush-4711 of team-4711-of-synthesis, gsm8k-main, hush4711";
        let hidden = Secrets::new(&config).hide_in_answer(body.into());
        assert_eq!(hidden, "[key] of team-4711-of-synthesis, gsm8k-main, [key]");
    }
}
