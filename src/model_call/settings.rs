//! The session's settings `seedmill.…`, as SET and SHOW know them: what a run may spend.
//! In: the configuration, SET statements, flags. Out: the budget that an execution reads.

use std::any::Any;

use datafusion::common::{DataFusionError, Result};
use datafusion::config::{ConfigEntry, ConfigExtension, ExtensionOptions};

use crate::config::{Budget, did_you_mean};

const MAX_COST_USD: &str = "max_cost_usd";
const MAX_CALLS: &str = "max_calls";
const MAX_TOKENS: &str = "max_tokens";

/// The settings of a session. A flag of the command stands over SET, and SET over `seedmill.toml`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// From seedmill.toml, changed by SET.
    budget: Budget,
    flags: Budget,
}

impl Settings {
    pub fn new(budget: Budget) -> Self {
        Settings { budget, flags: Budget::default() }
    }

    /// The limits that flags of the command give.
    pub fn set_flags(&mut self, flags: Budget) {
        self.flags = flags;
    }

    /// The limits that hold.
    pub fn budget(&self) -> Budget {
        self.flags.or(self.budget).limits()
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "seedmill";
}

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let wrong = |e: String| DataFusionError::Plan(format!("SET seedmill.{key} = '{value}': {e}"));
        let whole = || Budget::whole_or_none(value).map(Some).map_err(wrong);
        match key {
            MAX_COST_USD => self.budget.max_cost_usd = Some(Budget::dollars_or_none(value).map_err(wrong)?),
            MAX_CALLS => self.budget.max_calls = whole()?,
            MAX_TOKENS => self.budget.max_tokens = whole()?,
            _ => {
                let names = [MAX_COST_USD, MAX_CALLS, MAX_TOKENS];
                return Err(DataFusionError::Plan(format!(
                    "there is no setting seedmill.{key}{}; there are {}",
                    did_you_mean(key, names),
                    names.map(|name| format!("seedmill.{name}")).join(", ")
                )));
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let budget = self.budget();
        let entry = |name: &str, value: Option<String>, description| ConfigEntry {
            key: format!("{}.{name}", Self::PREFIX),
            value: Some(value.unwrap_or_else(|| Budget::NO_LIMIT.to_owned())),
            description,
        };
        vec![
            entry(MAX_COST_USD, budget.max_cost_usd.map(|n| n.to_string()), "US dollars that a run may cost, or none"),
            entry(MAX_CALLS, budget.max_calls.map(|n| n.to_string()), "Requests that a run may send, or none"),
            entry(MAX_TOKENS, budget.max_tokens.map(|n| n.to_string()), "Tokens that a run may use, or none"),
        ]
    }
}
