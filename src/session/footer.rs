//! The mark that a Parquet file carries itself: the footer key `seedmill.split`, written on every COPY of held-out rows
//! and on every published file, and read where a file becomes a table.

use std::any::Any;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use crate::lineage::Split;

/// The footer key.
pub const SPLIT_KEY: &str = "seedmill.split";

/// The name of that key as an option of COPY.
pub const COPY_OPTION: &str = "format.metadata::seedmill.split";

/// Footers that are read at a time.
const READS: usize = 16;

/// The split that the files of a table say they hold: held out where one of them says so, or `None` where none says
/// anything.
pub async fn footer_split(ctx: &SessionContext, table: &dyn TableProvider) -> Result<Option<Split>> {
    let Some(listing) = (table as &dyn Any).downcast_ref::<ListingTable>() else { return Ok(None) };
    let state = ctx.state();
    let mut found = None;
    for url in listing.table_paths() {
        let store = ctx.runtime_env().object_store(url)?;
        let files = url.list_all_files(&state, store.as_ref(), &listing.options().file_extension).await?;
        let mut splits = files
            .map(|file| {
                let store = Arc::clone(&store);
                async move {
                    let file = file?;
                    let metadata = DFParquetMetadata::new(store.as_ref(), &file).fetch_metadata().await?;
                    let keys = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
                    let value = keys.into_iter().find(|pair| pair.key == SPLIT_KEY).and_then(|pair| pair.value);
                    Ok::<_, DataFusionError>(value.as_deref().and_then(Split::from_name))
                }
            })
            .buffer_unordered(READS);
        while let Some(split) = splits.try_next().await? {
            match split {
                Some(split) if split.is_held_out() => return Ok(Some(split)),
                Some(split) => found = Some(split),
                None => {}
            }
        }
    }
    Ok(found)
}
