//! Tables over files: which split their rows come from. In: a table of files. Out: the table with its mark, from the
//! task catalog, the files' footers and the files' own names.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, TableReference, exec_datafusion_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateExternalTable, DdlStatement, LogicalPlan, TableScan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};

use super::file_tables::table_of_files;
use super::footer::footer_split;
use super::glob_table::{GlobTable, listing_of, session_of};
use super::macros::InlineMacros;
use crate::lineage::{Licence, Lineage, MarkedTable, Origin, SPLIT_KEY, Split, lineage_of};
use crate::model_call::call_nodes;
use crate::stores::{FileMap, FolderGlob, ListedFile, listing_url};
use crate::tasks::{Catalog, Task};

/// Files that are looked into at a time.
const READS: usize = 16;

/// The files of the catalog's tasks: a table over one of them is marked as the catalog marks it. They are looked at when
/// the first such table is made.
#[derive(Debug)]
pub struct CatalogFiles {
    catalog: Arc<Catalog>,
    files: OnceLock<FileMap<Lineage>>,
}

impl CatalogFiles {
    pub fn new(catalog: Arc<Catalog>) -> Self {
        CatalogFiles { catalog, files: OnceLock::new() }
    }

    /// What the catalog says of a file, and whether the file itself is not asked any more: a pattern or folder of training
    /// files may have taken in what is none.
    fn look_up(&self, file: &ListedFile) -> (Option<Lineage>, bool) {
        let files = self.files.get_or_init(|| files_of(self.catalog.tasks()));
        let told = files.find(file).into_iter().cloned().reduce(together);
        let is_held_out = told.as_ref().is_some_and(|told| told.split.is_held_out());
        (told, is_held_out || files.has_name_of(file))
    }

    /// The strictest licence of the tasks with training rows that `takes` takes.
    pub(super) fn strictest(&self, takes: impl Fn(&Task) -> bool) -> Option<Licence> {
        let tasks = self.catalog.tasks().iter().filter(|task| task.has_seeds() && takes(task));
        tasks.map(|task| task.licence.clone()).reduce(Licence::stricter)
    }
}

fn files_of(tasks: &[Task]) -> FileMap<Lineage> {
    let mut files = FileMap::default();
    // Of tasks with one file the one that can say best what its rows ask.
    let (seeds, others): (Vec<&Task>, Vec<&Task>) = tasks.iter().partition(|task| task.has_seeds());
    // The first to name a file stands: one that is held out for one task is held out.
    for split in [Split::Test, Split::Validation, Split::Train] {
        for task in seeds.iter().chain(&others) {
            let (tasks, licence) = (vec![task.name.clone()], Some(task.licence.clone()));
            let lineage = Lineage { tasks, licence, ..Lineage::of(split, Origin::CatalogFile) };
            task.files(split).iter().for_each(|file| files.insert(file, lineage.clone()));
        }
    }
    files.follow_links();
    files
}

