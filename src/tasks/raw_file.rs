//! One file of a split: where it lies, its bytes, and what cannot be read of it.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// Rows of a file that are listed one by one where they cannot be read; the others are only counted.
pub(crate) const LISTED: usize = 1000;

/// One file as it was when the split was opened.
#[derive(Debug, Clone)]
pub(crate) struct RawFile {
    /// As the user wrote it.
    pub name: String,
    pub store: Arc<dyn ObjectStore>,
    pub location: Path,
    /// In bytes, as it lies there.
    pub size: u64,
    pub gzip: bool,
}

impl RawFile {
    /// The file's bytes, decompressed.
    pub(crate) async fn bytes(&self) -> Result<BoxStream<'static, Result<Vec<u8>>>> {
        let opened = self.store.get(&self.location).await;
        let opened =
            opened.map_err(|e| DataFusionError::from(e).context(format!("'{}' cannot be opened", self.name)))?;
        let stream = opened.into_stream().map_err(DataFusionError::from).boxed();
        let compression = if self.gzip { FileCompressionType::GZIP } else { FileCompressionType::UNCOMPRESSED };
        Ok(compression.convert_stream(stream)?.map_ok(|bytes| bytes.to_vec()).boxed())
    }

    /// Whether an error is that of compressed data which is broken: what was decompressed until then is whole.
    pub(crate) fn is_cut(&self, error: &DataFusionError) -> bool {
        self.gzip && is_io(error)
    }
}

fn is_io(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::IoError(_) => true,
        DataFusionError::Context(_, inner) => is_io(inner),
        _ => false,
    }
}

/// What cannot be read of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unread {
    pub file: String,
    /// From 1: the line of a text file, the row of a Parquet file; `None` for the whole file.
    pub line: Option<u64>,
    pub what: String,
    /// Rows that are lost, as far as that is known: at least one.
    pub rows: u64,
}

/// Whether an error is the store's or the disk's, or of memory, and no property of the data: it may be otherwise the next
/// time.
pub(crate) fn may_pass(error: &DataFusionError) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return !matches!(error, object_store::Error::NotFound { .. });
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return !matches!(error.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof);
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_no_property_of_the_rows() {
        let io = |kind| DataFusionError::from(std::io::Error::from(kind)).context("x");
        assert!(may_pass(&io(std::io::ErrorKind::ConnectionReset)));
        assert!(!may_pass(&io(std::io::ErrorKind::InvalidData)));
        assert!(!may_pass(&DataFusionError::Plan("x".into())));
        assert!(may_pass(&DataFusionError::ResourcesExhausted("x".into()).context("y")));
        let store = object_store::Error::Generic { store: "s3", source: "down".into() };
        let parquet = parquet::errors::ParquetError::External(Box::new(store));
        assert!(may_pass(&DataFusionError::from(parquet)));
        assert!(!may_pass(&DataFusionError::from(parquet::errors::ParquetError::General("cut".into()))));
    }
}
