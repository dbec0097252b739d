//! The rows that a task's templates are applied to: a table's rows, or what the statements of `sql/tasks` make of them. In:
//! a config, its statements, a table of the session. Out: the CTEs, their columns, and the config over those columns.

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::prelude::SessionContext;

use super::column_sql::row_json;
use super::harness_config::{Field, HarnessConfig};
use super::norm_sql::{SOURCE_JSON, Source};
use super::raw_table::SOURCE_ROW;
use super::task_sql::Stage;

/// Plans the statements over `relation`, a table of `session` with the columns `rows` and `source_row`.
///
/// # Errors
/// `Plan`, for a statement that does not fit the columns, naming its file.
pub(crate) async fn source_rows(
    session: &SessionContext,
    config: &HarnessConfig,
    stages: &[Stage],
    relation: &str,
    rows: &Schema,
) -> Result<Source> {
    let mut config = config.clone();
    for stage in stages {
        for key in &stage.keys {
            let column = || Some(Field::Text(key.clone()));
            match key.as_str() {
                "doc_to_text" => config.doc_to_text = column(),
                "doc_to_target" => config.doc_to_target = column(),
                "doc_to_choice" => config.doc_to_choice = column(),
                "description" => config.description = column(),
                "gen_prefix" => config.gen_prefix = column(),
                _ => {}
            }
        }
    }
    if stages.is_empty() {
        return Ok(Source { ctes: Vec::new(), relation: relation.to_owned(), rows: without_source(rows), config });
    }
    let json = row_json(rows, SOURCE_ROW);
    let mut ctes = vec![("rows".to_owned(), format!("SELECT *, {json} AS {SOURCE_JSON} FROM {relation}"))];
    let mut fields: Vec<FieldRef> = Vec::new();
    for (place, stage) in stages.iter().enumerate() {
        let comment = format!("-- sql/tasks/{}\n  ", stage.file);
        let sql = stage.sql.trim_end().replace("FROM rows", &format!("FROM {}", ctes[ctes.len() - 1].0));
        ctes.push((format!("stage_{}", place + 1), format!("{comment}{sql}")));
        let with = ctes.iter().map(|(name, sql)| format!("{name} AS ({sql}\n)")).collect::<Vec<_>>().join(",\n");
        let plan = session.state().create_logical_plan(&format!("WITH {with} SELECT * FROM stage_{}", place + 1)).await;
        let plan = plan.map_err(|e| at(stage, e))?;
        fields = plan.schema().fields().iter().cloned().collect();
        let has = |name: &str| fields.iter().any(|field| field.name() == name);
        for name in [SOURCE_ROW, SOURCE_JSON] {
            if !has(name) {
                return plan_err!(
                    "sql/tasks/{}: the statement gives no column '{name}': begin it with SELECT *",
                    stage.file
                );
            }
        }
        if let Some(key) = stage.keys.iter().find(|key| *key != "process_docs" && !has(key)) {
            return plan_err!("sql/tasks/{}: the statement gives no column '{key}'", stage.file);
        }
    }
    let relation = format!("stage_{}", stages.len());
    Ok(Source { ctes, relation, rows: without_source(&Schema::new(fields)), config })
}

fn at(stage: &Stage, error: DataFusionError) -> DataFusionError {
    error.context(format!("sql/tasks/{}", stage.file))
}

fn without_source(rows: &Schema) -> Schema {
    let own = |field: &&FieldRef| field.name() != SOURCE_ROW && field.name() != SOURCE_JSON;
    Schema::new(rows.fields().iter().filter(own).cloned().collect::<Vec<_>>())
}
