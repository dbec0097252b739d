//! The prompts of a call tried before the first call is paid: rendered for its first row where it has rows without calls,
//! and for one that is made up, since later stages have none yet. In: a call node. Out: what cannot be rendered.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, FixedSizeListArray, LargeListArray, ListArray, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use seedmill_udfs::unrendered;

use super::node::CallNode;
use super::row::InputRows;

/// A text that is a number, too.
const TEXT: &str = "1";
/// As many as a template that names items by their place may ask for.
const ITEMS: usize = 8;

/// A template that could not be rendered for the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeUpFailure {
    /// The template, the place in it, and what is wrong there.
    pub reason: String,
    /// Whether that holds for all rows; else it may lie in the values that were made up.
    pub no_row_can: bool,
}

/// Renders the prompts of a call for the first row of its input, which is run up to there: why they cannot be rendered.
pub async fn render_first_row(state: &SessionState, call: &CallNode) -> Result<Option<String>> {
    let first = DataFrame::new(state.clone(), call.input().clone()).limit(0, Some(1))?;
    for batch in first.collect().await? {
        let rows = InputRows::try_new(&batch, &call.spec().columns)?;
        let samples = 0..if batch.num_rows() == 0 { 0 } else { call.spec().sample_count() };
        let messages = samples.filter_map(|sample| rows.message_list(0, sample)).flatten();
        for message in messages {
            if let Some(failure) = unrendered(&message.content) {
                return Ok(Some(failure.reason.to_owned()));
            }
        }
    }
    Ok(None)
}

/// Renders each template of a call for one row, in which every text is "1" and every list has eight items.
pub async fn render_made_up_row(state: &SessionState, call: &CallNode) -> Result<Vec<MadeUpFailure>> {
    let Some((templates, schema)) = templates(call)? else { return Ok(Vec::new()) };
    let row = schema.iter().map(|(qualifier, field)| {
        Ok(lit(made_up(field.data_type())?).alias_qualified(qualifier.cloned(), field.name()))
    });
    let row = LogicalPlanBuilder::empty(true).project(row.collect::<Result<Vec<_>>>()?)?;
    let named = templates.into_iter().enumerate().map(|(n, template)| template.alias(n.to_string()));
    let batches = DataFrame::new(state.clone(), row.project(named)?.build()?).collect().await?;
    let mut failures = Vec::new();
    for column in batches.iter().flat_map(|batch| batch.columns()) {
        let texts = cast(column, &DataType::Utf8View)?;
        failures.extend(
            texts
                .as_string_view()
                .iter()
                .flatten()
                .filter_map(unrendered)
                .map(|failure| MadeUpFailure { reason: failure.reason.to_owned(), no_row_can: failure.no_row_can }),
        );
    }
    failures.dedup();
    Ok(failures)
}

/// The templates of a call, whatever condition they stand behind, and the columns that they are over.
fn templates(call: &CallNode) -> Result<Option<(Vec<Expr>, &DFSchema)>> {
    // A preview has put filters and limits above the projection.
    let mut plan = call.input();
    let projection = loop {
        match (plan, plan.inputs().as_slice()) {
            (LogicalPlan::Projection(projection), _) => break projection,
            (_, [input]) => plan = input,
            _ => return Ok(None),
        }
    };
    let mut templates: Vec<Expr> = Vec::new();
    for expr in &projection.expr {
        expr.apply(|expr| {
            if let Expr::ScalarFunction(function) = expr
                && function.func == Arc::new(seedmill_udfs::jinja_prompt())
                && !templates.contains(expr)
            {
                templates.push(expr.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok((!templates.is_empty()).then_some((templates, projection.input.schema().as_ref())))
}

/// A value of a type: never NULL where the type has another one.
fn made_up(data_type: &DataType) -> Result<ScalarValue> {
    let items = |field: &FieldRef, n: usize| -> Result<_> {
        ScalarValue::iter_to_array(std::iter::repeat_n(made_up(field.data_type())?, n))
    };
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ScalarValue::from(TEXT).cast_to(data_type)?,
        DataType::Boolean => ScalarValue::from(true),
        DataType::List(field) => {
            let offsets = OffsetBuffer::from_lengths([ITEMS]);
            ScalarValue::List(Arc::new(ListArray::try_new(Arc::clone(field), offsets, items(field, ITEMS)?, None)?))
        }
        DataType::LargeList(field) => {
            let offsets = OffsetBuffer::from_lengths([ITEMS]);
            let list = LargeListArray::try_new(Arc::clone(field), offsets, items(field, ITEMS)?, None)?;
            ScalarValue::LargeList(Arc::new(list))
        }
        DataType::FixedSizeList(field, n) => {
            let values = items(field, usize::try_from(*n).unwrap_or_default())?;
            ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::try_new(Arc::clone(field), *n, values, None)?))
        }
        DataType::Struct(fields) => {
            let values = fields.iter().map(|field| made_up(field.data_type())?.to_array()).collect::<Result<_>>()?;
            ScalarValue::Struct(Arc::new(StructArray::try_new(fields.clone(), values, None)?))
        }
        other => ScalarValue::new_one(other).or_else(|_| ScalarValue::try_from(other))?,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Fields};

    use super::*;

    #[test]
    fn every_type_has_a_value_of_its_own_type() {
        let item = |data_type| Arc::new(Field::new_list_field(data_type, true));
        let fields =
            Fields::from(vec![Field::new("t", DataType::LargeUtf8, true), Field::new("n", DataType::Int8, true)]);
        let types = [
            DataType::Utf8View,
            DataType::Boolean,
            DataType::UInt64,
            DataType::Float32,
            DataType::Date32,
            DataType::Binary,
            DataType::Null,
            DataType::Struct(fields.clone()),
            DataType::List(item(DataType::Struct(fields))),
            DataType::LargeList(item(DataType::Utf8)),
            DataType::FixedSizeList(item(DataType::Float32), 3),
        ];
        for data_type in types {
            assert_eq!(made_up(&data_type).unwrap().data_type(), data_type);
        }
    }
}
