//! `seedmill explain`: the whole plan of a pipeline folder, without a call made.

use std::path::PathBuf;

use datafusion::common::Result;

use super::EXIT_OK;
use super::arguments::ExplainArguments;
use crate::session::{OpenOptions, Workspace};

pub async fn explain(root: Option<PathBuf>, arguments: ExplainArguments) -> Result<u8> {
    let set = arguments.set.set.into_iter().collect();
    let options = OpenOptions { root, pipeline: arguments.pipeline, set, out: None };
    let workspace = Workspace::open(options).await?;
    let plan = workspace.register_stages().await?.ok_or_else(|| workspace.no_publishing_statement())?;
    let optimized = workspace.ctx().state().optimize(&plan)?;
    println!("{}", optimized.display_indent());
    if arguments.physical {
        let physical = workspace.ctx().state().create_physical_plan(&plan).await?;
        println!("\n{}", datafusion::physical_plan::displayable(physical.as_ref()).indent(false));
    }
    Ok(EXIT_OK)
}
