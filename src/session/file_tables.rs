//! Files as tables: `SELECT … FROM 's3://b/p/*.parquet'`. In: the name of a table that is none. Out: the files it names,
//! a path or URL of a file, a folder or a pattern, as one table with the mark that their footers and names give.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::external_table::files_lineage;
use super::glob_table::{GlobTable, session_of};
use super::run_schemas;
use super::stage_views::StageViews;
use super::state_now::StateNow;
use crate::config::CONFIG_FILE;
use crate::lineage::MarkedTable;
use crate::publish::{FileKind, Run, newest_complete_run, newest_run};
use crate::stores::{FolderGlob, Place, listing_url};

/// The formats by extension; each but Parquet and Arrow may have one of [`COMPRESSIONS`] behind it.
const FORMATS: [&str; 7] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "arrow"];
const COMPRESSIONS: [(&str, FileCompressionType); 3] =
    [("gz", FileCompressionType::GZIP), ("zst", FileCompressionType::ZSTD), ("zstd", FileCompressionType::ZSTD)];

/// Puts what is opened when a statement names it behind the tables of the default schema: the views of `stages`, `tables`
/// (names and locations of `[tables]`), what the newest run in `out` has published, and files.
pub fn register(ctx: &SessionContext, tables: BTreeMap<String, String>, out: Place, stages: StageViews) -> Result<()> {
    let options = ctx.state().config_options().catalog.clone();
    let catalog = ctx.catalog(&options.default_catalog);
    let schema = catalog.as_ref().and_then(|catalog| Some((catalog, catalog.schema(&options.default_schema)?)));
    let (catalog, inner) = schema.ok_or_else(|| plan_datafusion_err!("the session has no default schema"))?;
    let files = FileTables { inner, stages, tables, out, state: StateNow::of(ctx) };
    catalog.register_schema(&options.default_schema, Arc::new(files))?;
    Ok(())
}

/// The default schema, and files behind it.
#[derive(Debug)]
struct FileTables {
    inner: Arc<dyn SchemaProvider>,
    stages: StageViews,
    tables: BTreeMap<String, String>,
    /// Where runs are published: what the newest has published are tables too.
    out: Place,
    state: StateNow,
}

#[async_trait]
impl SchemaProvider for FileTables {
    fn owner_name(&self) -> Option<&str> {
        self.inner.owner_name()
    }

    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.extend(self.stages.names());
        let published = PUBLISHED.iter().map(|(name, _)| *name).filter(|_| self.has_published());
        let behind = self.tables.keys().map(String::as_str).chain(published);
        for name in behind {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.stages.create(name, || Ok(SessionContext::new_with_state(self.state.get()?))).await?;
        if let Some(table) = self.inner.table(name).await? {
            return Ok(Some(table));
        }
        if let Some(location) = self.tables.get(name) {
            let table = table_of_files(&self.state.get()?, location).await;
            let table = table.map_err(|e| e.context(format!("[tables.{name}] of {CONFIG_FILE}")))?;
            // Its columns are found once, which reads all of a text file; its files are listed at each scan.
            self.inner.register_table(name.to_owned(), Arc::clone(&table))?;
            return Ok(Some(table));
        }
        if let Some(kind) = published(name)
            && let Some(run) = newest_complete_run(&self.out).await?
        {
            return run_schemas::files(&self.state.get()?, &run, kind).await.map(Some);
        }
        match is_file(name) {
            true => table_of_files(&self.state.get()?, name).await.map(Some),
            false => Ok(None),
        }
    }

    /// Of files nothing is known before they are opened.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if self.stages.contains(name) {
            return Ok(Some(TableType::View));
        }
        match self.inner.table_exist(name) || !self.table_exist(name) {
            true => self.inner.table_type(name).await,
            false => Ok(Some(TableType::Base)),
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
            || self.stages.contains(name)
            || self.tables.contains_key(name)
            || published(name).is_some() && self.has_published()
    }
}

impl FileTables {
    /// Whether there is a run whose tables can be listed: what lies in a store is asked for when it is named.
    fn has_published(&self) -> bool {
        self.out.folder().is_some_and(|out| newest_run(out).is_some())
    }
}

/// What the newest run has published, under the names of its two folders' contents.
const PUBLISHED: [(&str, FileKind); 2] = [("curated", FileKind::Curated), ("rejected", FileKind::Rejected)];

fn published(name: &str) -> Option<FileKind> {
    PUBLISHED.into_iter().find_map(|(table, kind)| (table == name).then_some(kind))
}

/// Whether a name that is no table can only be meant as a file.
fn is_file(name: &str) -> bool {
    name.contains('/') || kind_of(name).is_some()
}

/// The extension that says the format, and the compression.
fn kind_of(name: &str) -> Option<(&'static str, FileCompressionType)> {
    let lower = name.to_ascii_lowercase();
    let packed = COMPRESSIONS
        .iter()
        .find_map(|(extension, compression)| Some((lower.strip_suffix(extension)?.strip_suffix('.')?, *compression)));
    let (plain, compression) = packed.unwrap_or((&lower, FileCompressionType::UNCOMPRESSED));
    let (_, extension) = plain.rsplit_once('.')?;
    let format = FORMATS.into_iter().find(|format| *format == extension)?;
    let packs_itself = matches!(format, "parquet" | "arrow");
    (!packs_itself || compression == FileCompressionType::UNCOMPRESSED).then_some((format, compression))
}

