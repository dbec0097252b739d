//! All held-out rows of a catalog, whatever its tasks' status: the index of their questions, and which training rows of a
//! task are copies. Each set of held-out files is read once, by the task that says best what its rows ask.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::arrow::array::{Array, AsArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use tokio::sync::OnceCell;

use super::heldout_index::{HeldOutIndex, IndexBuilder, VERSION};
use super::heldout_split::{SplitKeys, keys_file, reading, split_keys};
use super::norm_sql::config_of;
use super::normalized_cache::normalized_file;
use super::raw_file::may_pass;
use super::raw_table::RawTable;
use super::raw_texts::RawKeys;
use super::row_keys::Questions;
use super::task_planner::TaskPlanner;
use super::{Catalog, Task};
use crate::lineage::Split;

/// How many splits are looked at at the same time.
const AT_ONCE: usize = 4;

/// The held-out rows of a catalog.
#[derive(Debug)]
pub struct HeldOutRows {
    catalog: Arc<Catalog>,
    planner: TaskPlanner,
    parts: OnceLock<HeldOutParts>,
    index: OnceCell<Arc<HeldOutIndex>>,
    copies: Mutex<HashMap<String, Arc<BooleanBuffer>>>,
    /// By task, how many rows of its training files are copies, or may be.
    in_files: Mutex<HashMap<String, usize>>,
}

/// The sets of held-out files.
#[derive(Debug, Default)]
struct HeldOutParts {
    /// The task (by its place in the catalog) and split that stand for each.
    read: Vec<(usize, Split)>,
    /// By task and split, its place in `read`.
    of: HashMap<(usize, Split), usize>,
}

