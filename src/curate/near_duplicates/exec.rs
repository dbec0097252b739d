//! The decision, row by row in their order. In: rows with their n-grams, sorted, on one partition. Out: the rows without
//! the hidden columns, and what was found.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Builder, RecordBatch, StringViewBuilder, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{SortOptions, cast, interleave, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    Partitioning, PlanProperties, StatisticsArgs,
};
use futures::StreamExt;

use super::frequencies::Frequencies;
use super::kept::{Kept, Match};
use super::node::{KEY, PREFER, Spec, duplicate_fields};
use super::shingle_exec::{SHINGLES, WHOLE};

#[derive(Debug)]
pub struct NearDuplicatesExec {
    spec: Spec,
    input: Arc<dyn ExecutionPlan>,
    frequencies: Arc<Frequencies>,
    order: LexOrdering,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl NearDuplicatesExec {
    /// `schema` is the node's: the columns that pass through, then the added one.
    pub fn try_new(
        spec: Spec,
        input: Arc<dyn ExecutionPlan>,
        frequencies: Arc<Frequencies>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        let order = order(&input)?;
        Ok(Self { spec, input, frequencies, order, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
}

/// Best first, then by key; equal keys by their texts.
fn order(input: &Arc<dyn ExecutionPlan>) -> Result<LexOrdering> {
    let schema = input.schema();
    let by = |name: &str, descending: bool| -> Result<PhysicalSortExpr> {
        let column = Arc::new(Column::new_with_schema(name, &schema)?);
        Ok(PhysicalSortExpr::new(column, SortOptions { descending, nulls_first: false }))
    };
    LexOrdering::new([by(PREFER, true)?, by(KEY, false)?, by(WHOLE, false)?])
        .ok_or_else(|| internal_datafusion_err!("near_duplicates has no order"))
}

impl DisplayAs for NearDuplicatesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NearDuplicatesExec: {}", self.spec)
    }
}

impl ExecutionPlan for NearDuplicatesExec {
    fn name(&self) -> &str {
        "NearDuplicatesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
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
            Some(input) if children.is_empty() => Ok(Arc::new(Self::try_new(
                self.spec.clone(),
                input,
                Arc::clone(&self.frequencies),
                Arc::clone(&self.schema),
            )?)),
            _ => internal_err!("NearDuplicatesExec takes exactly one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("NearDuplicatesExec has one partition, not {}", partition + 1);
        }
        let input_schema = self.input.schema();
        let hidden = [input_schema.index_of(SHINGLES)?, input_schema.index_of(WHOLE)?, input_schema.index_of(KEY)?];
        let prefer = input_schema.index_of(PREFER)?;
        let mut scan = Scan {
            threshold: self.spec.threshold(),
            kept: None,
            keys: Keys::default(),
            frequencies: Arc::clone(&self.frequencies),
            reservation: MemoryConsumer::new("near_duplicates").register(context.memory_pool()),
            passed: (0..input_schema.fields().len()).filter(|at| !hidden.contains(at) && *at != prefer).collect(),
            hidden,
            schema: Arc::clone(&self.schema),
            duplicates: MetricBuilder::new(&self.metrics).counter("duplicates", partition),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let output = self.input.execute(partition, context)?.map(move |batch| {
            let _timer = metrics.elapsed_compute().timer();
            let batch = scan.decide(&batch?)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
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

/// One run over the sorted rows.
struct Scan {
    threshold: f64,
    /// Made with the first batch: by then all n-grams have been counted.
    kept: Option<Kept>,
    keys: Keys,
    frequencies: Arc<Frequencies>,
    reservation: MemoryReservation,
    /// The input's columns that the output has.
    passed: Vec<usize>,
    /// Where n-grams, text hash and key are.
    hidden: [usize; 3],
    schema: SchemaRef,
    duplicates: Count,
}

impl Scan {
    fn decide(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let [shingles, wholes, key] = self.hidden;
        let sets = batch.column(shingles).as_list::<i32>();
        let wholes = batch.column(wholes).as_primitive::<UInt64Type>();
        let values = sets.values().as_primitive::<UInt64Type>().values();
        let kept = self.kept.get_or_insert_with(|| Kept::new(self.threshold, self.frequencies.frozen()));
        let mut found: Vec<Option<Match>> = Vec::with_capacity(batch.num_rows());
        let mut new_rows: Vec<u32> = Vec::new();
        for row in 0..batch.num_rows() {
            if sets.is_null(row) {
                found.push(None);
                continue;
            }
            let set = &values[sets.value_offsets()[row] as usize..sets.value_offsets()[row + 1] as usize];
            let duplicate = kept.find_or_keep(wholes.value(row), set);
            if duplicate.is_none() {
                new_rows.push(row as u32);
            }
            found.push(duplicate);
        }
        self.keys.add(batch.column(key), new_rows)?;
        let bytes = kept.size() + self.keys.bytes;
        self.reservation.try_resize(bytes).map_err(|_| {
            DataFusionError::ResourcesExhausted(format!(
                "near_duplicates: the {} rows kept so far need {} MB, which is more than the memory limit leaves; raise \
                 datafusion.runtime.memory_limit, or compare within parts of the rows",
                kept.len(),
                bytes.div_ceil(1_000_000)
            ))
        })?;
        self.duplicates.add(found.iter().flatten().count());
        let mut columns: Vec<ArrayRef> = self.passed.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        columns.push(self.column(&found)?);
        // Types of strings may differ between the logical and the physical plan.
        let columns = columns.iter().zip(self.schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<std::result::Result<_, _>>()?)?)
    }

    /// The added column.
    fn column(&self, found: &[Option<Match>]) -> Result<ArrayRef> {
        let keys = self.keys.of(found)?;
        let mut jaccard = Float64Builder::with_capacity(found.len());
        let mut kind = StringViewBuilder::with_capacity(found.len());
        for found in found {
            jaccard.append_option(found.map(|found| found.jaccard));
            kind.append_option(found.map(|found| if found.exact { "exact" } else { "near" }));
        }
        let fields = duplicate_fields(keys.data_type());
        let columns: Vec<ArrayRef> = vec![keys, Arc::new(jaccard.finish()), Arc::new(kind.finish())];
        let nulls: NullBuffer = found.iter().map(Option::is_some).collect();
        Ok(Arc::new(StructArray::try_new(fields, columns, Some(nulls))?))
    }
}

/// The keys of kept rows, in their order, as they came in batches.
#[derive(Default)]
struct Keys {
    batches: Vec<ArrayRef>,
    /// The first kept row of each batch.
    starts: Vec<u32>,
    rows: u32,
    bytes: usize,
    null: Option<ArrayRef>,
}

impl Keys {
    fn add(&mut self, keys: &ArrayRef, rows: Vec<u32>) -> Result<()> {
        // A view would hold the texts of the whole batch.
        let keys = if keys.data_type() == &DataType::Utf8View { &cast(keys, &DataType::LargeUtf8)? } else { keys };
        if self.null.is_none() {
            self.null = Some(datafusion::arrow::array::new_null_array(keys.data_type(), 1));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.starts.push(self.rows);
        self.rows += rows.len() as u32;
        let batch = take(keys, &UInt32Array::from(rows), None)?;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        Ok(())
    }

    /// The key of each match; NULL where there is none.
    fn of(&self, found: &[Option<Match>]) -> Result<ArrayRef> {
        let Some(null) = &self.null else {
            return internal_err!("near_duplicates was asked for a key before it had one");
        };
        // Only the batches that are meant, each once; the first is the NULL.
        let mut sources: Vec<&dyn Array> = vec![null.as_ref()];
        let mut places = vec![usize::MAX; self.batches.len()];
        let mut indices = Vec::with_capacity(found.len());
        for found in found {
            let Some(found) = found else {
                indices.push((0, 0));
                continue;
            };
            let batch = self.starts.partition_point(|start| *start <= found.row) - 1;
            if places[batch] == usize::MAX {
                places[batch] = sources.len();
                sources.push(self.batches[batch].as_ref());
            }
            indices.push((places[batch], (found.row - self.starts[batch]) as usize));
        }
        Ok(interleave(&sources, &indices)?)
    }
}
