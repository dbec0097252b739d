//! The table `tasks`: one row a task config, accepted or not.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use datafusion::common::Result;
use datafusion::datasource::MemTable;

use super::{Capability, Catalog, Format, Reason, Task};

/// Columns: task, family, groups TEXT[], tags TEXT[], dataset_path, dataset_name, train_split, validation_split,
/// test_split, fewshot_split, output_type, format, capability, language, status ('accepted' |
/// 'accepted_fewshot_train' | 'rejected'), reason (see [`Reason`]), message, data (BOOLEAN: training files are known),
/// license, license_evidence, license_source, commercial ('yes' | 'share_alike' | 'no' | 'unknown'), needs (NULL |
/// 'sql_override': Python makes its prompts), file.
pub(crate) fn tasks_table(catalog: &Catalog) -> Result<MemTable> {
    let tasks = catalog.tasks();
    let text =
        |of: &dyn Fn(&Task) -> Option<String>| -> ArrayRef { Arc::new(tasks.iter().map(of).collect::<StringArray>()) };
    let list = |of: &dyn Fn(&Task) -> &Vec<String>| -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for task in tasks {
            lists.append_value(of(task).iter().map(Some));
        }
        Arc::new(lists.finish())
    };
    let data: ArrayRef = Arc::new(tasks.iter().map(|t| Some(!t.train_files.is_empty())).collect::<BooleanArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("task", text(&|t| Some(t.name.clone())), true),
        ("family", text(&|t| Some(t.family.clone())), true),
        ("groups", list(&|t| &t.groups), true),
        ("tags", list(&|t| &t.tags), true),
        ("dataset_path", text(&|t| t.dataset_path.clone()), true),
        ("dataset_name", text(&|t| t.dataset_name.clone()), true),
        ("train_split", text(&|t| t.train_split.clone()), true),
        ("validation_split", text(&|t| t.validation_split.clone()), true),
        ("test_split", text(&|t| t.test_split.clone()), true),
        ("fewshot_split", text(&|t| t.fewshot_split.clone()), true),
        ("output_type", text(&|t| t.output_type.clone()), true),
        ("format", text(&|t| t.format.map(Format::as_str).map(str::to_owned)), true),
        ("capability", text(&|t| t.capability.map(Capability::as_str).map(str::to_owned)), true),
        ("language", text(&|t| t.language.clone()), true),
        ("status", text(&|t| Some(t.status.to_string())), true),
        ("reason", text(&|t| t.reason.map(Reason::as_str).map(str::to_owned)), true),
        ("message", text(&|t| t.message.clone()), true),
        ("data", data, true),
        ("license", text(&|t| Some(t.licence.to_string())), true),
        ("license_evidence", text(&|t| t.licence_evidence.clone()), true),
        ("license_source", text(&|t| t.licence_source.clone()), true),
        ("commercial", text(&|t| Some(t.licence.permission().as_str().to_owned())), true),
        ("needs", text(&|t| t.needs_sql_override.then(|| "sql_override".to_owned())), true),
        ("file", text(&|t| Some(t.file.to_string_lossy().into_owned())), true),
    ])?;
    MemTable::try_new(batch.schema(), vec![vec![batch]])
}
