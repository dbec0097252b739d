//! The comparison, batch by batch. In: items, on any number of partitions, and the reference set on one. Out: the items
//! without the hidden columns, and what was found.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Builder, ListBuilder, RecordBatch, StringViewBuilder, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, StatisticsArgs,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::cache::IndexCache;
use super::matcher::{Contamination, Matcher};
use super::node::{ANSWER, Spec, TEXT, contamination_fields};
use super::reference::{Reference, ReferenceRow};

#[derive(Debug)]
pub struct DecontaminateExec {
    spec: Spec,
    items: Arc<dyn ExecutionPlan>,
    reference: Arc<dyn ExecutionPlan>,
    indexes: Arc<IndexCache>,
    /// Read once for all partitions.
    index: Arc<OnceCell<Indexed>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// An index and the memory it is counted with.
#[derive(Debug)]
struct Indexed {
    reference: Arc<Reference>,
    _reservation: MemoryReservation,
}

impl DecontaminateExec {
    /// `schema` is the node's: the columns that pass through, then the added one.
    pub fn new(
        spec: Spec,
        items: Arc<dyn ExecutionPlan>,
        reference: Arc<dyn ExecutionPlan>,
        indexes: Arc<IndexCache>,
        schema: SchemaRef,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(items.output_partitioning().partition_count()),
            EmissionType::Incremental,
            items.boundedness(),
        ));
        Self {
            spec,
            items,
            reference,
            indexes,
            index: Arc::default(),
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for DecontaminateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "DecontaminateExec: {}", self.spec)
    }
}

impl ExecutionPlan for DecontaminateExec {
    fn name(&self) -> &str {
        "DecontaminateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.items, &self.reference]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) {
            Ok([items, reference]) => {
                let (indexes, schema) = (Arc::clone(&self.indexes), Arc::clone(&self.schema));
                Ok(Arc::new(Self::new(self.spec.clone(), items, reference, indexes, schema)))
            }
            Err(_) => internal_err!("DecontaminateExec takes exactly two children"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input_schema = self.items.schema();
        let (text, answer) = (input_schema.index_of(TEXT)?, input_schema.index_of(ANSWER)?);
        let compare = Compare {
            spec: self.spec.clone(),
            text,
            answer,
            passed: (0..input_schema.fields().len()).filter(|at| *at != text && *at != answer).collect(),
            schema: Arc::clone(&self.schema),
            found: MetricBuilder::new(&self.metrics).counter("contaminated", partition),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let items = self.items.execute(partition, Arc::clone(&context))?;
        let (reference, indexes, index) =
            (Arc::clone(&self.reference), Arc::clone(&self.indexes), Arc::clone(&self.index));
        let output = async move {
            index.get_or_try_init(|| read(reference, indexes, context)).await?;
            let output = items.map(move |batch| {
                let _timer = metrics.elapsed_compute().timer();
                let Some(index) = index.get() else { return internal_err!("decontaminate has lost its reference set") };
                let batch = compare.batch(&batch?, &index.reference)?;
                Ok(batch.record_output(&metrics))
            });
            Ok::<_, DataFusionError>(output)
        };
        let output = futures::stream::once(output).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition), ChildStats::Skip]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(items) = inputs.first() {
            statistics.num_rows = items.num_rows;
        }
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

/// Reads the reference set and finds or builds its index.
async fn read(
    reference: Arc<dyn ExecutionPlan>,
    indexes: Arc<IndexCache>,
    context: Arc<TaskContext>,
) -> Result<Indexed> {
    let reservation = MemoryConsumer::new("decontaminate").register(context.memory_pool());
    let too_large = |rows: usize| {
        DataFusionError::ResourcesExhausted(format!(
            "decontaminate: its reference set of {rows} rows and more needs more than the memory limit leaves; raise \
             datafusion.runtime.memory_limit, or compare with one part of it after the other"
        ))
    };
    let mut rows = Vec::new();
    let mut batches = reference.execute(0, context)?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let columns =
            batch.columns().iter().map(|column| cast(column, &DataType::Utf8View)).collect::<Result<Vec<_>, _>>()?;
        let [table, row, question, answer] = columns.as_slice() else {
            return internal_err!("the reference set of decontaminate has {} columns", columns.len());
        };
        let text = |column: &ArrayRef, at: usize| {
            let column = column.as_string_view();
            column.is_valid(at).then(|| column.value(at).to_owned())
        };
        let mut bytes = 0;
        for at in 0..batch.num_rows() {
            let Some(question) = text(question, at) else { continue };
            let (table, row) = (text(table, at).unwrap_or_default(), text(row, at).unwrap_or_default());
            let answer = text(answer, at);
            bytes += size_of::<ReferenceRow>() + table.len() + row.len() + question.len();
            rows.push(ReferenceRow { table, row, question, answer });
        }
        reservation.try_grow(bytes).map_err(|_| too_large(rows.len()))?;
    }
    let count = rows.len();
    // Building takes as long as it takes: not on a thread that others wait for.
    let reference = tokio::task::spawn_blocking(move || indexes.index_of(rows))
        .await
        .map_err(|e| DataFusionError::External(Box::new(e)))?;
    reservation.try_resize(reference.size()).map_err(|_| too_large(count))?;
    Ok(Indexed { reference, _reservation: reservation })
}

/// What one partition does with its batches.
struct Compare {
    spec: Spec,
    text: usize,
    answer: usize,
    /// The input's columns that the output has.
    passed: Vec<usize>,
    schema: SchemaRef,
    found: Count,
}

impl Compare {
    fn batch(&self, batch: &RecordBatch, reference: &Reference) -> Result<RecordBatch> {
        let texts = cast(batch.column(self.text), &DataType::Utf8View)?;
        let answers = cast(batch.column(self.answer), &DataType::Utf8View)?;
        let (texts, answers) = (texts.as_string_view(), answers.as_string_view());
        let mut matcher = Matcher::new(reference, self.spec.limits());
        let mut built = Built::default();
        for (text, answer) in texts.iter().zip(answers) {
            let found = text.and_then(|text| Some((matcher.find(text, answer, &self.spec.rules)?, text)));
            self.found.add(usize::from(found.is_some()));
            built.append(found, reference);
        }
        let mut columns: Vec<ArrayRef> = self.passed.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        columns.push(built.finish()?);
        // Types of strings may differ between the logical and the physical plan.
        let columns = columns.iter().zip(self.schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<std::result::Result<_, _>>()?)?)
    }
}