impl HeldOutRows {
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<RuntimeEnv>) -> Self {
        HeldOutRows {
            catalog,
            planner: TaskPlanner::new(runtime),
            parts: OnceLock::new(),
            index: OnceCell::new(),
            copies: Mutex::default(),
            in_files: Mutex::default(),
        }
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Whether there are any: where there are none no row needs a look.
    pub fn any(&self) -> bool {
        self.catalog.tasks().iter().any(|task| !task.heldout_files.is_empty())
    }

    /// The index, if [`Self::load`] has made it.
    pub fn index(&self) -> Option<&Arc<HeldOutIndex>> {
        self.index.get()
    }

    /// The index; made or read from the cache once in a session.
    ///
    /// # Errors
    /// A store or disk that fails. Files that are there and cannot be understood are warned of and left out, as rows of
    /// `heldout_coverage` say.
    pub async fn load(&self, session: &dyn Session) -> Result<Arc<HeldOutIndex>> {
        self.index.get_or_try_init(|| self.read_or_make(session)).await.cloned()
    }

    /// Which training rows of a task are copies of held-out rows, by their ordinal, if [`Self::load_task`] has looked.
    pub fn copies(&self, task: &str) -> Option<Arc<BooleanBuffer>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Looks at all training rows of a task: one bit is kept for each.
    pub async fn load_task(&self, name: &str, session: &dyn Session) -> Result<()> {
        if self.copies(name).is_some() {
            return Ok(());
        }
        let index = self.load(session).await?;
        let Some(task) = self.catalog.task(name).filter(|task| task.has_seeds()) else { return Ok(()) };
        let file = normalized_file(self.catalog.cache(), task, Split::Train, &self.planner, session).await?;
        let mut bits = BooleanBufferBuilder::new(0);
        if set_copies(&index, questions_of(&file).await?, &mut bits).await? {
            // A row without an answer is no seed and has no question there; its raw row asks all the same.
            let (asked, _) = self.planner.questions(task, Split::Train, config_of(task)?).await?;
            let rows = asked.session.execute_logical_plan(asked.plan).await?.execute_stream().await?;
            set_copies(&index, rows.boxed(), &mut bits).await?;
        }
        let copies = Arc::new(bits.finish());
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), copies);
        Ok(())
    }

    /// How many rows of a task's training files are copies, if [`Self::load_files`] has looked.
    pub fn copies_in_files(&self, task: &str) -> Option<usize> {
        self.in_files.lock().unwrap_or_else(PoisonError::into_inner).get(task).copied()
    }

    /// Looks at the training files of a task, also of one that is rejected: what its rows ask is then known by their texts
    /// alone. How many are copies.
    pub async fn load_files(&self, name: &str, session: &dyn Session) -> Result<usize> {
        if let Some(copies) = self.copies_in_files(name) {
            return Ok(copies);
        }
        let copies = match self.catalog.task(name) {
            Some(task) if task.has_seeds() => {
                self.load_task(name, session).await?;
                self.copies(name).map_or(0, |copies| copies.count_set_bits())
            }
            Some(task) => self.copies_by_texts(task, session).await?,
            None => 0,
        };
        self.in_files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), copies);
        Ok(copies)
    }

    async fn copies_by_texts(&self, task: &Task, session: &dyn Session) -> Result<usize> {
        let index = self.load(session).await?;
        let table = RawTable::open(task.files(Split::Train), session).await?;
        let mut batches = self.planner.session()?.read_table(Arc::new(table))?.execute_stream().await?;
        let mut raw = RawKeys::default();
        while let Some(batch) = batches.try_next().await? {
            raw.add(&batch, &|_| true)?;
        }
        let found = raw.finish();
        Ok(index.count_shared(&found.texts, &found.rows))
    }

    async fn read_or_make(&self, session: &dyn Session) -> Result<Arc<HeldOutIndex>> {
        let cache = self.catalog.cache();
        let files = self.parts().read.iter().map(|part| self.file(*part, session).boxed()).collect::<Vec<_>>();
        let files: Vec<_> = stream::iter(files).buffered(AT_ONCE).try_collect().await?;
        // The names hold hashes of the content.
        let mut hasher = blake3::Hasher::new();
        hasher.update(VERSION);
        for file in &files {
            let name = file.as_ref().map_or(&b""[..], |file| file.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(name);
            hasher.update(b"\n");
        }
        let kept = cache.join(format!("heldout-{}.index", &hasher.finalize().to_hex()[..16]));
        if let Some(index) = HeldOutIndex::read(&kept) {
            return Ok(Arc::new(index));
        }
        let mut builder = IndexBuilder::default();
        let mut lost = Vec::new();
        let keys = self.parts().read.iter().map(|part| self.keys_of(*part, session).boxed()).collect::<Vec<_>>();
        let mut keys = stream::iter(keys).buffered(AT_ONCE).enumerate();
        while let Some((part, keys)) = keys.next().await {
            let keys = keys?;
            if keys.is_lost() {
                lost.push((part, keys.note.clone().unwrap_or_default()));
            }
            builder.add(&keys);
        }
        let index = builder.finish();
        if let Some((part, why)) = lost.first() {
            // Not kept, so that it is said each time.
            let (task, split) = self.parts().read[*part];
            tracing::warn!(
                "copies of held-out rows of {} are not found, since the rows cannot be read; the first: the {split} rows \
                 of the task '{}': {why}; SELECT * FROM heldout_coverage WHERE reason IS NOT NULL lists them",
                match lost.len() {
                    1 => "one split".to_owned(),
                    splits => format!("{splits} splits"),
                },
                self.catalog.tasks()[task].name,
            );
        } else if !files.is_empty() {
            index.write(&kept).map_err(|e| {
                DataFusionError::from(e).context(format!("the index of held-out rows, '{}'", kept.display()))
            })?;
        }
        Ok(Arc::new(index))
    }

    /// The task that stands for the held-out files of a task and split; `None` where there are none.
    pub(super) fn read_by(&self, task: usize, split: Split) -> Option<(usize, Split)> {
        let parts = self.parts();
        parts.of.get(&(task, split)).map(|part| parts.read[*part])
    }

    /// What the rows of a task's split are known by.
    pub(super) async fn keys_of(&self, part: (usize, Split), session: &dyn Session) -> Result<SplitKeys> {
        match self.file(part, session).await? {
            Some(file) => split_keys(&file, &self.catalog.tasks()[part.0], part.1, &self.planner).await,
            None => Ok(SplitKeys { note: Some("its files are not there".into()), ..SplitKeys::default() }),
        }
    }

    /// Where the keys are kept; `None` where a file that the configuration names is not there.
    async fn file(&self, (task, split): (usize, Split), session: &dyn Session) -> Result<Option<std::path::PathBuf>> {
        match keys_file(self.catalog.cache(), &self.catalog.tasks()[task], split, session).await {
            Ok(file) => Ok(Some(file)),
            Err(e) if may_pass(&e) => Err(e),
            Err(_) => Ok(None),
        }
    }

    fn parts(&self) -> &HeldOutParts {
        self.parts.get_or_init(|| HeldOutParts::of(self.catalog.tasks()))
    }
}

