//! Arguments that are literals or variables: SQL expression in, plain value out, or one sentence with the name.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use serde_json::{Map, Value};

/// Replaces every `@name` by its value.
pub fn fold_variables(expr: Expr, variables: &dyn VarProvider) -> Result<Expr> {
    expr.transform(|expr| match expr {
        Expr::ScalarVariable(_, names) => Ok(Transformed::yes(Expr::Literal(variables.get_value(names)?, None))),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// A named argument and its constant value.
pub struct Literal<'a> {
    name: &'a str,
    value: ScalarValue,
}

impl<'a> Literal<'a> {
    pub fn new(name: &'a str, expr: Expr, variables: &dyn VarProvider) -> Result<Self> {
        let expr = fold_variables(expr, variables)?;
        if !expr.column_refs().is_empty() || expr.is_volatile() {
            return plan_err!(
                "{name} => {expr} must be a literal or a variable @name, not an expression over the input"
            );
        }
        match ExprSimplifier::new(SimplifyContext::default()).simplify(expr)? {
            Expr::Literal(value, _) => Ok(Literal { name, value }),
            other => plan_err!("{name} => {other} must be a literal or a variable @name"),
        }
    }

    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T> {
        plan_err!("{} => {} must be {wanted}", self.name, self.value)
    }

    pub fn text(&self) -> Result<String> {
        match self.value.try_as_str() {
            Some(Some(text)) => Ok(text.to_owned()),
            _ => self.wrong("a text"),
        }
    }

    /// A text that names a column.
    pub fn column_name(&self) -> Result<String> {
        let name = self.text()?;
        if name.is_empty() { self.wrong("a column's name") } else { Ok(name) }
    }

    pub fn number(&self, min: f64, max: f64) -> Result<f64> {
        let number = match &self.value {
            value if value.data_type().is_numeric() => value.cast_to(&DataType::Float64)?,
            _ => return self.wrong("a number"),
        };
        match number {
            ScalarValue::Float64(Some(n)) if (min..=max).contains(&n) => Ok(n),
            _ => self.wrong(&format!("a number from {min} to {max}")),
        }
    }

    pub fn integer(&self) -> Result<i64> {
        match &self.value {
            value if value.data_type().is_integer() => match value.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(n)) => Ok(n),
                _ => self.wrong("a whole number"),
            },
            _ => self.wrong("a whole number"),
        }
    }

    pub fn count(&self, max: u32) -> Result<u32> {
        self.count_from(1, max)
    }

    pub fn count_from(&self, min: u32, max: u32) -> Result<u32> {
        match u32::try_from(self.integer()?) {
            Ok(n) if (min..=max).contains(&n) => Ok(n),
            _ => self.wrong(&format!("a whole number from {min} to {max}")),
        }
    }

    /// One text, or a list of texts.
    pub fn texts(&self) -> Result<Vec<String>> {
        let list = match &self.value {
            ScalarValue::List(list) => list.value(0),
            _ => return Ok(vec![self.text()?]),
        };
        let texts = cast(&list, &DataType::Utf8)?;
        Ok(texts.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
    }

    /// A JSON object in a text.
    pub fn json_object(&self) -> Result<Map<String, Value>> {
        let text = self.text()?;
        serde_json::from_str(&text)
            .map_err(|e| plan_datafusion_err!("{} => '{text}' must be a JSON object: {e}", self.name))
    }
}
