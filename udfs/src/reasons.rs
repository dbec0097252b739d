//! `reasons(name TEXT, condition BOOLEAN, …) → TEXT[]`: the names whose condition is true, in the order given. A NULL
//! condition is not true. Names are literals, so that a misplaced argument is an error and not a reason.
//!
//! ```sql
//! SELECT reasons('short', length('ab') < 3, 'empty', length('ab') = 0);
//! -- [short]
//! ```
//!
//! This is how a pipeline keeps count of what it rejects: a stage adds to a column of reasons instead of filtering.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray, ListBuilder, StringViewBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::{reference, text_item, text_list};

const NAME: &str = "reasons";

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    reference(
        "reasons(name, condition, …)",
        "The names whose condition is true, in the order given: how a stage says why it rejects a row.",
        "SELECT reasons('short', length('ab') < 3, 'empty', length('ab') = 0);",
    )
    .build()
});

pub(crate) fn reasons() -> ScalarUDF {
    ScalarUDF::from(Reasons { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug)]
struct Reasons {
    signature: Signature,
}

impl PartialEq for Reasons {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Reasons {}

impl Hash for Reasons {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl ScalarUDFImpl for Reasons {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.is_empty() || !given.len().is_multiple_of(2) {
            return plan_err!("reasons takes pairs of a name and a condition: reasons('short', length(x) < 3, …)");
        }
        for (position, data_type) in given.iter().enumerate() {
            let (wanted, fits) = match position % 2 {
                0 => ("a name", matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)),
                _ => ("a condition", matches!(data_type, DataType::Boolean | DataType::Null)),
            };
            if !fits {
                return plan_err!("reasons: argument {} must be {wanted}, not {data_type}", position + 1);
            }
        }
        Ok((0..given.len()).map(|i| if i % 2 == 0 { DataType::Utf8 } else { DataType::Boolean }).collect())
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(text_list())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut checks: Vec<(&str, BooleanArray)> = Vec::with_capacity(args.args.len() / 2);
        for pair in args.args.chunks_exact(2) {
            let name = match &pair[0] {
                ColumnarValue::Scalar(name) => name.try_as_str().flatten(),
                ColumnarValue::Array(_) => None,
            };
            let name = name.ok_or_else(|| exec_datafusion_err!("reasons: a name must be a literal text"))?;
            checks.push((name, pair[1].to_array(args.number_rows)?.as_boolean().clone()));
        }
        let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
        for row in 0..args.number_rows {
            for (name, condition) in &checks {
                if condition.is_valid(row) && condition.value(row) {
                    lists.values().append_value(name);
                }
            }
            lists.append(true);
        }
        Ok(ColumnarValue::Array(Arc::new(lists.finish())))
    }
}
