//! Logical call nodes planned as execs, with the session's runtime.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::exec::CallExec;
use super::node::CallNode;
use super::runtime::CallRuntime;

/// DataFusion's query planner that also knows call nodes, and the nodes of other planners.
pub struct CallQueryPlanner {
    planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
}

impl CallQueryPlanner {
    pub fn new(runtime: Arc<CallRuntime>, others: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>) -> Self {
        let mut planners = others;
        planners.push(Arc::new(CallExtensionPlanner { runtime }));
        Self { planners }
    }
}

impl fmt::Debug for CallQueryPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallQueryPlanner")
    }
}

#[async_trait]
impl QueryPlanner for CallQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(self.planners.clone()).create_physical_plan(plan, session).await
    }
}

struct CallExtensionPlanner {
    runtime: Arc<CallRuntime>,
}

#[async_trait]
impl ExtensionPlanner for CallExtensionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(call), [input]) = (node.as_any().downcast_ref::<CallNode>(), physical_inputs) else {
            return Ok(None);
        };
        if !call.has_prompt() {
            return internal_err!("{} has lost its prompt, and no rule has taken it away", node.name());
        }
        let spec = Arc::clone(call.spec());
        let model = self.runtime.models.get(&spec.model).map_err(|e| DataFusionError::Plan(e.to_string()))?;
        let schema = Arc::new(node.schema().as_arrow().clone());
        Ok(Some(Arc::new(CallExec::new(spec, model, Arc::clone(&self.runtime), Arc::clone(input), schema))))
    }
}