/// CREATE EXTERNAL TABLE, with the mark of its files or of the option `seedmill.split`, which stands over them.
pub async fn create(ctx: &SessionContext, mut create: CreateExternalTable) -> Result<DataFrame> {
    let (name, locations) = (create.name.clone(), create.locations.clone());
    let key = create.options.keys().find(|key| key.trim_start_matches("format.") == SPLIT_KEY).cloned();
    let said = match key.and_then(|key| create.options.remove(&key)) {
        Some(value) => Some(Split::from_name(&value).ok_or_else(|| {
            DataFusionError::Plan(format!("'{SPLIT_KEY}' '{value}' must be train, validation or test"))
        })?),
        None => None,
    };
    // The table that is there keeps the mark that it has.
    let kept = create.if_not_exists && ctx.table_exist(name.clone())?;
    let listed = if kept { None } else { listed_by_us(ctx, &create).await? };
    let done = match listed {
        Some(table) => {
            ctx.deregister_table(name.clone())?;
            ctx.register_table(name.clone(), table)?;
            ctx.read_empty()?.limit(0, Some(0))?
        }
        None => ctx.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(Box::new(create)))).await?,
    };
    if kept {
        return Ok(done);
    }
    let mut table = ctx.table_provider(name.clone()).await?;
    if let Some(marked) = (table.as_ref() as &dyn Any).downcast_ref::<MarkedTable>() {
        table = Arc::clone(marked.inner());
    }
    let found = match listing_of(table.as_ref()).is_some() {
        true => files_lineage(&ctx.state(), table.as_ref()).await?,
        false => locations.iter().filter_map(|location| stream_lineage(&ctx.state(), location)).reduce(together),
    };
    let lineage = match (said, found) {
        (Some(split), found) => {
            let over = found.as_ref().map(|found| found.split).filter(|found| found.is_held_out() && *found != split);
            let origin = over.map_or(Origin::Option, Origin::OptionOver);
            // What is said of the split says nothing of a licence, nor of which rows are copies of held-out ones.
            let mut lineage = Lineage::of(split, origin);
            if let Some(found) = found {
                lineage.licence = found.licence;
                lineage.tasks = if over.is_none() { found.tasks } else { Vec::new() };
            }
            Some(lineage)
        }
        (None, found) => found,
    };
    if let Some(lineage) = lineage {
        mark(ctx, name, table, lineage)?;
    }
    Ok(done)
}

/// The table, where DataFusion does not list its files: it knows patterns in local paths only, and of names in one folder.
async fn listed_by_us(ctx: &SessionContext, create: &CreateExternalTable) -> Result<Option<Arc<dyn TableProvider>>> {
    let glob = folder_glob(create)?;
    let location = pattern_of_url(create);
    if (glob.is_some() || location.is_some()) && !create.or_replace && ctx.table_exist(create.name.clone())? {
        return plan_err!("the table {} is already there", create.name);
    }
    Ok(match (glob, location) {
        (Some(glob), _) => Some(table_of_glob(&ctx.state(), create, glob).await?),
        (None, Some(location)) => Some(table_of_files(&ctx.state(), location).await?),
        (None, None) => None,
    })
}

/// The pattern that is a table's location, where it names folders.
fn folder_glob(create: &CreateExternalTable) -> Result<Option<FolderGlob>> {
    // DataFusion opens a stream by its path, and refuses temporary tables.
    if create.unbounded || create.temporary {
        return Ok(None);
    }
    for location in &create.locations {
        if let Some(glob) = FolderGlob::of(&listing_url(location)?)? {
            return match create.locations.len() {
                1 => Ok(Some(glob)),
                _ => plan_err!("'{location}' is a pattern that names folders: it must be the table's only location"),
            };
        }
    }
    Ok(None)
}

/// The table of a pattern that names folders. DataFusion makes it, of the folder in the pattern's session: columns, options
/// and partitions are what they are for any location.
async fn table_of_glob(
    state: &SessionState,
    create: &CreateExternalTable,
    glob: FolderGlob,
) -> Result<Arc<dyn TableProvider>> {
    let location = create.locations.join(", ");
    let mut session = session_of(&glob, state)?;
    // Of folders that a wildcard stands for some may be named like partitions, which DataFusion refuses in one table.
    session.config_mut().options_mut().execution.listing_table_factory_infer_partitions &= glob.names_partitions();
    // With columns that are told, files may come later.
    if create.schema.fields().is_empty() {
        let store = session.runtime_env().object_store(glob.folder())?;
        let mut files = glob.folder().list_all_files(&session, store.as_ref(), "").await?;
        if files.try_next().await?.is_none() {
            return plan_err!("no file matches the pattern '{location}'");
        }
    }
    let factory = session.table_factories().get(create.file_type.to_uppercase().as_str());
    let factory = factory.ok_or_else(|| exec_datafusion_err!("Unable to find factory for {}", create.file_type))?;
    let of_folder = CreateExternalTable { locations: vec![glob.all_in_folder()?], ..create.clone() };
    let table = factory.create(&session, &of_folder).await?;
    match (table.as_ref() as &dyn Any).downcast_ref::<ListingTable>() {
        Some(listing) => Ok(Arc::new(GlobTable::new(listing.clone(), glob))),
        None => plan_err!("'{location}' is a pattern, and an unbounded table is one file"),
    }
}

