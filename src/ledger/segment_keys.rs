//! The keys of all calls in sealed segments, for the index. Read by several threads: of ten million calls they are 640 MB
//! of hex digits, which wait for nobody but the processor. In: segments. Out: keys, part by part.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use arrow::array::AsArray;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::LedgerError;
use super::index::{self, Key};
use super::segment::{CALLS_ROW_GROUP_ROWS, foreign, id};

/// What a thread reads at once: 64 row groups hold 64,000 calls, 1 MB of keys.
const ROW_GROUPS: usize = 64;

/// A segment's column of ids.
pub(super) struct SegmentKeys {
    path: PathBuf,
    footer: ArrowReaderMetadata,
    file_bytes: u64,
}

impl SegmentKeys {
    pub(super) fn open(path: PathBuf) -> Result<SegmentKeys, LedgerError> {
        let file = File::open(&path).map_err(LedgerError::io("open", &path))?;
        let footer =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(LedgerError::parquet("read", &path))?;
        let file_bytes = file.metadata().map_err(LedgerError::io("read", &path))?.len();
        Ok(SegmentKeys { path, footer, file_bytes })
    }

    pub(super) fn rows(&self) -> u64 {
        self.footer.metadata().file_metadata().num_rows().unsigned_abs()
    }

    /// As many keys as there can be, whatever a damaged file says: an id is 32 bytes that cannot be compressed.
    pub(super) fn most(&self) -> u64 {
        self.rows().min(self.file_bytes / 32)
    }

    /// All keys in the order of the rows.
    pub(super) fn read(&self) -> Result<Vec<Key>, LedgerError> {
        self.read_part(0..self.footer.metadata().num_row_groups())
    }

