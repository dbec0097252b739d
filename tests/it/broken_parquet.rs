//! A Parquet file whose pages make the decoder panic: a row of `raw_errors`, and no word of a panic.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::scratch::Scratch;

fn parquet() -> Vec<u8> {
    let question: ArrayRef = Arc::new((0..30).map(|n| Some(format!("question number {n}?"))).collect::<StringArray>());
    let answer: ArrayRef = Arc::new(Int64Array::from_iter_values(0..30));
    let batch = RecordBatch::try_from_iter([("question", question), ("answer", answer)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_page_at_which_the_decoder_panics_is_a_row_of_raw_errors_and_nothing_is_printed_of_the_panic() {
    let scratch = Scratch::new("http://127.0.0.1:9", 1, "[tasks]\nfrom = [\"tasks\"]\n");
    scratch.write(
        "tasks/set.yaml",
        "task: set\ndataset_path: parquet\ndataset_kwargs:\n  data_files:\n    train: train.parquet\n\
         training_split: train\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n",
    );
    // The number of values in the head of the first page.
    let mut bytes = parquet();
    bytes[14] = 0;
    std::fs::write(scratch.path().join("tasks/train.parquet"), bytes).unwrap();
    let output = scratch.run(&["sql", "--format", "csv", "-c", "SELECT error FROM raw_errors"]);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    // This is said of a panic only.
    assert!(out.contains("its pages cannot be decoded"), "{out}");
    assert!(!error.contains("panicked at"), "{error}");
}
