//! `call_refs(stage TEXT, call STRUCT or STRUCT[]) → STRUCT(stage TEXT, call_id TEXT)[]`: which calls a row owes itself
//! to, from the call column of a stage: one struct, or with several samples a list of them. Calls that were not made
//! (NULL, or without call_id) are left out.
//!
//! ```sql
//! SELECT call_refs('solve', [named_struct('call_id', 'a1'), named_struct('call_id', 'b2')]);
//! -- [{stage: solve, call_id: a1}, {stage: solve, call_id: b2}]
//! ```

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::reference;

const NAME: &str = "call_refs";
const CALL_ID: &str = "call_id";

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    reference(
        "call_refs(stage, call)",
        "Which calls a row owes itself to, from the call column of a stage: a list of (stage, call_id).",
        "SELECT call_refs('solve', [named_struct('call_id', 'a1'), named_struct('call_id', 'b2')]);",
    )
    .build()
});

pub(crate) fn call_refs() -> ScalarUDF {
    ScalarUDF::from(CallRefs { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug)]
struct CallRefs {
    signature: Signature,
}

impl PartialEq for CallRefs {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for CallRefs {}

impl Hash for CallRefs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

fn fields() -> Fields {
    Fields::from(vec![Field::new("stage", DataType::Utf8, true), Field::new(CALL_ID, DataType::Utf8, true)])
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fields()), true))
}

fn holds_call_id(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == CALL_ID),
        DataType::List(element) => holds_call_id(element.data_type()),
        _ => false,
    }
}

impl ScalarUDFImpl for CallRefs {
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
        match given {
            [stage, call] if stage.is_string() && holds_call_id(call) => Ok(vec![DataType::Utf8, call.clone()]),
            _ => plan_err!(
                "call_refs takes the name of a stage and its call column: call_refs('solve', solve_call), not ({})",
                given.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [stages, calls] = arrays.as_slice() else {
            return Err(exec_datafusion_err!("call_refs takes two arguments"));
        };
        Ok(ColumnarValue::Array(refs(stages.as_string::<i32>(), calls)?))
    }
}

fn refs(stages: &StringArray, calls: &ArrayRef) -> Result<ArrayRef> {
    // One struct a row is a list of one.
    let (lists, ids) = match calls.as_list_opt::<i32>() {
        Some(lists) => (Some(lists), call_ids(lists.values().as_struct())?),
        None => (None, call_ids(calls.as_struct())?),
    };
    let (mut stage, mut call_id) = (StringBuilder::new(), StringBuilder::new());
    let mut lengths = Vec::with_capacity(calls.len());
    for row in 0..calls.len() {
        let range = match lists {
            Some(lists) if lists.is_null(row) => 0..0,
            Some(lists) => lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize,
            None => row..row + 1,
        };
        let mut length = 0;
        for id in range.filter(|i| ids.is_valid(*i)).map(|i| ids.value(i)) {
            stage.append_option(stages.is_valid(row).then(|| stages.value(row)));
            call_id.append_value(id);
            length += 1;
        }
        lengths.push(length);
    }
    let values = StructArray::try_new(fields(), vec![Arc::new(stage.finish()), Arc::new(call_id.finish())], None)?;
    Ok(Arc::new(ListArray::try_new(item(), OffsetBuffer::from_lengths(lengths), Arc::new(values), None)?))
}

/// The field `call_id`, NULL where its struct is NULL.
fn call_ids(calls: &StructArray) -> Result<StringArray> {
    let ids = calls.column_by_name(CALL_ID).ok_or_else(|| exec_datafusion_err!("call_refs: a call has no call_id"))?;
    let ids = cast(ids, &DataType::Utf8)?;
    Ok(ids.as_string::<i32>().iter().enumerate().map(|(i, id)| id.filter(|_| calls.is_valid(i))).collect())
}
