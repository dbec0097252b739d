//! The views of a pipeline's stages, each planned when a statement first names it. In: the stages' files. Out: views in
//! the session's default schema, the same as if every statement had been run when the workspace was opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::catalog::SchemaProvider;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast;

use super::pipeline::SqlFile;
use super::statements;

/// Views that wait for their names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct StageViews(Arc<Mutex<HashMap<String, Waiting>>>);

#[derive(Debug, Clone)]
struct Waiting {
    file: String,
    statement: Statement,
}

impl StageViews {
    /// Takes the views of these stages; the COPY that publishes is left out. False, and none taken, where the stages do
    /// anything else or one of the names is in use: such statements can only be run in order.
    ///
    /// # Errors
    /// A file that is no SQL.
    pub fn wait(&self, stages: &[SqlFile], schema: &dyn SchemaProvider) -> Result<bool> {
        let mut views = HashMap::new();
        for file in stages {
            for statement in file.statements()? {
                let name = match &statement {
                    Statement::CopyTo(_) => continue,
                    Statement::Statement(statement) => plain_view(statement),
                    _ => None,
                };
                let Some(name) = name.filter(|name| !schema.table_exist(name)) else { return Ok(false) };
                if views.insert(name, Waiting { file: file.name.clone(), statement }).is_some() {
                    return Ok(false);
                }
            }
        }
        *self.waiting() = views;
        Ok(true)
    }

    pub fn names(&self) -> Vec<String> {
        self.waiting().keys().cloned().collect()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.waiting().contains_key(name)
    }

    /// Creates the view of this name, if one waits; those that it names are created by being named.
    ///
    /// # Errors
    /// What is wrong with it, with its file. It waits on, and says so again.
    pub async fn create(&self, name: &str, ctx: impl FnOnce() -> Result<SessionContext>) -> Result<()> {
        // A view that names itself finds nothing, as in a statement run at once.
        let Some(view) = self.waiting().remove(name) else { return Ok(()) };
        let mut taken = Taken { views: self, name, view: Some(view.clone()) };
        let ctx = ctx()?;
        let created = async { statements::execute(&ctx, statements::plan(&ctx, view.statement).await?).await };
        created.await.map_err(|e| of_view(&e, name, &view.file))?;
        taken.view = None;
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a text: the places that an error knows are those of the file, and not of the statement that names the view.
fn of_view(error: &DataFusionError, name: &str, file: &str) -> DataFusionError {
    let said = error.strip_backtrace();
    let said = ["Error during planning: ", "Schema error: "]
        .iter()
        .fold(said.as_str(), |said, kind| said.strip_prefix(kind).unwrap_or(said));
    plan_datafusion_err!("{said}, in the view {name} of {file}")
}

/// A view that is being planned; put back where that fails or is given up.
struct Taken<'a> {
    views: &'a StageViews,
    name: &'a str,
    view: Option<Waiting>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(view) = self.view.take() {
            self.views.waiting().insert(self.name.to_owned(), view);
        }
    }
}

/// The name of `CREATE VIEW name AS …` with nothing else to it.
fn plain_view(statement: &ast::Statement) -> Option<String> {
    let ast::Statement::CreateView(view) = statement else { return None };
    let plain = !(view.or_replace || view.or_alter || view.materialized || view.temporary || view.if_not_exists);
    let name = object_name_to_table_reference(view.name.clone(), true).ok()?;
    (plain && name.schema().is_none()).then(|| name.table().to_owned())
}

/// Whether a statement leaves what later ones are planned with as it is.
pub fn defines_nothing(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            statement.as_ref(),
            ast::Statement::Query(_)
                | ast::Statement::Insert(_)
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
        ),
        Statement::CopyTo(_) => true,
        Statement::Explain(explain) => defines_nothing(&explain.statement),
        _ => false,
    }
}
