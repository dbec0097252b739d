//! `held_out_copy(question TEXT [, passage TEXT [, options TEXT[] [, answer_text TEXT]]]) → BOOLEAN`: whether a row has
//! the question of a held-out row of a loaded task, without regard to case, space and punctuation. False for NULL. And its
//! kin: `held_out_row`, by a row's place, and those of the row guard.
//! What it looks into is loaded by [`LoadHeldOutRows`] before a plan with it runs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;

use crate::tasks::{HeldOutRows, Questions};

const COPY: &str = "held_out_copy";
const ROW: &str = "held_out_row";
const FILES: &str = "no_held_out_copies_in_files_of";
/// The row guard's own, apart from those of users: what a user leaves out is not counted as left out by the guard.
pub(super) const LEFT_OUT_SEED: &str = "left_out_seed";
pub(super) const LEFT_OUT_ROW: &str = "left_out_row";

/// The function `held_out_copy`.
pub fn held_out_copy(rows: Arc<HeldOutRows>) -> ScalarUDF {
    lookup(COPY, rows)
}

/// The function `held_out_row(task TEXT, source_row BIGINT) → BOOLEAN`: the same of a task's training row, by its place in
/// `raw.<task>`. The task is named by a literal: its rows are looked at before the plan runs.
pub fn held_out_row(rows: Arc<HeldOutRows>) -> ScalarUDF {
    lookup(ROW, rows)
}

/// `left_out_seed(question TEXT, passage TEXT, options TEXT[], answer_text TEXT) → BOOLEAN`: whether the row guard leaves a
/// row of `seeds` out: one without a question, too, which cannot be compared and may ask in its other columns. It stands in
/// plans only.
pub(super) fn left_out_seed(rows: Arc<HeldOutRows>) -> ScalarUDF {
    lookup(LEFT_OUT_SEED, rows)
}

/// `left_out_row(task TEXT, source_row BIGINT) → BOOLEAN`: the same of a row of `raw.<task>`. It stands in plans only.
pub(super) fn left_out_row(rows: Arc<HeldOutRows>) -> ScalarUDF {
    lookup(LEFT_OUT_ROW, rows)
}

/// `no_held_out_copies_in_files_of(task TEXT, …) → BOOLEAN`: true, or an error where training files of one of the tasks
/// have copies. It stands in plans only, over files that are read by their paths.
pub(super) fn no_copies_in_files(rows: Arc<HeldOutRows>) -> ScalarUDF {
    lookup(FILES, rows)
}

fn lookup(name: &'static str, rows: Arc<HeldOutRows>) -> ScalarUDF {
    ScalarUDF::from(Lookup { name, rows, signature: Signature::user_defined(Volatility::Immutable) })
}

struct Lookup {
    name: &'static str,
    rows: Arc<HeldOutRows>,
    signature: Signature,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.rows, &other.rows)
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if self.name == FILES {
            return Ok(vec![DataType::Utf8; given.len()]);
        }
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        let takes = match self.by_place() {
            true => vec![DataType::Utf8, DataType::Int64],
            false => vec![DataType::Utf8View, DataType::Utf8View, list, DataType::Utf8View],
        };
        if self.by_place() && given.len() != takes.len() {
            return plan_err!("{ROW} takes (task, source_row)");
        }
        if given.is_empty() || given.len() > takes.len() {
            return plan_err!(
                "{COPY} takes (question, passage, options, answer_text), of which only the first is needed"
            );
        }
        let wrong = |(given, takes): &(&DataType, &DataType)| match takes {
            DataType::List(_) => !given.is_null() && !given.is_list(),
            _ => given.is_nested(),
        };
        if let Some((given, takes)) = given.iter().zip(&takes).find(wrong) {
            return plan_err!("{}: {given} is given where {takes} is needed", self.name);
        }
        Ok(takes[..given.len()].to_vec())
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name == FILES {
            return self.files(&args.args);
        }
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let found = if self.by_place() { self.rows(&columns)? } else { self.copies(&columns, rows)? };
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(found))
        })
    }
}

impl Lookup {
    /// Whether it is asked by a task and the place of a row.
    fn by_place(&self) -> bool {
        matches!(self.name, ROW | LEFT_OUT_ROW)
    }

    /// Never false: a plan would be made without its rows, and nobody would hear of it.
    fn files(&self, tasks: &[ColumnarValue]) -> Result<ColumnarValue> {
        for task in tasks {
            let ColumnarValue::Scalar(task) = task else { return exec_err!("{FILES} takes names of tasks") };
            let task = task.try_as_str().flatten().unwrap_or_default();
            match self.rows.copies_in_files(task) {
                Some(0) => {}
                Some(copies) => return exec_err!("{}", of_file(task, copies)),
                None => return exec_err!("{FILES}: the training files of '{task}' are not looked at yet"),
            }
        }
        Ok(ColumnarValue::Scalar(ScalarValue::from(true)))
    }