/// The files that a path, a URL or a pattern names, as one table. A relative path lies in the current folder.
pub async fn table_of_files(state: &SessionState, location: &str) -> Result<Arc<dyn TableProvider>> {
    let folder = !location.contains("://") && !location.ends_with('/') && Path::new(location).is_dir();
    let stores = state.config().get_extension::<Run>().map(|run| Arc::clone(&run.stores));
    let taken = stores.and_then(|stores| stores.take_query(location));
    let location = taken.as_deref().unwrap_or(location);
    let url = listing_url(&if folder { format!("{location}/") } else { location.to_owned() })?;
    let is_pattern = url.get_glob().is_some();
    let glob = FolderGlob::of(&url)?;
    let in_folders;
    let (url, session) = match &glob {
        Some(glob) => {
            in_folders = session_of(glob, state)?;
            (glob.folder().clone(), &in_folders)
        }
        None => (url, state),
    };
    let store = session.runtime_env().object_store(&url)?;
    let mut found: Vec<ObjectMeta> = url.list_all_files(session, store.as_ref(), "").await?.try_collect().await?;
    found.sort_by(|a, b| a.location.cmp(&b.location));
    if found.is_empty() {
        return match is_pattern {
            true => plan_err!("no file matches the pattern '{location}'"),
            false => plan_err!("there is no table and no file '{location}'"),
        };
    }
    // Beside data there may be a card, a manifest and the like.
    let data = found.iter().filter_map(|file| Some((file, kind_of(file.location.filename()?)?)));
    let mut data: Vec<(&ObjectMeta, (&str, FileCompressionType))> = data.collect();
    if let ([file], []) = (&found[..], &data[..])
        && !file.location.filename().is_some_and(|name| name.contains('.'))
    {
        data.push((file, ("parquet", FileCompressionType::UNCOMPRESSED)));
    }
    let Some(&(first, (format, compression))) = data.first() else {
        let known = FORMATS.join(", ");
        return plan_err!("'{location}' is no file of a known format: {known}, and .gz and .zst of the text formats");
    };
    if let Some((other, (kind, _))) = data.iter().find(|(_, kind)| *kind != (format, compression)) {
        return plan_err!(
            "'{location}' names files of several formats (.{format} and .{kind}: {} and {}); name those of one",
            first.location,
            other.location
        );
    }
    let name = first.location.filename().unwrap_or_default().to_owned();
    let extension = match name.to_ascii_lowercase().rfind(&format!(".{format}")) {
        Some(at) if data.len() < found.len() => name[at..].to_owned(),
        _ => String::new(),
    };
    let options =
        ListingOptions::new(reader(format, compression, store.as_ref(), first).await?).with_file_extension(extension);
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(session).await;
    let config = config.map_err(|e| e.context(format!("the columns of '{location}' cannot be read")))?;
    let table = ListingTable::try_new(config)?.with_cache(state.runtime_env().cache_manager.get_file_statistic_cache());
    let table: Arc<dyn TableProvider> = match glob {
        Some(glob) => Arc::new(GlobTable::new(table, glob)),
        None => Arc::new(table),
    };
    Ok(match files_lineage(state, table.as_ref()).await? {
        Some(lineage) => Arc::new(MarkedTable::new(table, lineage)),
        None => table,
    })
}

/// Columns of text files are taken from all of their rows: a field first seen late would else be dropped.
async fn reader(
    format: &str,
    compression: FileCompressionType,
    store: &dyn ObjectStore,
    first: &ObjectMeta,
) -> Result<Arc<dyn FileFormat>> {
    let csv = |delimiter| {
        CsvFormat::default()
            .with_has_header(true)
            .with_delimiter(delimiter)
            .with_newlines_in_values(true)
            .with_schema_infer_max_rec(usize::MAX)
            .with_file_compression_type(compression)
    };
    Ok(match format {
        "csv" => Arc::new(csv(b',')),
        "tsv" => Arc::new(csv(b'\t')),
        "arrow" => Arc::new(ArrowFormat),
        "parquet" => Arc::new(ParquetFormat::default()),
        _ => {
            let json =
                JsonFormat::default().with_schema_infer_max_rec(usize::MAX).with_file_compression_type(compression);
            // A .json may be one list.
            let peeked = format == "json" && compression == FileCompressionType::UNCOMPRESSED && first.size > 0;
            let head = match peeked {
                true => store.get_range(&first.location, 0..first.size.min(1024)).await?,
                false => Default::default(),
            };
            let is_list = head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
            Arc::new(json.with_newline_delimited(!is_list))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_by_its_extension_or_by_a_slash() {
        for name in ["a.parquet", "s3://b/x", "x/y", "A.JSONL.GZ", "t.csv.zst", "q.tsv"] {
            assert!(is_file(name), "{name}");
        }
        for name in ["seeds", "raw.plain_facts", "norm.csv_task", "a.parquet.gz", "x.gz", "json"] {
            assert!(!is_file(name), "{name}");
        }
        let (format, compression) = kind_of("part-0.NDJSON.zst").unwrap();
        assert!(format == "ndjson" && compression == FileCompressionType::ZSTD);
    }
}
