//! One run over the sorted rows: which are kept, and of which kept row the others are duplicates.
//! In: batches in their order. Out: the same rows without the hidden columns, and with what was found.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Builder, RecordBatch, StringViewBuilder, StructArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, interleave, take};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, SchemaRef, UInt32Type, UInt64Type};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::Count;

use super::frequencies::Frequencies;
use super::kept::{Kept, Match};
use super::kept_vectors::KeptVectors;
use super::node::{By, KEY, PREFER, Spec, TEXT};
use super::shingle_exec::{SHINGLES, WHOLE, WORDS};

/// Rows whose vectors are compared together.
const BLOCK: usize = 64;

/// What is kept of the rows that are kept.
enum Index {
    Texts(Box<Kept>),
    Vectors(KeptVectors),
}

/// What was found of a row, and whether the row is kept. A row with nothing to compare is neither.
type Decision = (Option<Match>, bool);

pub struct Scan {
    by: By,
    threshold: f64,
    rouge_l: Option<f64>,
    /// Made with the first batch: by then all n-grams have been counted.
    index: Option<Index>,
    keys: Keys,
    frequencies: Arc<Frequencies>,
    reservation: MemoryReservation,
    /// The input's columns that the output has.
    passed: Vec<usize>,
    key: usize,
    /// Where n-grams and text hash are, or the vector twice.
    compared: [usize; 2],
    /// Where the words are, for a ROUGE-L.
    words: Option<usize>,
    schema: SchemaRef,
    duplicates: Count,
}

impl Scan {
    /// `schema` is that of the output.
    pub fn try_new(
        spec: &Spec,
        input: &SchemaRef,
        schema: SchemaRef,
        frequencies: Arc<Frequencies>,
        reservation: MemoryReservation,
        duplicates: Count,
    ) -> Result<Self> {
        let compared = match spec.by {
            By::Ngrams { .. } => [input.index_of(SHINGLES)?, input.index_of(WHOLE)?],
            By::Cosine => [input.index_of(TEXT)?; 2],
        };
        let words = spec.rouge_l().map(|_| input.index_of(WORDS)).transpose()?;
        let (key, prefer) = (input.index_of(KEY)?, input.index_of(PREFER)?);
        let hidden = |at: &usize| compared.contains(at) || [Some(key), Some(prefer), words].contains(&Some(*at));
        Ok(Self {
            by: spec.by,
            threshold: spec.threshold(),
            rouge_l: spec.rouge_l(),
            index: None,
            keys: Keys::default(),
            frequencies,
            reservation,
            passed: (0..input.fields().len()).filter(|at| !hidden(at)).collect(),
            key,
            compared,
            words,
            schema,
            duplicates,
        })
    }

    /// Decides about the rows of the next batch.
    pub fn decide(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let index = self.index.get_or_insert_with(|| match self.by {
            By::Ngrams { .. } => {
                Index::Texts(Box::new(Kept::new(self.threshold, self.rouge_l, self.frequencies.frozen())))
            }
            By::Cosine => Index::Vectors(KeptVectors::new(self.threshold)),
        });
        let [first, second] = self.compared.map(|at| batch.column(at));
        let (decisions, kept, bytes) = match index {
            Index::Texts(kept) => {
                let words = self.words.map(|at| batch.column(at));
                (by_ngrams(kept, first, second, words), kept.len(), kept.size())
            }
            Index::Vectors(kept) => (by_cosine(kept, first)?, kept.len(), kept.size()),
        };
        let new_rows = decisions.iter().enumerate().filter(|(_, (_, kept))| *kept).map(|(row, _)| row as u32);
        self.keys.add(batch.column(self.key), new_rows.collect())?;
        let bytes = bytes + self.keys.bytes;
        self.reservation.try_resize(bytes).map_err(|_| {
            DataFusionError::ResourcesExhausted(format!(
                "near_duplicates: the {kept} rows kept so far need {} MB, which is more than the memory limit leaves; raise \
                 datafusion.runtime.memory_limit, or compare within parts of the rows",
                bytes.div_ceil(1_000_000)
            ))
        })?;
        let found: Vec<Option<Match>> = decisions.into_iter().map(|(found, _)| found).collect();
        self.duplicates.add(found.iter().flatten().count());
        let mut columns: Vec<ArrayRef> = self.passed.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        columns.push(self.column(&found)?);
        // Types of strings may differ between the logical and the physical plan.
        let columns = columns.iter().zip(self.schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<std::result::Result<_, _>>()?)?)
    }

    /// The added column.
    fn column(&self, found: &[Option<Match>]) -> Result<ArrayRef> {
        let keys = self.keys.of(found)?;
        let mut likeness = Float64Builder::with_capacity(found.len());
        let mut kind = StringViewBuilder::with_capacity(found.len());
        for found in found {
            likeness.append_option(found.map(|found| found.likeness));
            kind.append_option(found.map(|found| found.kind.as_str()));
        }
        let fields = self.by.fields(keys.data_type());
        let columns: Vec<ArrayRef> = vec![keys, Arc::new(likeness.finish()), Arc::new(kind.finish())];
        let nulls: NullBuffer = found.iter().map(Option::is_some).collect();
        Ok(Arc::new(StructArray::try_new(fields, columns, Some(nulls))?))
    }
}

