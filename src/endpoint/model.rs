//! The configured models by name, each with the one endpoint and limiter that the whole process shares.
//! In: a name of SQL (`model => 'writer'`). Out: the model, made when it is first asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::limiter::Limiter;
use super::openai::OpenAiEndpoint;
use super::retry::RetryPolicy;
use super::{Endpoint, SendError};
use crate::config::{CONFIG_FILE, Config, ModelConfig, ModelName, Provider, nearest};

/// A model ready to be asked.
#[derive(Debug)]
pub struct Model {
    pub name: ModelName,
    pub config: ModelConfig,
    pub endpoint: Arc<dyn Endpoint>,
    pub limiter: Limiter,
    pub retry: RetryPolicy,
}

/// Why a name gives no model.
#[derive(Debug, Clone, Error)]
pub enum ModelError {
    #[error("there is no model '{name}'; {advice}")]
    Unknown { name: ModelName, advice: String },
    #[error("model '{name}' cannot be used: {reason}")]
    Unusable { name: ModelName, reason: String },
}

impl Model {
    pub fn new(name: impl Into<ModelName>, config: ModelConfig, endpoint: Arc<dyn Endpoint>) -> Self {
        let base = Duration::try_from_secs_f64(config.retry_base_seconds).unwrap_or_default();
        let (limiter, retry) = (Limiter::new(&config), RetryPolicy::new(config.max_retries, base));
        Model { name: name.into(), config, endpoint, limiter, retry }
    }

    fn build(name: &str, config: &ModelConfig) -> Result<Self, ModelError> {
        let endpoint: Result<Arc<dyn Endpoint>, SendError> = match config.provider {
            Provider::OpenAi => OpenAiEndpoint::new(config).map(|endpoint| Arc::new(endpoint) as _),
            #[cfg(feature = "embedded")]
            Provider::Embedded => {
                super::embedded::EmbeddedEndpoint::new(config).map(|endpoint| Arc::new(endpoint) as _)
            }
            #[cfg(not(feature = "embedded"))]
            Provider::Embedded => {
                let reason = "this binary was built without the feature 'embedded'".into();
                return Err(ModelError::Unusable { name: name.into(), reason });
            }
        };
        let endpoint = endpoint.map_err(|e| ModelError::Unusable { name: name.into(), reason: e.message })?;
        Ok(Model::new(name, config.clone(), endpoint))
    }
}

/// The models of a workspace.
#[derive(Debug)]
pub struct Models {
    configs: BTreeMap<ModelName, ModelConfig>,
    built: Mutex<BTreeMap<ModelName, Arc<Model>>>,
}

impl Models {
    pub fn new(config: &Config) -> Self {
        Models { configs: config.models.clone(), built: Mutex::default() }
    }

    /// A registry of models made elsewhere, e.g. over an endpoint that is in no configuration.
    pub fn from_models(models: Vec<Model>) -> Self {
        Models {
            configs: models.iter().map(|model| (model.name.clone(), model.config.clone())).collect(),
            built: Mutex::new(models.into_iter().map(|model| (model.name.clone(), Arc::new(model))).collect()),
        }
    }

    /// The same model, with the same limiter, at every call.
    pub fn get(&self, name: &str) -> Result<Arc<Model>, ModelError> {
        let config = self.config(name)?;
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = built.get(name) {
            return Ok(model.clone());
        }
        let model = Arc::new(Model::build(name, config)?);
        built.insert(name.to_owned(), model.clone());
        Ok(model)
    }

    /// A model's configuration; makes nothing.
    pub fn config(&self, name: &str) -> Result<&ModelConfig, ModelError> {
        self.configs.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            let near = nearest(name, names.iter().copied());
            let near = near.map_or(String::new(), |near| format!("did you mean '{near}'? "));
            let advice = format!("{near}{CONFIG_FILE} has {}", names.join(", "));
            ModelError::Unknown { name: name.into(), advice }
        })
    }

    /// The configured names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configs.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        let root = tempfile::tempdir().unwrap();
        let text = "[models.writer]\nprovider = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"";
        std::fs::write(root.path().join(CONFIG_FILE), text).unwrap();
        Models::new(&Config::load(root.path()).unwrap())
    }

    #[test]
    fn a_name_gives_the_same_model_each_time() {
        let models = models();
        assert!(Arc::ptr_eq(&models.get("writer").unwrap(), &models.get("writer").unwrap()));
        assert_eq!(models.get("writer").unwrap().retry.max_retries, 6);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all_names() {
        let error = models().get("writr").unwrap_err().to_string();
        assert_eq!(error, "there is no model 'writr'; did you mean 'writer'? seedmill.toml has local, writer");
    }
}
