//! Scans of segments on an object store by DataFusion's own Parquet reader, which skips by statistics and filters before
//! it reads texts. In: a generation. Out: a plan with the wanted columns and `log`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::async_reader::AsyncFileReader;

use super::columns::Table;
use super::generation::Generation;
use super::object_rewrite::schema_with_log;
use crate::stores::{ParquetColumns, Prefix};

/// What is wanted of segments.
#[derive(Debug)]
pub(super) struct SegmentsScan {
    pub(super) table: Table,
    /// Indices into the table's schema.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// Rows that do not pass may come all the same.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    prefix: Prefix,
}

impl SegmentsScan {
    /// The predicate is over the table's schema.
    pub(super) fn try_new(
        table: Table,
        columns: &[usize],
        predicate: Option<Arc<dyn PhysicalExpr>>,
        prefix: Prefix,
    ) -> Result<SegmentsScan> {
        let schema = Arc::new(table.schema().project(columns)?);
        Ok(SegmentsScan { table, columns: columns.to_vec(), schema, predicate, prefix })
    }

    /// Of the wanted columns.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The rows of all segments.
    pub(super) fn rows(&self, generation: &Generation) -> u64 {
        generation.segments.iter().map(|segment| segment.rows_of(self.table)).sum()
    }

    /// Scans all segments of a generation, each as a whole, in up to so many partitions of about the same size.
    pub(super) fn plan(&self, generation: &Generation, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let (store, _) = self.prefix.store()?;
        let mut files: Vec<_> = generation.segments.iter().collect();
        files.sort_by_key(|segment| std::cmp::Reverse(segment.bytes_of(self.table)));
        let mut groups = vec![(0, FileGroup::default()); partitions.clamp(1, files.len().max(1))];
        for segment in files {
            let bytes = segment.bytes_of(self.table);
            let mut file = PartitionedFile::new("", bytes);
            // Set as it is: `new` would encode the prefix once more.
            file.object_meta.location = self.prefix.object(&segment.file_name(self.table))?.1;
            // The largest first, each to who has the least.
            if let Some((sum, group)) = groups.iter_mut().min_by_key(|(sum, _)| *sum) {
                *sum += bytes;
                group.push(file);
            }
        }
        let mut source = ParquetSource::new(schema_with_log(self.table))
            .with_parquet_file_reader_factory(Arc::new(Reader(store)))
            .with_pushdown_filters(true)
            // The index of pages is larger than the columns of a sum, and row groups are small.
            .with_enable_page_index(false);
        if let Some(predicate) = &self.predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let columns = self.columns.iter().copied().chain([self.table.schema().fields().len()]);
        // Declared, so that no segment is split or read by another partition than its own.
        let partitioning = Partitioning::UnknownPartitioning(groups.len());
        // The reader has its store already; a session need not know it.
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups.into_iter().map(|(_, group)| group).collect())
            .with_output_partitioning(Some(partitioning))
            .with_projection_indices(Some(columns.collect()))?
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Reads objects of a store.
#[derive(Debug)]
struct Reader(Arc<dyn ObjectStore>);

impl ParquetFileReaderFactory for Reader {
    fn create_reader(
        &self,
        _: usize,
        file: PartitionedFile,
        _: Option<usize>,
        _: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let ObjectMeta { location, size, .. } = file.object_meta;
        Ok(Box::new(ParquetColumns::new(Arc::clone(&self.0), location, size)))
    }
}
