//! Texts to n-grams, on all partitions, before the rows are put in order. In: rows with the hidden text. Out: the same rows
//! with hidden columns in its place: the set of n-grams (NULL where nothing is compared), the hash of the whole text, and on
//! request the words.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, RecordBatch, UInt32Builder, UInt64Builder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    StatisticsArgs,
};
use futures::StreamExt;

use super::frequencies::Frequencies;
use super::node::TEXT;
use super::shingles::{Shingler, Unit};

pub(super) const SHINGLES: &str = "__near_duplicates_shingles";
pub(super) const WHOLE: &str = "__near_duplicates_hash";
pub(super) const WORDS: &str = "__near_duplicates_words";

#[derive(Debug)]
pub struct ShingleExec {
    unit: Unit,
    n: usize,
    with_words: bool,
    input: Arc<dyn ExecutionPlan>,
    frequencies: Arc<Frequencies>,
    /// The place of the text in the input.
    text: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ShingleExec {
    pub fn try_new(
        unit: Unit,
        n: usize,
        with_words: bool,
        input: Arc<dyn ExecutionPlan>,
        frequencies: Arc<Frequencies>,
    ) -> Result<Self> {
        let text = input.schema().index_of(TEXT)?;
        let mut fields: Vec<_> = input.schema().fields().iter().cloned().collect();
        fields.remove(text);
        fields.push(Arc::new(Field::new_list(SHINGLES, Field::new_list_field(DataType::UInt64, true), true)));
        fields.push(Arc::new(Field::new(WHOLE, DataType::UInt64, true)));
        if with_words {
            fields.push(Arc::new(Field::new_list(WORDS, Field::new_list_field(DataType::UInt32, true), true)));
        }
        let schema = Arc::new(Schema::new(fields));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { unit, n, with_words, input, frequencies, text, schema, properties, metrics })
    }
}

impl DisplayAs for ShingleExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ShingleExec: {:?} {}-grams", self.unit, self.n)
    }
}

impl ExecutionPlan for ShingleExec {
    fn name(&self) -> &str {
        "ShingleExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => {
                let frequencies = Arc::clone(&self.frequencies);
                Ok(Arc::new(Self::try_new(self.unit, self.n, self.with_words, input, frequencies)?))
            }
            _ => internal_err!("ShingleExec takes exactly one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let mut shingler = Shingler::new(self.unit, self.n);
        let (text, with_words) = (self.text, self.with_words);
        let (schema, frequencies) = (Arc::clone(&self.schema), Arc::clone(&self.frequencies));
        let output = input.map(move |batch| {
            let _timer = metrics.elapsed_compute().timer();
            let batch = shingle(&batch?, text, with_words, &schema, &mut shingler, &frequencies)?;
            Ok(batch.record_output(&metrics))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(input) = inputs.first() {
            statistics.num_rows = input.num_rows;
        }
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

fn shingle(
    batch: &RecordBatch,
    text: usize,
    with_words: bool,
    schema: &SchemaRef,
    shingler: &mut Shingler,
    frequencies: &Frequencies,
) -> Result<RecordBatch> {
    let texts = cast(batch.column(text), &DataType::Utf8View)?;
    let texts = texts.as_string_view();
    let mut sets = ListBuilder::new(UInt64Builder::new());
    let mut wholes = UInt64Builder::with_capacity(texts.len());
    let mut words = ListBuilder::new(UInt32Builder::new());
    let mut set = Vec::new();
    for text in texts {
        let whole = text.and_then(|text| shingler.read(text, &mut set));
        wholes.append_option(whole);
        if whole.is_some() {
            frequencies.add(&set);
            sets.values().append_slice(&set);
        }
        sets.append(whole.is_some());
        if with_words {
            if whole.is_some() {
                words.values().extend(shingler.words().map(Some));
            }
            words.append(whole.is_some());
        }
    }
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.remove(text);
    columns.push(Arc::new(sets.finish()));
    columns.push(Arc::new(wholes.finish()));
    if with_words {
        columns.push(Arc::new(words.finish()));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
