//! Session variables `@name`: typed values from `[variables]` and `--set`, folded into plans before anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

use crate::config::{Variable, did_you_mean};
use crate::model_call::fold_variables;

/// The variables of a session.
#[derive(Debug, Default)]
pub struct Variables {
    values: BTreeMap<String, Variable>,
    used: Mutex<BTreeSet<String>>,
}

impl Variables {
    pub fn new(values: BTreeMap<String, Variable>) -> Self {
        Self { values, used: Mutex::default() }
    }

    /// The names in `names` that no statement has used so far.
    pub fn unused<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        names.into_iter().filter(|name| !used.contains(*name)).collect()
    }

    fn find(&self, names: &[String]) -> Option<&Variable> {
        let name = names.first()?.strip_prefix('@')?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.values.get(name)
    }
}

impl VarProvider for Variables {
    fn get_value(&self, names: Vec<String>) -> Result<ScalarValue> {
        match self.find(&names) {
            Some(Variable::Text(text)) => Ok(ScalarValue::from(text.as_str())),
            Some(Variable::Integer(n)) => Ok(ScalarValue::from(*n)),
            Some(Variable::Float(n)) => Ok(ScalarValue::from(*n)),
            Some(Variable::Boolean(b)) => Ok(ScalarValue::from(*b)),
            None => {
                let name = names.join(".");
                let known = self.values.keys().map(String::as_str);
                plan_err!(
                    "the variable {name} is not set; set it with --set {}=… or in [variables] of seedmill.toml{}",
                    name.trim_start_matches('@'),
                    did_you_mean(name.trim_start_matches('@'), known)
                )
            }
        }
    }

    /// A variable that is not set has a type too, so that the error comes from [`Self::get_value`] and names it.
    fn get_type(&self, names: &[String]) -> Option<DataType> {
        Some(match self.find(names) {
            Some(Variable::Integer(_)) => DataType::Int64,
            Some(Variable::Float(_)) => DataType::Float64,
            Some(Variable::Boolean(_)) => DataType::Boolean,
            Some(Variable::Text(_)) | None => DataType::Utf8,
        })
    }
}

/// Replaces `@name` by its value wherever it stands.
#[derive(Debug)]
pub struct FoldVariables(pub Arc<Variables>);

impl AnalyzerRule for FoldVariables {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let folded = plan.map_expressions(|expr| {
                let saved = names.save(&expr);
                let folded = fold_variables(expr.clone(), self.0.as_ref())?;
                let changed = folded != expr;
                Ok(if changed { Transformed::yes(saved.restore(folded)) } else { Transformed::no(folded) })
            })?;
            if folded.transformed { folded.map_data(LogicalPlan::recompute_schema) } else { Ok(folded) }
        })
        .data()
    }

    fn name(&self) -> &str {
        "fold_variables"
    }
}