fn pattern_of_url(create: &CreateExternalTable) -> Option<&str> {
    let [location] = create.locations.as_slice() else { return None };
    let is_pattern = location.contains("://") && !location.starts_with("file:") && location.contains(['*', '?', '[']);
    is_pattern.then_some(location)
}

/// Puts a marked table in the place of one that is registered.
pub fn mark(ctx: &SessionContext, name: TableReference, table: Arc<dyn TableProvider>, lineage: Lineage) -> Result<()> {
    ctx.deregister_table(name.clone())?;
    ctx.register_table(name, Arc::new(MarkedTable::new(table, lineage)))?;
    Ok(())
}

/// The plan with the marks that the files below it have by now: a folder is listed when it is read, and may hold more
/// than it did when its table was made. Only plans that call models or write are looked at.
pub async fn with_marks_of_today(ctx: &SessionContext, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut writes = false;
    let mut tables: Vec<Arc<dyn TableProvider>> = Vec::new();
    plan.apply_with_subqueries(|node| {
        writes |= matches!(node, LogicalPlan::Copy(_) | LogicalPlan::Dml(_));
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(table) = source_as_provider(&scan.source)
            && files_to_look_at(table.as_ref()).is_some()
            && !tables.iter().any(|known| Arc::ptr_eq(known, &table))
        {
            tables.push(table);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if tables.is_empty() || !writes && call_nodes(&plan)?.is_empty() {
        return Ok(plan);
    }
    marked_anew(ctx, plan, tables).await
}

/// The plan with the bodies of the user's functions in it, as the analyzer makes it: what they read is seen. The analyzer
/// walks over it again and finds none left: its own pass is for plans that do not come by here (estimates, counts).
pub fn inlined(ctx: &SessionContext, plan: LogicalPlan) -> Result<LogicalPlan> {
    InlineMacros.analyze(plan, ctx.state().config_options())
}

/// The plan with the marks of today, for a plan whose rows are kept in a table.
pub async fn with_marks_to_keep(ctx: &SessionContext, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut tables: Vec<Arc<dyn TableProvider>> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(table) = source_as_provider(&scan.source)
            && files_to_look_at(table.as_ref()).is_some()
        {
            tables.push(table);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    marked_anew(ctx, plan, tables).await
}

async fn marked_anew(
    ctx: &SessionContext,
    plan: LogicalPlan,
    tables: Vec<Arc<dyn TableProvider>>,
) -> Result<LogicalPlan> {
    let mut held_out = Vec::new();
    for table in tables {
        if let Some(files) = files_to_look_at(table.as_ref())
            && let Some(lineage) =
                files_lineage(&ctx.state(), files).await?.filter(|lineage| lineage.split.is_held_out())
        {
            held_out.push((table, lineage));
        }
    }
    if held_out.is_empty() {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
        let table = source_as_provider(&scan.source)?;
        Ok(match held_out.iter().find(|(known, _)| Arc::ptr_eq(known, &table)) {
            Some((_, lineage)) => {
                let source = provider_as_source(Arc::new(MarkedTable::new(table, lineage.clone())));
                Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))
            }
            None => Transformed::no(LogicalPlan::TableScan(scan)),
        })
    })
    .data()
}

/// A table of files whose mark rests on them, unless they are known to be held out.
fn files_to_look_at(table: &dyn TableProvider) -> Option<&dyn TableProvider> {
    let files = match lineage_of(table) {
        None => table,
        Some(lineage) => match lineage.origin {
            Origin::FileName | Origin::Footer | Origin::CatalogFile if !lineage.split.is_held_out() => {
                (table as &dyn Any).downcast_ref::<MarkedTable>()?.inner().as_ref()
            }
            _ => return None,
        },
    };
    listing_of(files).map(|_| files)
}

/// What the files of a table say together: held out where one of them is, with the strictest of their licences; `None`
/// where none says anything. They are those that a scan of the table would list now.
pub async fn files_lineage(state: &SessionState, table: &dyn TableProvider) -> Result<Option<Lineage>> {
    let Some((listing, glob)) = listing_of(table) else { return Ok(None) };
    let in_folders;
    let state = match glob {
        Some(glob) => {
            in_folders = session_of(glob, state)?;
            &in_folders
        }
        None => state,
    };
    let runtime = state.runtime_env();
    let catalog = state.config().get_extension::<CatalogFiles>();
    let parquet = listing.options().format.get_ext() == "parquet";
    let mut found: Option<Lineage> = None;
    for url in listing.table_paths() {
        let store = runtime.object_store(url)?;
        let files = url.list_all_files(state, store.as_ref(), &listing.options().file_extension).await?;
        let mut lineages = files
            .map(|file| {
                let (store, runtime, catalog) = (Arc::clone(&store), Arc::clone(runtime), catalog.clone());
                async move {
                    let file = file?;
                    let listed = ListedFile::new(url, &file.location);
                    let told = catalog.as_ref().map(|catalog| catalog.look_up(&listed));
                    let (told, settled) = told.unwrap_or_default();
                    if settled {
                        return Ok::<_, DataFusionError>(told);
                    }
                    if parquet && let Some(split) = footer_split(&runtime, store.as_ref(), &file).await? {
                        return Ok(unless_held_out(told, Lineage::of(split, Origin::Footer)));
                    }
                    // A link may have another name than what it leads to.
                    let split = listed.names().into_iter().flatten().filter_map(split_of_name).max();
                    Ok(match split {
                        Some(split) => unless_held_out(told, Lineage::of(split, Origin::FileName)),
                        None => told,
                    })
                }
            })
            .buffer_unordered(READS);
        while let Some(lineage) = lineages.try_next().await? {
            found = match (found, lineage) {
                (Some(known), Some(other)) => Some(together(known, other)),
                (known, other) => known.or(other),
            };
        }
    }
    Ok(found)
}

/// What the file of an UNBOUNDED table says, which is opened by its path and has no footer.
fn stream_lineage(state: &SessionState, location: &str) -> Option<Lineage> {
    let catalog = state.config().get_extension::<CatalogFiles>();
    let told = catalog.zip(ListedFile::opened(location)).map(|(catalog, file)| catalog.look_up(&file));
    let (told, settled) = told.unwrap_or_default();
    if settled {
        return told;
    }
    let path = std::fs::canonicalize(location).ok();
    let names = [name_of(Path::new(location)), path.as_deref().and_then(name_of)];
    match names.iter().flatten().filter_map(|name| split_of_name(name)).max() {
        Some(split) => unless_held_out(told, Lineage::of(split, Origin::FileName)),
        None => told,
    }
}

/// What the catalog says of a file, where it says anything and the file itself does not say that it is held out.
fn unless_held_out(told: Option<Lineage>, own: Lineage) -> Option<Lineage> {
    match told {
        Some(told) if own.split.is_held_out() => Some(together(told, own)),
        told => told.or(Some(own)),
    }
}

/// The mark of two files or tables in one table: what stands for the stricter one, and what holds of both.
pub(super) fn together(a: Lineage, b: Lineage) -> Lineage {
    let licence = a.licence.clone().into_iter().chain(b.licence.clone()).reduce(Licence::stricter);
    let rank = |lineage: &Lineage| (lineage.split, lineage.origin == Origin::CatalogFile);
    let (marked, other) = if rank(&b) > rank(&a) { (b, a) } else { (a, b) };
    let mut tasks = marked.tasks;
    // Of held-out rows the names are not asked for.
    for task in other.tasks {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    Lineage { licence, tasks, lacks: marked.lacks.max(other.lacks), ..marked }
}

fn split_of_name(name: &str) -> Option<Split> {
    Split::from_file_stem(Path::new(name).file_stem()?.to_str()?)
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}
