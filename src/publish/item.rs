//! A few items of a published run, read back from its Parquet files for a person to look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::manifest::FileKind;
use super::run::Published;
use crate::stores::ParquetObject;

/// One published item; what is NULL is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    pub id: String,
    pub task: String,
    pub license: String,
    pub question: String,
    pub options: Vec<String>,
    pub answer_text: String,
    pub reasoning: String,
    /// Empty for a kept item.
    pub reasons: Vec<String>,
}

impl Item {
    /// The first `limit` items of a kind by id. Reads the ids of all files, and the other columns of these items only.
    pub async fn first(published: &Published, kind: FileKind, limit: usize) -> Result<Vec<Item>> {
        let files: Vec<_> = published.manifest.files.iter().filter(|file| file.kind == kind).collect();
        let mut first = BTreeSet::<(String, usize, usize)>::new();
        for (number, file) in files.iter().enumerate() {
            let mut row = 0;
            let (store, path) = published.place.object(&file.path)?;
            let mut batches = read(&store, &path, &["id"], None).await?;
            while let Some(batch) = batches.try_next().await? {
                for id in batch.column(0).as_string::<i32>().iter().flatten() {
                    // Only an id that comes before the last of the first is copied.
                    if first.len() < limit || first.last().is_some_and(|last| id < last.0.as_str()) {
                        first.insert((id.to_owned(), number, row));
                    }
                    if first.len() > limit {
                        first.pop_last();
                    }
                    row += 1;
                }
            }
        }
        const COLUMNS: [&str; 8] =
            ["id", "task", "license", "question", "options", "answer_text", "reasoning", "reasons"];
        let mut items = Vec::with_capacity(first.len());
        for (_, file, row) in first {
            let (store, path) = published.place.object(&files[file].path)?;
            let mut batches = read(&store, &path, &COLUMNS, Some(row)).await?;
            while let Some(batch) = batches.try_next().await? {
                items.extend((0..batch.num_rows()).map(|row| Item::read(&batch, row)));
            }
        }
        Ok(items)
    }

    fn read(batch: &RecordBatch, row: usize) -> Item {
        let text = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_owned()).unwrap_or_default()
        };
        let texts = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i32>());
            let list = column.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            let texts = list.as_ref().and_then(|list| list.as_string_opt::<i32>());
            texts.map(|t| t.iter().map(|t| t.unwrap_or_default().to_owned()).collect()).unwrap_or_default()
        };
        Item {
            id: text("id"),
            task: text("task"),
            license: text("license"),
            question: text("question"),
            options: texts("options"),
            answer_text: text("answer_text"),
            reasoning: text("reasoning"),
            reasons: texts("reasons"),
        }
    }
}

/// Reads some columns of a file, one row of it or all.
async fn read(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    columns: &[&str],
    row: Option<usize>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let size = store.head(path).await?.size;
    let file = ParquetObject { store: Arc::clone(store), path: path.clone(), size };
    let mut builder = ParquetRecordBatchStreamBuilder::new(file).await.map_err(DataFusionError::from)?;
    let roots: Vec<usize> = columns.iter().filter_map(|name| builder.schema().index_of(name).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    builder = builder.with_projection(mask);
    if let Some(row) = row {
        builder = builder.with_offset(row).with_limit(1);
    }
    let reader = builder.build().map_err(DataFusionError::from)?;
    Ok(Box::pin(reader.map_err(DataFusionError::from)))
}
