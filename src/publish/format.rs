//! `STORED AS CURATED`: a file format of DataFusion whose writer is our sink, so that COPY plans it like any other.
//! It is written only; published files are Parquet, and are read as such.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, plan_datafusion_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::SessionState;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};

use super::FileLimits;
use super::align::Columns;
use super::run::{Run, place};
use super::sink::CuratedSink;
use crate::stores::Stores;

/// The name of the format in SQL.
/// The name of the format, and the extension of what it writes.
pub const CURATED: &str = "curated";

const NAME: &str = CURATED;

const MAX_ROWS: &str = "max_rows_per_file";
const MAX_MINUTES: &str = "max_minutes_per_file";

/// Makes `COPY (…) TO '<folder>' STORED AS CURATED` known to a session. The session needs a [`Run`] among its
/// extensions when such a plan is executed; EXPLAIN needs none.
pub fn register(state: &mut SessionState) -> Result<()> {
    state.register_file_format(Arc::new(CuratedFormatFactory), true)
}

/// Makes the format from the options of one COPY: `'max_rows_per_file'` (100000) and `'max_minutes_per_file'` (10).
#[derive(Debug)]
pub struct CuratedFormatFactory;

impl FileFormatFactory for CuratedFormatFactory {
    fn create(&self, _state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let mut limits = FileLimits::default();
        for (key, value) in options {
            let name = key.strip_prefix("format.").unwrap_or(key);
            let number = || {
                value.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(|| {
                    plan_datafusion_err!(
                        "the option '{name}' of STORED AS CURATED is a whole number from 1, not '{value}'"
                    )
                })
            };
            match name {
                MAX_ROWS => limits.rows = number()? as usize,
                MAX_MINUTES => limits.age = Duration::from_secs(60 * u64::from(number()?)),
                _ => {
                    return plan_err!(
                        "STORED AS CURATED has no option '{name}'; it has '{MAX_ROWS}' and '{MAX_MINUTES}'"
                    );
                }
            }
        }
        Ok(Arc::new(CuratedFormat { limits }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(CuratedFormat { limits: FileLimits::default() })
    }
}

impl GetExt for CuratedFormatFactory {
    fn get_ext(&self) -> String {
        NAME.into()
    }
}

#[derive(Debug)]
struct CuratedFormat {
    limits: FileLimits,
}

/// The error of every way to read.
fn written_only<T>() -> Result<T> {
    plan_err!("CURATED is written only; read a published run with STORED AS PARQUET LOCATION '<run>/data/'")
}

#[async_trait]
impl FileFormat for CuratedFormat {
    fn get_ext(&self) -> String {
        NAME.into()
    }

    fn get_ext_with_compression(&self, _compression: &FileCompressionType) -> Result<String> {
        Ok(NAME.into())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        written_only()
    }

    async fn infer_stats(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _table_schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        written_only()
    }

    async fn create_physical_plan(
        &self,
        _state: &dyn Session,
        _conf: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        written_only()
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        conf: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !conf.table_partition_cols.is_empty() {
            return plan_err!("STORED AS CURATED writes a run of its own layout; leave out PARTITIONED BY");
        }
        // A target that cannot be written is known before any call is made.
        match state.config().get_extension::<Run>() {
            Some(run) => run.place(&conf.original_url)?,
            None => place(&conf.original_url, "".as_ref(), &Stores::from_env())?,
        };
        let columns = Columns::plan(&conf.output_schema)?;
        let sink = CuratedSink::new(conf.original_url, conf.output_schema, columns, self.limits);
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    /// Never scanned: every plan of a scan needs `infer_schema` or `create_physical_plan`, which say so.
    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        ParquetFormat::default().file_source(table_schema)
    }
}
