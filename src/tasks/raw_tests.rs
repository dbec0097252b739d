//! Files that are broken in part: what can be read of them is read, and what cannot is a row of `raw_errors`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::Result;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use super::raw_table::RawTable;
use super::tests::{Workplace, rows};

const QA: &str = "training_split: train\ntest_split: test\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n";

/// A workplace with one dataset and the folder of its files.
fn dataset() -> (Workplace, PathBuf) {
    let mut place = Workplace::new();
    let root = place.folder.path().join("data");
    std::fs::create_dir_all(root.join("set")).unwrap();
    place.config.roots = vec![root.to_string_lossy().into_owned()];
    place.write("set.yaml", &format!("task: set\ndataset_path: org/set\n{QA}"));
    (place, root.join("set"))
}

/// Groups of `rows` rows, in pages of ten: question, answer, and a list.
fn parquet(groups: usize, rows: usize, dictionary: bool) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(10)
        .set_dictionary_enabled(dictionary)
        .build();
    let all = groups * rows;
    let question: ArrayRef =
        Arc::new((0..all).map(|n| Some(format!("question number {n:05}?"))).collect::<StringArray>());
    let answer: ArrayRef = Arc::new(Int64Array::from_iter_values(0..all as i64));
    let mut lists = ListBuilder::new(StringBuilder::new());
    (0..all).for_each(|n| lists.append_value([Some(format!("option a of {n:05}")), None]));
    let lists: ArrayRef = Arc::new(lists.finish());
    let batch = RecordBatch::try_from_iter([("question", question), ("answer", answer), ("options", lists)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// The place and question of each row that is read of a file.
async fn read(file: &Path) -> Result<Vec<(i64, String)>> {
    let session = SessionContext::new();
    let table = RawTable::open(&[file.to_string_lossy().into_owned()], &session.state()).await?;
    let batches = session.read_table(Arc::new(table))?.collect().await?;
    let mut found = Vec::new();
    for batch in &batches {
        let places = batch.column_by_name("source_row").unwrap().as_primitive::<Int64Type>();
        let questions = datafusion::arrow::compute::cast(
            batch.column_by_name("question").unwrap(),
            &datafusion::arrow::datatypes::DataType::Utf8,
        )?;
        let questions = questions.as_string::<i32>();
        found.extend((0..batch.num_rows()).map(|row| {
            (places.value(row), if questions.is_null(row) { String::new() } else { questions.value(row).to_owned() })
        }));
    }
    Ok(found)
}

const ERRORS: &str = "SELECT split, line, error FROM raw_errors WHERE task = 'set' ORDER BY line";

#[tokio::test]
async fn broken_rows_of_csv_are_rows_of_raw_errors_and_the_others_keep_their_places() {
    let (place, folder) = dataset();
    let mut text = (0..3000).map(|n| format!("q{n},{n}\n")).collect::<String>().into_bytes();
    text.extend(b"one field\nq3001,1,2\n\"never closed,3002\nq3003,\"a, \"\"b\"\"\nc\"\ncaf\xe9,4\n");
    text.extend(b"q3005,text\n");
    std::fs::write(folder.join("train-0.csv"), [b"question,answer\n".to_vec(), text].concat()).unwrap();
    std::fs::write(folder.join("train-1.csv"), b"\xff\xfeq\0").unwrap();
    std::fs::write(folder.join("train-2.csv"), "answer,question,late\n1.5,last,x\n").unwrap();
    let ctx = place.session();
    let kept = "SELECT question, answer, late, source_row FROM raw.set WHERE source_row >= 2999 ORDER BY source_row";
    assert_eq!(
        rows(&ctx, kept).await,
        [
            ["q2999", "2999", "NULL", "2999"],
            ["q3003", "a, \"b\"\nc", "NULL", "3003"],
            ["q3005", "text", "NULL", "3005"],
            ["last", "1.5", "x", "3006"],
        ]
    );
    assert_eq!(rows(&ctx, "SELECT count(*), max(source_row) FROM raw.set").await, [["3003", "3006"]]);
    let errors = rows(&ctx, ERRORS).await;
    let known: Vec<(&str, &str)> = errors.iter().map(|row| (row[1].as_str(), row[2].as_str())).collect();
    assert_eq!(
        known[..4],
        [
            ("3002", "it has 1 fields where the header has 2"),
            ("3003", "it has 3 fields where the header has 2"),
            ("3004", "a quote that is opened in it is not closed"),
            ("3007", "it is not UTF-8 text"),
        ]
    );
    assert!(known[4].0 == "NULL" && known[4].1.contains("convert it to UTF-8"), "{known:?}");
    assert_eq!(known.len(), 5);
    assert_eq!(rows(&ctx, "SELECT count(*) FROM seeds WHERE task = 'set'").await, [["3003"]]);
}

#[tokio::test]
async fn a_cut_parquet_file_is_one_error_and_the_other_files_go_on() {
    let (place, folder) = dataset();
    let whole = parquet(1, 30, true);
    std::fs::write(folder.join("train-0.parquet"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(folder.join("train-1.parquet"), &whole).unwrap();
    std::fs::write(folder.join("train-2.parquet"), b"").unwrap();
    let ctx = place.session();
    assert_eq!(rows(&ctx, "SELECT count(*), max(source_row) FROM raw.set").await, [["30", "29"]]);
    let errors = rows(&ctx, ERRORS).await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|row| row[1] == "NULL" && row[2].contains("the columns of '")), "{errors:?}");
    assert!(errors.iter().any(|row| row[2].contains("train-0.parquet")), "{errors:?}");
    assert!(errors.iter().any(|row| row[2].contains("it is empty")), "{errors:?}");
}

/// The bytes of a column's part of a row group.
fn column_bytes(bytes: &[u8], group: usize, column: usize) -> std::ops::Range<usize> {
    let reader = SerializedFileReader::new(tokio_util::bytes::Bytes::copy_from_slice(bytes)).unwrap();
    let (start, length) = reader.metadata().row_group(group).column(column).byte_range();
    start as usize..(start + length) as usize
}

#[tokio::test]
async fn a_row_of_parquet_that_is_no_text_and_a_page_that_is_broken_cost_themselves_alone() {
    let (place, folder) = dataset();
    let mut bytes = parquet(3, 100, false);
    let at = bytes.windows(5).position(|text| text == b"00042").unwrap();
    bytes[at] = 0xff;
    // The head of the last page of the second group's answers.
    let range = column_bytes(&bytes, 1, 1);
    bytes[range.end - 100..range.end - 60].fill(0xff);
    std::fs::write(folder.join("train.parquet"), &bytes).unwrap();
    let ctx = place.session();
    let errors = rows(&ctx, ERRORS).await;
    assert_eq!(errors[0][1], "43");
    assert!(errors[0][2].starts_with("rows 43 to 43, of row group 1: "), "{errors:?}");
    assert!(errors[1][2].contains("of row group 2: "), "{errors:?}");
    assert_eq!(errors.len(), 2, "{errors:?}");
    let kept =
        "SELECT count(*), count(question), sum(answer) FROM raw.set WHERE source_row < 100 AND options IS NOT NULL";
    assert_eq!(rows(&ctx, kept).await, [["99", "99", &(99 * 50 - 42).to_string()]]);
    let groups = "SELECT source_row / 100 AS g, count(question), sum(answer) FROM raw.set GROUP BY g ORDER BY g";
    let groups = rows(&ctx, groups).await;
    assert_eq!((groups[0][1].as_str(), groups[2][1].as_str()), ("99", "100"));
    let some: usize = groups[1][1].parse().unwrap();
    assert!((80..100).contains(&some), "{groups:?}");
    // Rows whose broken columns nobody asks for are there.
    assert_eq!(
        rows(&ctx, "SELECT count(answer) FROM (SELECT answer, source_row FROM raw.set) WHERE source_row < 100").await,
        [["100"]]
    );
}

fn in_file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    (folder, file)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// parquet skips rows for ever where a page says that it has more values than it has levels of.
#[test]
fn a_page_of_lists_that_claims_more_values_than_it_has_costs_its_row_group_and_ends() {
    let whole = parquet(3, 40, true);
    let lists = column_bytes(&whole, 0, 2);
    // In the head of a data page, as thrift writes it: 20 values.
    let heads = whole[lists.clone()].windows(4).enumerate().filter(|(_, head)| *head == [44, 21, 40, 21]);
    let places: Vec<usize> = heads.map(|(at, _)| lists.start + at + 2).collect();
    assert_eq!(places.len(), 4, "pages");
    for place in places {
        let mut bytes = whole.clone();
        bytes[place] = 96; // 48 values
        let (send, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (_folder, file) = in_file("train.parquet", &bytes);
            let _ = send.send(block_on(read(&file)).map_err(|e| e.to_string()));
        });
        let found = ended.recv_timeout(std::time::Duration::from_secs(60)).expect("it does not end").unwrap();
        let others = (40..120).map(|n| (n, format!("question number {n:05}?")));
        assert!(found.iter().filter(|(row, _)| *row >= 40).cloned().eq(others), "{found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)))]

    #[test]
    fn a_changed_byte_of_parquet_costs_no_row_of_other_groups(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        dictionary in any::<bool>(),
    ) {
        let whole = parquet(3, 40, dictionary);
        let mut bytes = whole.clone();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        let (_folder, file) = in_file("train.parquet", &bytes);
        let found = block_on(read(&file));
        let touched = (0..3).find(|group| (0..3).any(|column| column_bytes(&whole, *group, column).contains(&place)));
        if let Some(touched) = touched {
            let found = found.unwrap();
            for n in (0..120).filter(|n| *n as usize / 40 != touched) {
                prop_assert!(found.contains(&(n, format!("question number {n:05}?"))), "row {n} is lost");
            }
        }
    }

    #[test]
    fn parquet_cut_anywhere_is_an_error_and_no_panic(at in any::<proptest::sample::Index>()) {
        let whole = parquet(2, 20, true);
        let (_folder, file) = in_file("train.parquet", &whole[..at.index(whole.len())]);
        prop_assert!(block_on(read(&file)).is_err());
    }

    #[test]
    fn text_files_with_changed_bytes_keep_their_other_lines(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>().prop_filter("no quote", |b| *b != b'"')), 1..4),
        json in any::<bool>(),
    ) {
        let line = |n: usize| match json {
            true => format!("{{\"question\": \"question {n}\", \"answer\": {n}}}\n"),
            false => format!("question {n},{n}\n"),
        };
        let head = if json { "" } else { "question,answer\n" };
        let text: String = std::iter::once(head.to_owned()).chain((0..50).map(line)).collect();
        let mut bytes = text.clone().into_bytes();
        let first = if json { 4 } else { head.len() };
        let mut touched = std::collections::BTreeSet::new();
        for (at, byte) in changes {
            let place = first + at.index(bytes.len() - first);
            let number = text[..place].matches('\n').count() - usize::from(!json);
            touched.extend([number, number + usize::from(text.as_bytes()[place] == b'\n')]);
            bytes[place] = byte;
        }
        let (_folder, file) = in_file(if json { "train.jsonl" } else { "train.csv" }, &bytes);
        let found = block_on(read(&file)).unwrap();
        for n in (0..50usize).filter(|n| !touched.contains(n)) {
            let question = format!("question {n}");
            prop_assert!(found.iter().any(|(_, found)| *found == question), "line {n} is lost");
        }
    }
}
