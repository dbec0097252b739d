//! Finished rows put together into output batches. In: input rows with the results of their samples. Out: the
//! passed-through columns, the returned columns and the call column.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, RecordBatch, RecordBatchOptions, StringBuilder,
    StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::{Result, exec_err};
use serde_json::Value;

use super::answer::{text_array, to_array};
use super::embed_vector;
use super::returns::{ReturnColumn, ReturnType};
use super::row::{InputRows, SampleResult};
use super::spec::{CallKind, CallSpec, OnError, call_fields};
use crate::endpoint::Completion;

/// An input row whose calls have all ended.
#[derive(Debug)]
pub struct FinishedRow {
    pub rows: Arc<InputRows>,
    pub row: usize,
    /// By sample; `None` where no call was made.
    pub samples: Vec<Option<SampleResult>>,
}

/// One value of the call column and of every returned column.
#[derive(Clone, Copy)]
struct Cell<'a> {
    result: &'a SampleResult,
    value: Option<&'a Value>,
    item: Option<i64>,
    sample: i64,
    error: Option<&'a str>,
}

/// The text of each completion that reads.
fn texts<'a>(cells: &[Option<Cell<'a>>]) -> Vec<Option<&'a str>> {
    let text = |cell: &Option<Cell<'a>>| {
        cell.filter(|cell| cell.value.is_some()).map(|cell| cell.result.completion.text.as_str())
    };
    cells.iter().map(text).collect()
}

/// Puts finished rows together.
#[derive(Debug)]
pub struct Assembler {
    spec: Arc<CallSpec>,
    schema: SchemaRef,
    columns: Vec<ReturnColumn>,
    /// The model's name as sent.
    model: Arc<str>,
}

/// An output batch and how many rows `on_error => 'drop'` left out of it.
pub struct Assembled {
    pub batch: RecordBatch,
    pub dropped: usize,
}

impl Assembler {
    pub fn new(spec: Arc<CallSpec>, schema: SchemaRef, model: Arc<str>) -> Self {
        let columns = match &spec.returns {
            Some(returns) => returns.columns().to_vec(),
            None => vec![ReturnColumn {
                name: spec.output.clone(),
                ty: ReturnType::Text { max_chars: u64::MAX },
                nullable: false,
            }],
        };
        Self { spec, schema, columns, model }
    }

