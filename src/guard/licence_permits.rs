//! `licence_permits(license TEXT, target TEXT) → BOOLEAN`: whether a licence permits a run with this target
//! ('research' or 'commercial'). An unknown or NULL licence permits no commercial run.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::lineage::{Licence, Target};

#[derive(Debug)]
pub struct LicencePermits {
    signature: Signature,
}

impl LicencePermits {
    pub fn udf() -> ScalarUDF {
        ScalarUDF::from(LicencePermits { signature: Signature::string(2, Volatility::Immutable) })
    }
}

impl PartialEq for LicencePermits {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for LicencePermits {}

impl Hash for LicencePermits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for LicencePermits {
    fn name(&self) -> &str {
        "licence_permits"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [licences, ColumnarValue::Scalar(target)] = args.args.as_slice() else {
            return exec_err!("licence_permits: the target must be one text, 'research' or 'commercial'");
        };
        let target: Target =
            target.try_as_str().flatten().unwrap_or_default().parse().map_err(DataFusionError::Execution)?;
        let permits = |licence: Option<&str>| licence.map_or_else(Licence::unknown, Licence::new).permits(target);
        Ok(match licences {
            ColumnarValue::Scalar(licence) => {
                ColumnarValue::Scalar(ScalarValue::from(permits(licence.try_as_str().flatten())))
            }
            ColumnarValue::Array(licences) => {
                let licences = cast(licences, &DataType::Utf8View)?;
                let permitted: BooleanArray =
                    licences.as_string_view().iter().map(|licence| Some(permits(licence))).collect();
                ColumnarValue::Array(Arc::new(permitted))
            }
        })
    }
}
