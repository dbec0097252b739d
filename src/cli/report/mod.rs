//! `seedmill report`: one HTML file about a run, with nothing to load from elsewhere. Every figure in it is a query of
//! `sql/` over the run's schema, shown beside its plot as it can be given to `seedmill sql`.

mod figures;
mod page;
mod plot;
mod result;

use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_datafusion_err};

use super::arguments::ReportArguments;
use super::{EXIT_OK, output};
use crate::config::did_you_mean;
use crate::publish::{complete_run, manifest_of};
use crate::session::{OpenOptions, Workspace};
use page::Page;
use result::QueryResult;

pub async fn report(root: Option<PathBuf>, arguments: ReportArguments) -> Result<u8> {
    // A run may be named by its folder, which then says where the runs are.
    let folder = arguments.run.as_ref().map(PathBuf::from).filter(|run| run.is_dir());
    let (out, run_id) = match &folder {
        Some(folder) => {
            let folder = std::fs::canonicalize(folder)
                .map_err(|e| exec_datafusion_err!("{} cannot be read: {e}", folder.display()))?;
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            (folder.parent().map(|out| out.to_string_lossy().into_owned()), name)
        }
        None => (arguments.runs, arguments.run),
    };
    let workspace = Workspace::open(OpenOptions { root, out, ..OpenOptions::default() }).await?;
    let run_id = find(&workspace, run_id.as_deref()).await?;
    let out = workspace.run.stores.place(&workspace.config.out);
    let run = complete_run(&out, &run_id).await?;
    let run =
        run.ok_or_else(|| exec_datafusion_err!("the run {run_id} is not in {} any more", workspace.config.out))?;
    let manifest = manifest_of(&run).await?;
    let html = Page::read(&workspace, manifest).await?;
    let file = arguments.out.unwrap_or_else(|| PathBuf::from(format!("{}.html", html.run_id())));
    std::fs::write(&file, html.render()?)
        .map_err(|e| DataFusionError::Execution(format!("{} cannot be written: {e}", file.display())))?;
    output::text(&format!("{}\n", file.display()))?;
    Ok(EXIT_OK)
}

/// The id of a complete run: the newest where none is named.
async fn find(workspace: &Workspace, run_id: Option<&str>) -> Result<String> {
    let sql = "SELECT run_id FROM runs WHERE state = 'complete' ORDER BY run_id DESC";
    let runs = QueryResult::of(workspace.sql(sql).await?).await?.rows;
    let out = &workspace.config.out;
    let found = match run_id {
        None => runs.first().ok_or_else(|| plan_datafusion_err!("no run is published in {out}"))?,
        Some(id) => runs.iter().find(|run| run[0].text == id).ok_or_else(|| {
            let near = did_you_mean(id, runs.iter().map(|run| run[0].text.as_str()));
            plan_datafusion_err!("there is no published run '{id}' in {out}; seedmill runs lists them{near}")
        })?,
    };
    Ok(found[0].text.clone())
}
