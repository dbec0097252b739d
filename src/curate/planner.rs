//! `FROM near_duplicates(…)` and `FROM decontaminate(…)`: SQL to logical nodes, and these to execs.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNode, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use datafusion::sql::sqlparser::ast::{FunctionArg, TableFactor};

use super::decontaminate::{self, DecontaminateNode, IndexCache};
use super::near_duplicates::{self, NearDuplicatesNode};
use crate::config::did_you_mean;
use crate::model_call::{Arguments, Literal, fold_variables};

/// Plans `near_duplicates` and `decontaminate`.
#[derive(Debug)]
pub struct CuratePlanner {
    variables: Arc<dyn VarProvider + Send + Sync>,
}

impl CuratePlanner {
    pub fn new(variables: Arc<dyn VarProvider + Send + Sync>) -> Self {
        Self { variables }
    }
}

impl RelationPlanner for CuratePlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (name, lateral) = match &relation {
            TableFactor::Table { name, args: Some(_), .. } => (name.to_string().to_lowercase(), false),
            TableFactor::Function { name, lateral, .. } => (name.to_string().to_lowercase(), *lateral),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if !matches!(name.as_str(), "near_duplicates" | "decontaminate") {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        if lateral {
            return plan_err!("LATERAL {name}(…) is not supported; give the rows as its input: {name}((SELECT …), …)");
        }
        let (args, alias) = match relation {
            TableFactor::Table { args: Some(args), alias, .. } => (args.args, alias),
            TableFactor::Function { args, alias, .. } => (args, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = match name.as_str() {
            "near_duplicates" => near_duplicates::plan(args, context, self.variables.as_ref())?,
            _ => decontaminate::plan(args, context, self.variables.as_ref())?,
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// What both functions do with their arguments.
pub(super) struct FunctionPlanner<'a> {
    name: &'static str,
    known: &'static [&'static str],
    arguments: Arguments,
    context: &'a mut dyn RelationPlannerContext,
    variables: &'a (dyn VarProvider + Send + Sync),
}

impl<'a> FunctionPlanner<'a> {
    pub fn new(
        name: &'static str,
        args: Vec<FunctionArg>,
        known: &'static [&'static str],
        context: &'a mut dyn RelationPlannerContext,
        variables: &'a (dyn VarProvider + Send + Sync),
    ) -> Result<Self> {
        Ok(Self { name, known, arguments: Arguments::new(name, args)?, context, variables })
    }

    pub fn input(&mut self) -> Result<LogicalPlan> {
        self.context.plan(self.arguments.take_input()?)
    }

    /// A named argument that is a relation, as `(SELECT …)`.
    pub fn relation(&mut self, argument: &str) -> Result<Option<LogicalPlan>> {
        self.arguments.take_relation(argument)?.map(|relation| self.context.plan(relation)).transpose()
    }

    pub fn literal(&mut self, argument: &'static str) -> Result<Option<Literal<'static>>> {
        let Some(expr) = self.arguments.named.remove(argument) else { return Ok(None) };
        let expr = self.context.sql_to_expr(expr, &DFSchema::empty()).map_err(|e| {
            plan_datafusion_err!("{argument} => … must be a literal or a variable @name: {}", e.message())
        })?;
        Literal::new(argument, expr, self.variables).map(Some)
    }

    /// A named argument that is an expression over a relation's columns.
    pub fn expression(&mut self, argument: &str, schema: &DFSchema) -> Result<Option<Expr>> {
        let Some(expr) = self.arguments.named.remove(argument) else { return Ok(None) };
        let expr = self
            .context
            .sql_to_expr(expr, schema)
            .map_err(|e| e.context(format!("{}: the argument {argument}", self.name)))?;
        fold_variables(expr, self.variables).map(Some)
    }

    /// Refuses what was not asked for.
    pub fn finish(&self) -> Result<()> {
        match self.arguments.named.keys().min() {
            Some(unknown) => plan_err!(
                "{} has no argument '{unknown}'{}",
                self.name,
                did_you_mean(unknown, self.known.iter().copied())
            ),
            None => Ok(()),
        }
    }

    pub fn as_text(&self, argument: &str, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        let given = expr.get_type(schema)?;
        if !(given.is_string() || given.is_null()) {
            return plan_err!("{}: {argument} => {expr} is {given} and must be TEXT", self.name);
        }
        Ok(cast(expr, DataType::Utf8View))
    }

    pub fn check_boolean(&self, argument: &str, expr: &Expr, schema: &DFSchema) -> Result<()> {
        match expr.get_type(schema)? {
            DataType::Boolean | DataType::Null => Ok(()),
            other => plan_err!("{}: {argument} => {expr} is {other} and must be true or false", self.name),
        }
    }
}

/// Makes the execs of both nodes. Reference sets that were read once are kept here.
#[derive(Debug, Default)]
pub struct CurateExtensionPlanner {
    indexes: Arc<IndexCache>,
}

#[async_trait]
impl ExtensionPlanner for CurateExtensionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let (Some(node), [input]) = (node.as_any().downcast_ref::<NearDuplicatesNode>(), physical_inputs) {
            return near_duplicates::plan_exec(node, input).map(Some);
        }
        if let (Some(node), [items, reference]) = (node.as_any().downcast_ref::<DecontaminateNode>(), physical_inputs) {
            return decontaminate::plan_exec(node, items, reference, &self.indexes).map(Some);
        }
        Ok(None)
    }
}