impl HeldOutParts {
    /// Each set of files once for each code that chooses its rows (`process_docs`).
    fn of(tasks: &[Task]) -> HeldOutParts {
        type Files<'a> = (Split, &'a [String], &'a str);
        let mut readers: BTreeMap<Files, Vec<usize>> = BTreeMap::new();
        for (at, task) in tasks.iter().enumerate() {
            let chooses = task.config.as_ref().and_then(|config| config.function_places.get("process_docs"));
            for (split, files) in &task.heldout_files {
                let files = (*split, files.as_slice(), chooses.map_or("", String::as_str));
                readers.entry(files).or_default().push(at);
            }
        }
        let mut parts = HeldOutParts::default();
        for ((split, ..), readers) in readers {
            // Seeds are what accepted tasks make of the files of their datasets: held-out rows rather in their form.
            let best = readers.iter().min_by_key(|&&at| (reading(&tasks[at]), !tasks[at].is_accepted(), at));
            let Some(&best) = best else { continue };
            parts.of.extend(readers.iter().map(|at| ((*at, split), parts.read.len())));
            parts.read.push((best, split));
        }
        parts
    }
}

/// Sets the bits of rows that are copies, by their ordinals; whether there are rows without a question.
async fn set_copies(index: &HeldOutIndex, mut batches: Batches, bits: &mut BooleanBufferBuilder) -> Result<bool> {
    let mut unasked = false;
    while let Some(batch) = batches.try_next().await? {
        let rows = Questions::of(&batch)?;
        unasked |= batch.column_by_name("question").is_some_and(|column| column.null_count() > 0);
        let ordinals = batch.column_by_name("source_row").and_then(|column| column.as_primitive_opt::<Int64Type>());
        for row in 0..batch.num_rows() {
            let at = ordinals.filter(|o| o.is_valid(row)).map_or(bits.len(), |o| o.value(row).max(0) as usize);
            if at >= bits.len() {
                bits.append_n(at + 1 - bits.len(), false);
            }
            // A raw row that gives several questions is a copy with any of them.
            if index.contains(&rows.keys(row)) {
                bits.set_bit(at, true);
            }
        }
    }
    Ok(unasked)
}

pub(super) type Batches = futures::stream::BoxStream<'static, Result<RecordBatch>>;

/// The columns of a normalized file that say which row a row is.
pub(super) async fn questions_of(file: &Path) -> Result<Batches> {
    let at = |e: DataFusionError| e.context(format!("the normalized rows in '{}'", file.display()));
    let open = tokio::fs::File::open(file).await.map_err(|e| at(e.into()))?;
    let builder = ParquetRecordBatchStreamBuilder::new(open).await.map_err(|e| at(e.into()))?;
    let columns = ["passage", "question", "options", "answer_text", "source_row"];
    let schema = builder.schema();
    let roots = columns.iter().filter_map(|column| schema.index_of(column).ok()).collect::<Vec<_>>();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let batches = builder.with_projection(mask).build().map_err(|e| at(e.into()))?;
    Ok(batches.map_err(DataFusionError::from).boxed())
}
