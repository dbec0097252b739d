//! `render('name')`: the Jinja template `prompts/name.jinja` of the pipeline folder over the input's columns.
//! `render('name', 'key', value, …)` gives variables that are no columns. In: an expression with `render`. Out: the same
//! with `jinja_prompt(<text>, named_struct(<the columns it names>), <the file>)`, whose failures are errors of their rows.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use crate::config::did_you_mean;

/// The folder of a pipeline's prompt templates.
#[derive(Debug, Clone)]
pub struct Prompts {
    folder: PathBuf,
}

impl Prompts {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The text of a template.
    pub fn text(&self, name: &str) -> Result<String> {
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return plan_err!("render('{name}'): a template is named by its file name without folder and .jinja");
        }
        let path = self.folder.join(format!("{name}.jinja"));
        std::fs::read_to_string(&path).map_err(|error| {
            let names = self.names();
            let near = did_you_mean(name, names.iter().map(String::as_str));
            plan_datafusion_err!("render('{name}'): {} cannot be read ({error}){near}", path.display())
        })
    }

    /// The names of all templates, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".jinja").map(str::to_owned)).collect();
        names.sort();
        names
    }
}

/// Replaces `render('name')` in an expression over `schema`.
pub fn expand_render(
    expr: Expr,
    prompts: &Prompts,
    schema: &DFSchema,
    function: impl Fn(&str) -> Option<Arc<ScalarUDF>>,
) -> Result<Expr> {
    let function =
        |name: &str| function(name).ok_or_else(|| plan_datafusion_err!("the function {name} is not registered"));
    expr.transform(|expr| {
        let call = match expr {
            Expr::ScalarFunction(call) if call.func.name() == RENDER => call,
            other => return Ok(Transformed::no(other)),
        };
        let (name, given) = arguments(&call.args)?;
        let text = prompts.text(&name)?;
        let mut fields = Vec::new();
        let variables = seedmill_udfs::template_variables(&text)
            .map_err(|e| plan_datafusion_err!("prompts/{name}.jinja: {}", e.message()))?;
        for variable in variables {
            if let Some((_, value)) = given.iter().find(|(key, _)| *key == variable) {
                fields.push(lit(variable));
                fields.push((*value).clone());
                continue;
            }
            if !schema.has_column_with_unqualified_name(&variable) {
                let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let near = did_you_mean(&variable, columns.iter().copied());
                return plan_err!(
                    "the template prompts/{name}.jinja names '{variable}', which is no column of the input{near}; \
                     the columns are {}",
                    columns.join(", ")
                );
            }
            let (qualifier, field) = schema.qualified_field_with_unqualified_name(&variable)?;
            fields.push(lit(variable));
            fields.push(Expr::Column(Column::from((qualifier, field))));
        }
        if fields.is_empty() {
            fields = vec![lit("none"), Expr::Literal(ScalarValue::Null, None)];
        }
        let values = Expr::ScalarFunction(ScalarFunction::new_udf(function("named_struct")?, fields));
        let arguments = vec![lit(text), values, lit(format!("prompts/{name}.jinja"))];
        let jinja = ScalarFunction::new_udf(Arc::new(seedmill_udfs::jinja_prompt()), arguments);
        Ok(Transformed::yes(Expr::ScalarFunction(jinja)))
    })
    .data()
}

/// The template's name, and the variables that are given beside it: `render('solve', 'options', shuffled)`.
fn arguments(args: &[Expr]) -> Result<(String, Vec<(String, &Expr)>)> {
    let text = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    let wrong = || {
        plan_datafusion_err!(
            "render takes the name of a template, and after it variables as pairs of a name and a value: \
             render('solve', 'options', shuffle_options(options, sample))"
        )
    };
    let (name, rest) = args.split_first().ok_or_else(wrong)?;
    if rest.len() % 2 != 0 {
        return Err(wrong());
    }
    let given =
        rest.chunks_exact(2).map(|pair| Ok((text(&pair[0]).ok_or_else(wrong)?, &pair[1]))).collect::<Result<_>>()?;
    Ok((text(name).ok_or_else(wrong)?, given))
}

const RENDER: &str = "render";

/// The name `render`, so that SQL with it can be planned. It never runs: see [`expand_render`].
#[derive(PartialEq, Eq, Hash)]
pub struct Render {
    signature: Signature,
}

impl Render {
    pub fn udf() -> ScalarUDF {
        ScalarUDF::from(Render { signature: Signature::variadic_any(Volatility::Immutable) })
    }
}

impl fmt::Debug for Render {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RENDER)
    }
}

impl ScalarUDFImpl for Render {
    fn name(&self) -> &str {
        RENDER
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!(
            "render stands only in prompt, system and text of a call; elsewhere write jinja('…', named_struct('column', column))"
        )
    }
}
