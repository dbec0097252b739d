//! Some columns of a Parquet file in a store, as the Parquet reader wants them. In: the ranges of one row group after the
//! other. Out: their bytes, and no others. What is wanted of row groups in succession is fetched of the next ones too, by
//! requests that travel together: one row group alone would be a request's time for a few kilobytes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, coalesce_ranges};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use tokio_util::bytes::Bytes;

use super::ParquetObject;
use super::parquet_object::external;

/// Ranges come with one request that stand so near each other: a long column between them does not.
const NEAR: u64 = 16 << 10;
/// Row groups that are fetched at once, ...
const MOST_GROUPS: usize = 64;
/// ... unless they are larger than this together.
const MOST_BYTES: u64 = 8 << 20;

/// A file that is read column by column.
pub struct ParquetColumns {
    object: ParquetObject,
    metadata: Option<Arc<ParquetMetaData>>,
    /// Fetched and not asked for yet, by the first byte.
    ahead: BTreeMap<u64, Bytes>,
    /// For columns that were asked for together: the row group that comes next if they are asked for in succession, and
    /// how many were fetched last.
    runs: HashMap<Vec<usize>, (usize, usize)>,
}

impl ParquetColumns {
    /// `size` in bytes.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, size: u64) -> ParquetColumns {
        let object = ParquetObject { store, path, size };
        ParquetColumns { object, metadata: None, ahead: BTreeMap::new(), runs: HashMap::new() }
    }

    /// What is fetched with these ranges: the same columns of the row groups behind theirs.
    fn ranges_ahead(&mut self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let (Some(metadata), Some(first)) = (&self.metadata, ranges.first()) else { return Vec::new() };
        let groups = metadata.row_groups();
        let chunk = |group: usize, column: usize| {
            let (start, len) = groups[group].column(column).byte_range();
            start..start + len
        };
        // Columns stand in their order, and row groups do.
        let Some(group) = groups.partition_point(|group| group.column(0).byte_range().0 <= first.start).checked_sub(1)
        else {
            return Vec::new();
        };
        let column = |range: &Range<u64>| (0..groups[group].num_columns()).find(|&at| chunk(group, at) == *range);
        let Some(columns) = ranges.iter().map(column).collect::<Option<Vec<usize>>>() else { return Vec::new() };
        let (next, last) = self.runs.get(&columns).copied().unwrap_or((group, 0));
        let most = if next == group { (2 * last).clamp(1, MOST_GROUPS) } else { 1 };
        let (mut ahead, mut end, mut bytes) = (Vec::new(), group + 1, 0);
        while end < groups.len() && end < group + most {
            bytes += columns.iter().map(|&column| groups[end].column(column).byte_range().1).sum::<u64>();
            if bytes > MOST_BYTES {
                break;
            }
            ahead.extend(columns.iter().map(|&column| chunk(end, column)));
            end += 1;
        }
        self.runs.insert(columns, (end, end - group));
        ahead
    }

    /// Bytes that were fetched before.
    fn take(&mut self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let is_there = |range: &Range<u64>| {
            self.ahead.get(&range.start).is_some_and(|bytes| bytes.len() as u64 == range.end - range.start)
        };
        if !ranges.iter().all(is_there) {
            return None;
        }
        ranges.iter().map(|range| self.ahead.remove(&range.start)).collect()
    }
}

impl AsyncFileReader for ParquetColumns {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.object.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            if let Some(bytes) = self.take(&ranges) {
                return Ok(bytes);
            }
            let count = ranges.len();
            let ahead = self.ranges_ahead(&ranges);
            // What was passed over is not asked for any more.
            if let Some(first) = ranges.first() {
                self.ahead = self.ahead.split_off(&first.start);
            }
            let wanted = [ranges, ahead].concat();
            let ParquetObject { store, path, .. } = &self.object;
            let get = |range| async { store.get_range(path, range).await.map_err(external) };
            let mut bytes = coalesce_ranges(&wanted, get, NEAR).await?;
            let ahead = bytes.split_off(count);
            self.ahead.extend(wanted[count..].iter().map(|range| range.start).zip(ahead));
            Ok(bytes)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let metadata = self.object.get_metadata(options).await?;
            self.metadata = Some(Arc::clone(&metadata));
            Ok(metadata)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// Row groups of 10 rows with a number, a long text and a number.
    async fn file(groups: i64) -> (Vec<u8>, ParquetColumns) {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10 * groups));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..10 * groups).map(|n| format!("{n}").repeat(5_000))));
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&numbers)), ("text", texts), ("b", numbers)]).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let store = InMemory::new();
        store.put(&"x".into(), bytes.clone().into()).await.unwrap();
        let mut columns = ParquetColumns::new(Arc::new(store), "x".into(), bytes.len() as u64);
        assert_eq!(columns.get_metadata(None).await.unwrap().num_row_groups(), groups as usize);
        (bytes, columns)
    }

    /// Asks for two columns of a row group; how many ranges are ahead then.
    async fn ask(bytes: &[u8], columns: &mut ParquetColumns, group: usize) -> usize {
        let metadata = columns.metadata.clone().unwrap();
        let range = |column: usize| {
            let (start, len) = metadata.row_group(group).column(column).byte_range();
            start..start + len
        };
        let ranges = vec![range(0), range(2)];
        let found = columns.get_byte_ranges(ranges.clone()).await.unwrap();
        for (range, found) in ranges.into_iter().zip(found) {
            assert_eq!(found, bytes[range.start as usize..range.end as usize], "row group {group}");
        }
        columns.ahead.len()
    }

    #[tokio::test]
    async fn row_groups_in_succession_are_fetched_together_and_more_each_time() {
        let (bytes, mut columns) = file(20).await;
        let mut ahead = Vec::new();
        for group in 0..20 {
            ahead.push(ask(&bytes, &mut columns, group).await);
        }
        assert_eq!(ahead, [0, 2, 0, 6, 4, 2, 0, 14, 12, 10, 8, 6, 4, 2, 0, 8, 6, 4, 2, 0]);
    }

    #[tokio::test]
    async fn what_is_passed_over_is_forgotten_and_fetched_alone_after_it() {
        let (bytes, mut columns) = file(20).await;
        let mut ahead = Vec::new();
        for group in [0, 1, 3, 9, 10, 2] {
            ahead.push(ask(&bytes, &mut columns, group).await);
        }
        assert_eq!(ahead, [0, 2, 6, 0, 2, 2]);
    }

    #[tokio::test]
    async fn ranges_that_are_no_whole_columns_are_read_as_they_are() {
        let (bytes, mut columns) = file(2).await;
        let found = columns.get_byte_ranges(vec![5..9, 100..101]).await.unwrap();
        assert_eq!(found, [&bytes[5..9], &bytes[100..101]]);
        assert_eq!(columns.get_bytes(0..4).await.unwrap(), b"PAR1"[..]);
    }
}
