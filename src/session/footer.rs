//! The mark that a Parquet file carries itself: the footer key `seedmill.split`, written on every COPY of held-out rows
//! and on every published file, and read where a file becomes a table.

use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::{ObjectMeta, ObjectStore};

use crate::lineage::{SPLIT_KEY, Split};

/// The split that a Parquet file says it holds. What is read is kept for the scan of the same file.
pub async fn footer_split(runtime: &RuntimeEnv, store: &dyn ObjectStore, file: &ObjectMeta) -> Result<Option<Split>> {
    let cache = runtime.cache_manager.get_file_metadata_cache();
    let metadata = DFParquetMetadata::new(store, file).with_file_metadata_cache(Some(cache)).fetch_metadata().await?;
    let keys = metadata.file_metadata().key_value_metadata();
    let said = keys.into_iter().flatten().find(|pair| pair.key == SPLIT_KEY).and_then(|pair| pair.value.as_deref());
    Ok(said.and_then(Split::from_name))
}