    /// Fails on the first failed call with `on_error => 'fail'`.
    pub fn assemble(&self, finished: &[FinishedRow]) -> Result<Assembled> {
        // Where each output row comes from, and its cells: one, or with list results one a sample.
        let (mut sources, mut rows, mut dropped) = (Vec::new(), Vec::<Vec<Option<Cell>>>::new(), 0);
        for (index, row) in finished.iter().enumerate() {
            for cells in self.cells(row) {
                let made = cells.iter().flatten().count();
                let errors = cells.iter().flatten().filter(|cell| cell.error.is_some()).count();
                if errors > 0 && self.spec.on_error == OnError::Fail {
                    let error = cells.iter().flatten().find_map(|cell| cell.error).unwrap_or_default();
                    return exec_err!(
                        "{} (model {}) failed for a row: {error}; with on_error => 'keep' the row stays with its error",
                        self.spec.kind.as_str(),
                        self.spec.model
                    );
                }
                if errors > 0 && errors == made && self.spec.on_error == OnError::Drop {
                    dropped += 1;
                    continue;
                }
                sources.push((index, row.row));
                rows.push(cells);
            }
        }
        let mut arrays = self.passed_through(finished, &sources)?;
        let flat: Vec<Option<Cell>> = rows.iter().flatten().copied().collect();
        for column in &self.columns {
            let array = match (self.spec.kind, &self.spec.returns) {
                (CallKind::Embed, _) => embed_vector::to_array(&texts(&flat), self.spec.dimensions),
                (_, None) => Arc::new(text_array(&texts(&flat))),
                _ => {
                    let values: Vec<Option<&Value>> =
                        flat.iter().map(|cell| cell.and_then(|cell| cell.value?.get(&column.name))).collect();
                    to_array(&column.ty, &values)?
                }
            };
            arrays.push(self.listed(&rows, array)?);
        }
        arrays.push(self.listed(&rows, self.call_column(&flat))?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(Assembled { batch, dropped })
    }

    /// The output rows of one input row, each as its cells.
    fn cells<'a>(&self, row: &'a FinishedRow) -> Vec<Vec<Option<Cell<'a>>>> {
        let samples = || row.samples.iter().enumerate().map(|(sample, result)| (sample as i64, result));
        match self.spec.kind {
            CallKind::Enrich | CallKind::Embed => {
                let cell = |(sample, result): (i64, &'a Option<SampleResult>)| {
                    let result = result.as_ref()?;
                    Some(match &result.items {
                        Ok(items) => Cell { result, value: items.first(), item: None, sample, error: None },
                        Err(error) => Cell { result, value: None, item: None, sample, error: Some(error) },
                    })
                };
                vec![samples().map(cell).collect()]
            }
            CallKind::Generate => {
                let mut rows = Vec::new();
                for (sample, result) in samples() {
                    let Some(result) = result else { continue };
                    match &result.items {
                        Ok(items) => rows.extend(items.iter().enumerate().map(|(item, value)| {
                            vec![Some(Cell {
                                result,
                                value: Some(value),
                                item: Some(item as i64),
                                sample,
                                error: None,
                            })]
                        })),
                        Err(error) => {
                            rows.push(vec![Some(Cell { result, value: None, item: None, sample, error: Some(error) })]);
                        }
                    }
                }
                if rows.is_empty() {
                    rows.push(vec![None]);
                }
                rows
            }
        }
    }

    fn passed_through(&self, finished: &[FinishedRow], sources: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        let Some(first) = finished.first() else { return Ok(Vec::new()) };
        if first.rows.passed_through.num_columns() == 0 {
            return Ok(Vec::new());
        }
        // Rows of one input batch share it: each batch is named once, not once a row.
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut seen: HashMap<*const InputRows, usize> = HashMap::new();
        let batch_of: Vec<usize> = finished
            .iter()
            .map(|row| {
                *seen.entry(Arc::as_ptr(&row.rows)).or_insert_with(|| {
                    batches.push(&row.rows.passed_through);
                    batches.len() - 1
                })
            })
            .collect();
        let places: Vec<(usize, usize)> = sources.iter().map(|(index, row)| (batch_of[*index], *row)).collect();
        Ok(interleave_record_batch(&batches, &places)?.columns().to_vec())
    }

    /// With list results: the flat array cut into one list a row; a row without any call has a NULL list.
    fn listed(&self, rows: &[Vec<Option<Cell>>], flat: ArrayRef) -> Result<ArrayRef> {
        if !self.spec.is_list() {
            return Ok(flat);
        }
        let element = Arc::new(Field::new_list_field(flat.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
        let nulls = NullBuffer::from_iter(rows.iter().map(|cells| cells.iter().any(Option::is_some)));
        Ok(Arc::new(ListArray::try_new(element, offsets, flat, Some(nulls))?))
    }

    fn call_column(&self, cells: &[Option<Cell>]) -> ArrayRef {
        let integer = |value: &dyn Fn(&Cell) -> Option<i64>| -> ArrayRef {
            let mut builder = Int64Builder::with_capacity(cells.len());
            cells.iter().for_each(|cell| builder.append_option(cell.as_ref().and_then(value)));
            Arc::new(builder.finish())
        };
        // Cost, tokens and time are of all calls that the answer took; the rest is of the last, whose answer counts.
        let (mut cost, mut replayed) = (Float64Builder::new(), BooleanBuilder::new());
        for cell in cells {
            let answered =
                || cell.iter().flat_map(|cell| cell.result.outcomes()).filter_map(|o| o.answer.as_ref().ok());
            let answers = answered().next().is_some();
            cost.append_option(answers.then(|| answered().map(|answered| answered.cost_usd).sum()));
            replayed.append_option(answers.then(|| answered().all(|answered| answered.replayed)));
        }
        let count = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
        let answers = self.spec.kind != CallKind::Embed;
        let mut arrays: Vec<ArrayRef> = vec![
            text(cells, |cell| Some(cell.result.outcome.call_id.to_hex())),
            text(cells, |_| Some(&self.model)),
            text(cells, |cell| cell.error),
        ];
        if answers {
            arrays.push(text(cells, |cell| cell.result.completion.finish_reason.as_deref()));
            arrays.push(text(cells, |cell| cell.result.completion.reasoning.as_deref()));
        }
        arrays.push(integer(&|cell| count(sum(completions(cell).map(|completion| completion.prompt_tokens)))));
        if answers {
            arrays.push(integer(&|cell| count(sum(completions(cell).map(|completion| completion.completion_tokens)))));
        }
        arrays.push(Arc::new(cost.finish()));
        arrays.push(integer(&|cell| {
            count(sum(cell.result.outcomes().map(|outcome| outcome.answer.as_ref().ok().and_then(|a| a.latency_ms))))
        }));
        arrays.push(Arc::new(replayed.finish()));
        if self.spec.kind == CallKind::Generate {
            arrays.push(integer(&|cell| cell.item));
            arrays.push(integer(&|cell| Some(cell.sample)));
        }
        let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
        Arc::new(StructArray::new(call_fields(self.spec.kind), arrays, Some(nulls)))
    }
}

/// What was answered to each call that the cell took.
fn completions<'a>(cell: &Cell<'a>) -> impl Iterator<Item = &'a Completion> {
    cell.result.outcomes().filter_map(|outcome| outcome.answer.as_ref().ok()?.completion.as_deref().ok())
}

/// The sum of what is known; `None` where nothing is.
fn sum(numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    numbers.flatten().reduce(u64::saturating_add)
}

fn text<'a, T: AsRef<str>>(cells: &[Option<Cell<'a>>], value: impl Fn(&Cell<'a>) -> Option<T>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(cells.len(), cells.len() * 16);
    cells.iter().for_each(|cell| builder.append_option(cell.as_ref().and_then(&value)));
    Arc::new(builder.finish())
}