    fn copies(&self, columns: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
        // Constants are folded before the index is there: an error leaves them for later.
        let Some(index) = self.rows.index() else {
            return exec_err!("{COPY}: the held-out rows are not loaded; run the query in a workspace of seedmill");
        };
        let Some(question) = columns.first() else { return exec_err!("{COPY} needs a question") };
        let questions = Questions::new(question, columns.get(1), columns.get(2), columns.get(3))?;
        let unasked = |row| self.name == LEFT_OUT_SEED && question.is_null(row);
        Ok((0..rows).map(|row| Some(unasked(row) || index.contains(&questions.keys(row)))).collect())
    }

    fn rows(&self, columns: &[ArrayRef]) -> Result<BooleanArray> {
        let [tasks, places] = columns else { return exec_err!("{ROW} needs a task and a row") };
        let tasks = cast(tasks, &DataType::Utf8)?;
        let (tasks, places) = (tasks.as_string::<i32>(), places.as_primitive::<Int64Type>());
        let mut last: Option<(&str, Arc<_>)> = None;
        (0..tasks.len())
            .map(|row| {
                if tasks.is_null(row) || places.is_null(row) {
                    return Ok(Some(false));
                }
                let (task, place) = (tasks.value(row), places.value(row));
                let copies = match &last {
                    Some((name, copies)) if *name == task => Arc::clone(copies),
                    _ => match self.rows.copies(task) {
                        Some(copies) => Arc::clone(&last.insert((task, copies)).1),
                        None if self.name == LEFT_OUT_ROW => {
                            return exec_err!(
                                "the training rows of '{task}' cannot be compared with held-out rows, so they reach no \
                                 call and no table; SELECT message FROM tasks WHERE task = '{task}' says why"
                            );
                        }
                        None => {
                            return exec_err!(
                                "{ROW}: '{task}' is no task with training rows that can be compared, or is not named by \
                                 a text in the query"
                            );
                        }
                    },
                };
                Ok(Some(usize::try_from(place).is_ok_and(|place| place < copies.len() && copies.value(place))))
            })
            .collect()
    }
}

/// The refusal of a task's file.
fn of_file(task: &str, copies: usize) -> String {
    let rows = match copies {
        1 => "one of the task's rows is a copy".to_owned(),
        _ => format!("{copies} of the task's rows are copies"),
    };
    format!(
        "a file of training rows of the task '{task}' is read by its path, and {rows} of held-out rows: read raw.\"{task}\" or \
         norm.\"{task}\", which leave them out, or a file of yours without them (COPY (SELECT … WHERE NOT \
         held_out_copy(…)) TO …)"
    )
}

/// Loads what the functions of a plan look into, then plans as another planner does.
pub struct LoadHeldOutRows {
    rows: Arc<HeldOutRows>,
    planner: Arc<dyn QueryPlanner + Send + Sync>,
}

impl LoadHeldOutRows {
    pub fn new(rows: Arc<HeldOutRows>, planner: Arc<dyn QueryPlanner + Send + Sync>) -> Self {
        Self { rows, planner }
    }
}

impl fmt::Debug for LoadHeldOutRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadHeldOutRows").field("planner", &self.planner).finish()
    }
}

#[async_trait]
impl QueryPlanner for LoadHeldOutRows {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let needs = needs(plan)?;
        if needs.index {
            self.rows.load(session).await?;
        }
        for task in &needs.tasks {
            self.rows.load_task(task, session).await?;
        }
        for task in &needs.files {
            match self.rows.load_files(task, session).await? {
                0 => {}
                copies => return plan_err!("{}", of_file(task, copies)),
            }
        }
        self.planner.create_physical_plan(plan, session).await
    }
}

#[derive(Default)]
struct Needs {
    index: bool,
    tasks: Vec<String>,
    /// Tasks whose files are read by their paths.
    files: Vec<String>,
}

fn needs(plan: &LogicalPlan) -> Result<Needs> {
    let mut needs = Needs::default();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    let mut names = call.args.iter().filter_map(|arg| match arg {
                        Expr::Literal(task, _) => task.try_as_str().flatten().map(str::to_owned),
                        _ => None,
                    });
                    match call.func.name() {
                        COPY | LEFT_OUT_SEED => needs.index = true,
                        ROW | LEFT_OUT_ROW => needs.tasks.extend(names.next()),
                        FILES => needs.files.extend(names),
                        _ => {}
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(needs)
}