fn by_ngrams(kept: &mut Kept, sets: &ArrayRef, wholes: &ArrayRef, words: Option<&ArrayRef>) -> Vec<Decision> {
    let (sets, wholes) = (sets.as_list::<i32>(), wholes.as_primitive::<UInt64Type>());
    let values = sets.values().as_primitive::<UInt64Type>().values();
    let words = words.map(|words| words.as_list::<i32>());
    let words_of = |row: usize| {
        words.map_or(&[][..], |words| {
            let (start, end) = (words.value_offsets()[row] as usize, words.value_offsets()[row + 1] as usize);
            &words.values().as_primitive::<UInt32Type>().values()[start..end]
        })
    };
    let decide = |row: usize| {
        if sets.is_null(row) {
            return (None, false);
        }
        let set = &values[sets.value_offsets()[row] as usize..sets.value_offsets()[row + 1] as usize];
        let found = kept.find_or_keep(wholes.value(row), set, words_of(row));
        (found, found.is_none())
    };
    (0..sets.len()).map(decide).collect()
}

fn by_cosine(kept: &mut KeptVectors, vectors: &ArrayRef) -> Result<Vec<Decision>> {
    let vectors = cast(vectors, &DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))?;
    let vectors = vectors.as_list::<i32>();
    let values = vectors.values().as_primitive::<Float32Type>().values();
    let vector = |row: usize| {
        let (start, end) = (vectors.value_offsets()[row] as usize, vectors.value_offsets()[row + 1] as usize);
        vectors.is_valid(row).then(|| &values[start..end])
    };
    let mut decisions = Vec::with_capacity(vectors.len());
    for start in (0..vectors.len()).step_by(BLOCK) {
        let block: Vec<Option<&[f32]>> = (start..vectors.len().min(start + BLOCK)).map(vector).collect();
        decisions.extend(kept.find_or_keep(&block)?);
    }
    Ok(decisions)
}

/// The keys of kept rows, in their order, as they came in batches.
#[derive(Default)]
struct Keys {
    batches: Vec<ArrayRef>,
    /// The first kept row of each batch.
    starts: Vec<u32>,
    rows: u32,
    bytes: usize,
    null: Option<ArrayRef>,
}

impl Keys {
    fn add(&mut self, keys: &ArrayRef, rows: Vec<u32>) -> Result<()> {
        // A view would hold the texts of the whole batch.
        let keys = if keys.data_type() == &DataType::Utf8View { &cast(keys, &DataType::LargeUtf8)? } else { keys };
        if self.null.is_none() {
            self.null = Some(new_null_array(keys.data_type(), 1));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.starts.push(self.rows);
        self.rows += rows.len() as u32;
        let batch = take(keys, &UInt32Array::from(rows), None)?;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        Ok(())
    }

    /// The key of each match; NULL where there is none.
    fn of(&self, found: &[Option<Match>]) -> Result<ArrayRef> {
        let Some(null) = &self.null else {
            return internal_err!("near_duplicates was asked for a key before it had one");
        };
        // Only the batches that are meant, each once; the first is the NULL.
        let mut sources: Vec<&dyn Array> = vec![null.as_ref()];
        let mut places = vec![usize::MAX; self.batches.len()];
        let mut indices = Vec::with_capacity(found.len());
        for found in found {
            let Some(found) = found else {
                indices.push((0, 0));
                continue;
            };
            let batch = self.starts.partition_point(|start| *start <= found.row) - 1;
            if places[batch] == usize::MAX {
                places[batch] = sources.len();
                sources.push(self.batches[batch].as_ref());
            }
            indices.push((places[batch], (found.row - self.starts[batch]) as usize));
        }
        Ok(interleave(&sources, &indices)?)
    }
}
