//! The logical node of a model call: an input whose hidden columns hold what is sent, and a [`CallSpec`].

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, InvariantLevel, LogicalPlan, UserDefinedLogicalNodeCore};

use super::spec::{CallKind, CallSpec, OnError};

/// Output: the input's columns without the hidden ones (qualifiers kept), the returned columns, the call column.
#[derive(Debug, Clone)]
pub struct CallNode {
    spec: Arc<CallSpec>,
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl CallNode {
    pub fn try_new(spec: Arc<CallSpec>, input: LogicalPlan) -> Result<Self> {
        let hidden: HashSet<&String> = spec.columns.names().collect();
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .filter(|(_, field)| !hidden.contains(field.name()))
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        for field in spec.output_fields() {
            if fields.iter().any(|(_, existing)| existing.name() == field.name()) {
                return plan_err!(
                    "{} adds a column '{}', which its input already has; {}",
                    spec.kind.as_str(),
                    field.name(),
                    rename_advice(&spec, field.name())
                );
            }
            fields.push((None, Arc::new(field)));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { spec, input, schema })
    }

    pub fn spec(&self) -> &Arc<CallSpec> {
        &self.spec
    }

    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// How many of the output's columns are the input's. They come first.
    fn passed_through(&self) -> usize {
        self.schema.fields().len() - self.spec.output_fields().len()
    }

    /// Whether a column of this name is the call's and not the input's. No name is both.
    pub fn adds(&self, column: &str) -> bool {
        self.schema.fields()[self.passed_through()..].iter().any(|field| field.name() == column)
    }

    /// Whether each input row is one output row whatever becomes of its calls: only then may calls be left out.
    pub fn keeps_rows(&self) -> bool {
        self.spec.kind != CallKind::Generate && self.spec.on_error == OnError::Keep
    }

    /// Whether what is to be sent is still in the input. It is pruned where no answer is used, and then
    /// [`super::optimizer`] takes the node away.
    pub fn has_prompt(&self) -> bool {
        self.spec.columns.names().all(|name| self.input.schema().has_column_with_unqualified_name(name))
    }
}

/// The call that a node is.
pub(super) fn as_call(plan: &LogicalPlan) -> Option<&CallNode> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// The calls of a plan, the first to be made first.
pub fn call_nodes(plan: &LogicalPlan) -> Result<Vec<CallNode>> {
    let mut calls = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let Some(call) = as_call(node) {
            calls.push(call.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    calls.reverse();
    Ok(calls)
}

fn rename_advice(spec: &CallSpec, name: &str) -> String {
    if name == spec.call_as {
        format!("name the call column otherwise with call_as => 'other_{name}'")
    } else if spec.returns.is_none() {
        "name it otherwise with output => '…'".to_owned()
    } else {
        format!("rename it in returns, or in the input (SELECT {name} AS seed_{name}, …)")
    }
}

impl UserDefinedLogicalNodeCore for CallNode {
    fn name(&self) -> &str {
        match self.spec.kind {
            CallKind::Generate => "Generate",
            CallKind::Enrich => "Enrich",
            CallKind::Embed => "Embed",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn check_invariants(&self, _check: InvariantLevel) -> Result<()> {
        Ok(())
    }

    /// None: what is sent is computed by a projection below, where every rule of DataFusion applies.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// Filters on new columns stay above; all others go below, so that no call is paid for a row that a filter
    /// takes away.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.spec.output_fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.spec)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) if inputs.is_empty() => CallNode::try_new(Arc::clone(&self.spec), input),
            _ => plan_err!("{} takes exactly one input", self.name()),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let hidden: HashSet<&String> = self.spec.columns.names().collect();
        let passed_through = self.passed_through();
        let is_used = output_columns.iter().any(|column| *column >= passed_through);
        let (mut nth, mut needed) = (0, Vec::new());
        for (index, field) in self.input.schema().fields().iter().enumerate() {
            if hidden.contains(field.name()) {
                if is_used || !self.keeps_rows() {
                    needed.push(index);
                }
            } else {
                if nth < passed_through && output_columns.contains(&nth) {
                    needed.push(index);
                }
                nth += 1;
            }
        }
        Some(vec![needed])
    }

    /// A limit goes below where every input row is one output row.
    fn supports_limit_pushdown(&self) -> bool {
        self.keeps_rows()
    }
}

impl PartialEq for CallNode {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.input == other.input
    }
}

impl Eq for CallNode {}

impl Hash for CallNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for CallNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.spec.partial_cmp(&other.spec).filter(|o| o.is_ne()).or_else(|| self.input.partial_cmp(&other.input))
    }
}
