//! SQL functions for curating questions and answers, usable in any DataFusion session: one file a function, the SQL
//! reference of each in its module doc. Text comes in as any of Arrow's three string types and goes out as Utf8View.

mod arguments;
mod function;

mod jinja;

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_expr::registry::FunctionRegistry;
use datafusion_expr::{AggregateUDF, ScalarUDF};

use crate::function::{Definition, scalar};
pub use crate::jinja::template_variables;

/// Every scalar function, in the order of the reference.
const SCALAR: &[&Definition] = &[&jinja::JINJA, &jinja::TRY_JINJA];

/// All scalar functions of this crate.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    SCALAR.iter().map(|definition| Arc::new(scalar(definition))).collect()
}

/// All aggregate functions of this crate. There are none yet: votes are taken over lists by `majority_vote`.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    Vec::new()
}

/// Registers all functions of this crate; a function of the same name that was there before is replaced.
pub fn register_all(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    Ok(())
}
