//! Rows of a split with their places, which are part of a seed's identity.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;

/// Columns of as many rows as there are places.
#[derive(Debug)]
pub(crate) struct PlacedBatch {
    pub columns: Vec<ArrayRef>,
    /// The ordinal of each row over all files of the split, from 0.
    pub places: Vec<i64>,
}

impl PlacedBatch {
    /// A batch of `schema`, in which the places are the column `place_at`, if it is asked for.
    pub(crate) fn with_places(self, schema: &SchemaRef, place_at: Option<usize>) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.places.len()));
        let mut columns = self.columns;
        if let Some(at) = place_at {
            columns.insert(at, Arc::new(Int64Array::from(self.places)));
        }
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}