/// The added column while it is built.
struct Built {
    score: Float64Builder,
    rule: StringViewBuilder,
    rules: ListBuilder<StringViewBuilder>,
    table: StringViewBuilder,
    row: StringViewBuilder,
    span: StringViewBuilder,
    valid: Vec<bool>,
}

impl Default for Built {
    fn default() -> Self {
        Built {
            score: Float64Builder::new(),
            rule: StringViewBuilder::new(),
            rules: ListBuilder::new(StringViewBuilder::new()),
            table: StringViewBuilder::new(),
            row: StringViewBuilder::new(),
            span: StringViewBuilder::new(),
            valid: Vec::new(),
        }
    }
}

impl Built {
    fn append(&mut self, found: Option<(Contamination, &str)>, reference: &Reference) {
        self.valid.push(found.is_some());
        let Some((found, text)) = found else {
            self.score.append_null();
            self.rule.append_null();
            self.rules.append_null();
            self.table.append_null();
            self.row.append_null();
            self.span.append_null();
            return;
        };
        let question = &reference.questions[found.question as usize];
        self.score.append_value(found.score);
        self.rule.append_value(found.rule.as_str());
        found.rules.iter().for_each(|rule| self.rules.values().append_value(rule.as_str()));
        self.rules.append(true);
        self.table.append_value(&reference.tables[question.table as usize]);
        self.row.append_option(Some(&question.row).filter(|row| !row.is_empty()));
        self.span.append_option(text.get(found.span));
    }

    fn finish(mut self) -> Result<ArrayRef> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.score.finish()),
            Arc::new(self.rule.finish()),
            Arc::new(self.rules.finish()),
            Arc::new(self.table.finish()),
            Arc::new(self.row.finish()),
            Arc::new(self.span.finish()),
        ];
        Ok(Arc::new(StructArray::try_new(contamination_fields(), columns, Some(NullBuffer::from(self.valid)))?))
    }
}