    fn read_part(&self, row_groups: Range<usize>) -> Result<Vec<Key>, LedgerError> {
        let path = &self.path;
        // Opened again: copies of one file would share where they read.
        let file = File::open(path).map_err(LedgerError::io("open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone());
        let ids = ProjectionMask::columns(builder.parquet_schema(), ["call_id"]);
        let reader = builder
            .with_projection(ids)
            .with_row_groups(row_groups.collect())
            .with_batch_size(CALLS_ROW_GROUP_ROWS)
            .build()
            .map_err(LedgerError::parquet("read", path))?;
        let mut keys = Vec::new();
        for batch in reader {
            let batch = batch.map_err(LedgerError::arrow("read", path))?;
            let ids = batch.columns().first().and_then(|ids| ids.as_string_opt::<i32>());
            for hex in ids.ok_or_else(|| foreign(path, "call_id"))? {
                keys.push(index::key(&id(path, hex)?));
            }
        }
        Ok(keys)
    }
}

/// Some row groups of a segment.
struct Part {
    segment: usize,
    row_groups: Range<usize>,
    first_row: u64,
}

/// Of a part: the number of its segment, its first row, its keys.
type PartKeys = Result<(usize, u64, Vec<Key>), LedgerError>;

fn parts(segments: &[SegmentKeys]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (segment, keys) in segments.iter().enumerate() {
        let (mut start, mut first_row) = (0, 0);
        for groups in keys.footer.metadata().row_groups().chunks(ROW_GROUPS) {
            parts.push(Part { segment, row_groups: start..start + groups.len(), first_row });
            start += groups.len();
            first_row += groups.iter().map(|group| group.num_rows().unsigned_abs()).sum::<u64>();
        }
    }
    parts
}

/// Reads the keys of all segments, by so many threads at most. `take` gets the number of a segment in the list, the row of
/// its first key, and keys: one part after the other, in any order.
pub(super) fn read_all(
    segments: &[SegmentKeys],
    threads: usize,
    mut take: impl FnMut(usize, u64, Vec<Key>),
) -> Result<(), LedgerError> {
    let (parts, next) = (parts(segments), AtomicUsize::new(0));
    let (send, received) = mpsc::sync_channel(threads);
    let read_on = |send: SyncSender<PartKeys>| {
        while let Some(Part { segment, row_groups, first_row }) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let keys = segments[*segment].read_part(row_groups.clone());
            // Who takes them goes with the first error.
            if send.send(keys.map(|keys| (*segment, *first_row, keys))).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for started in 0..threads.min(parts.len()) {
            let (read_on, send) = (&read_on, send.clone());
            match thread::Builder::new().name("opening".into()).spawn_scoped(scope, move || read_on(send)) {
                Ok(_) => {}
                Err(e) if started == 0 => {
                    return Err(LedgerError::io("start a thread to read", &segments[0].path)(e));
                }
                Err(_) => break, // those that are there do it
            }
        }
        drop(send);
        for part in received {
            let (segment, first_row, keys) = part?;
            take(segment, first_row, keys);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::columns::{Rows, Table};
    use crate::ledger::segment::SegmentFile;
    use crate::ledger::{CallId, CallRecord, Record};

    fn numbered(n: u64) -> CallId {
        CallId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    /// A file of the calls with these numbers.
    fn segment(folder: &std::path::Path, name: &str, numbers: Range<u64>) -> SegmentKeys {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut file = SegmentFile::create(&folder, Table::Calls).unwrap();
        let columns: Vec<usize> = (0..Table::Calls.schema().fields().len()).collect();
        let mut rows = Rows::default();
        rows.extend(numbers.map(|n| {
            Record::Call(CallRecord {
                call_id: numbered(n),
                provider: "openai".into(),
                model: "m".into(),
                revision: "".into(),
                variant: "".into(),
                sample: 0,
                messages: "[]".into(),
                parameters: "{}".into(),
                response: "{}".into(),
                finish_reason: None,
                prompt_tokens: None,
                completion_tokens: None,
                cost_usd: 0.0,
                time_ms: 0,
            })
        }));
        file.write_batch(&rows.take(Table::Calls, &columns).unwrap()).unwrap();
        file.finish().unwrap();
        SegmentKeys::open(folder.join(Table::Calls.file_name())).unwrap()
    }

    #[test]
    fn every_key_comes_once_with_its_segment_and_its_row_however_many_threads_read() {
        let folder = tempfile::tempdir().unwrap();
        // Of several parts, of less than a row group, of none, and of one call.
        let bounds = [0, 150_001, 150_500, 150_500, 150_501];
        let segments: Vec<SegmentKeys> = bounds
            .windows(2)
            .map(|bounds| segment(folder.path(), &format!("{bounds:?}"), bounds[0]..bounds[1]))
            .collect();
        assert_eq!(parts(&segments).len(), 5);
        for threads in [1, 2, 8] {
            let mut taken = Vec::new();
            let take = |segment: usize, first: u64, keys: Vec<Key>| {
                taken.extend((first..).zip(keys).map(|(row, key)| (bounds[segment] + row, key)));
            };
            read_all(&segments, threads, take).unwrap();
            taken.sort_unstable();
            assert!(taken.into_iter().eq((0..150_501).map(|n| (n, index::key(&numbered(n))))), "{threads} threads");
        }
        let keys = segments[1].read().unwrap();
        assert_eq!(segments[1].most(), 499);
        assert_eq!((keys.len(), segments[1].rows(), keys[498]), (499, 499, index::key(&numbered(150_499))));
        read_all(&[], 2, |_, _, _| panic!("there are none")).unwrap();
    }

    #[test]
    fn a_segment_that_cannot_be_read_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let segments = [segment(folder.path(), "good", 0..70_000), segment(folder.path(), "gone", 0..200_000)];
        std::fs::remove_file(&segments[1].path).unwrap();
        for threads in [1, 3] {
            let error = read_all(&segments, threads, |_, _, _| {}).unwrap_err().to_string();
            assert!(error.contains("gone/calls.parquet"), "{error}");
        }
    }
}
