//! `run_python(code TEXT [, tests TEXT]) → STRUCT(status TEXT, error TEXT)`: what comes of a program that is run. Off, and
//! then NULL for every row, unless `[run_code]` of `seedmill.toml` names a Python.

mod program;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder, StructArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::config::RunCode;
pub use program::check;
use program::{Ended, run};

pub const NAME: &str = "run_python";

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("status", DataType::Utf8, true), Field::new("error", DataType::Utf8, true)])
});

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        DocSection::default(),
        "Runs a Python program, and tests behind it, in a process of its own with limits of time and memory: `status` is \
         'ok', 'failed' or 'timeout', `error` the last line that it wrote to standard error. NULL where `[run_code]` of \
         `seedmill.toml` is not set. This is no sandbox: the program can read and delete what the user can, and reach the \
         network. It gets no environment variables, an empty folder that is deleted, and no input. Below a call it is \
         refused: a program may end otherwise the next time.",
        "run_python(code [, tests])",
    )
    .with_argument("code", "a program; NULL gives NULL")
    .with_argument("tests", "more lines that follow it, such as assertions")
    .with_sql_example("```sql\nSELECT run_python('def half(n): return n // 2', 'assert half(7) == 3')['status'] AS status;\n```")
    .build()
});

/// What the reference says of the function.
pub fn documentation() -> &'static Documentation {
    &DOCUMENTATION
}

/// The function, for these settings; `None` switches it off. All queries of a session share its processes.
pub fn run_python(settings: Option<RunCode>) -> ScalarUDF {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let forms = vec![TypeSignature::String(1), TypeSignature::String(2)];
    // Switched off it is a constant.
    let is_on = settings.is_some();
    let volatility = if is_on { Volatility::Volatile } else { Volatility::Immutable };
    let signature = Signature::one_of(forms, volatility);
    let function = RunPython { settings, places: Arc::new(Semaphore::new(at_once)), at_once, signature };
    if is_on { AsyncScalarUDF::new(Arc::new(function)).into_scalar_udf() } else { ScalarUDF::from(function) }
}

#[derive(Debug)]
struct RunPython {
    settings: Option<RunCode>,
    /// One for each process.
    places: Arc<Semaphore>,
    at_once: usize,
    signature: Signature,
}

impl PartialEq for RunPython {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for RunPython {}

impl Hash for RunPython {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl ScalarUDFImpl for RunPython {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(FIELDS.clone()))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.settings {
            None => Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(&DataType::Struct(FIELDS.clone()))?)),
            Some(_) => internal_err!("{NAME} runs asynchronously"),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for RunPython {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let texts =
            |column: &ColumnarValue| -> Result<ArrayRef> { Ok(cast(&column.to_array(rows)?, &DataType::Utf8View)?) };
        let columns = args.args.iter().map(texts).collect::<Result<Vec<_>>>()?;
        let Some(code) = columns.first() else { return internal_err!("{NAME} needs a program") };
        let (code, tests) = (code.as_string_view(), columns.get(1).map(|tests| tests.as_string_view()));
        let ended = stream::iter(0..rows).map(|row| async move {
            let Some(settings) = self.settings.as_ref().filter(|_| code.is_valid(row)) else { return Ok(None) };
            let mut program = code.value(row).to_owned();
            if let Some(tests) = tests.filter(|tests| tests.is_valid(row)) {
                program.push('\n');
                program.push_str(tests.value(row));
            }
            let Ok(_place) = self.places.acquire().await else { return internal_err!("{NAME} has ended") };
            run(settings, &program).await.map(Some)
        });
        let ended: Vec<Option<Ended>> = ended.buffered(self.at_once).try_collect().await?;
        let (mut status, mut error) = (StringBuilder::new(), StringBuilder::new());
        for ended in &ended {
            status.append_option(ended.as_ref().map(|ended| ended.status.as_str()));
            error.append_option(ended.as_ref().and_then(|ended| ended.error.as_deref()));
        }
        let valid: NullBuffer = ended.iter().map(Option::is_some).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(status.finish()), Arc::new(error.finish())];
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(FIELDS.clone(), columns, Some(valid))?)))
    }
}
