//! The licence gate: rows whose licence does not permit the run's target never reach a model call.
//! In: an analyzed plan. Out: the same plan with a filter over the catalog's scans below calls.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, TableScan, UserDefinedLogicalNodeCore, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::curate::DecontaminateNode;
use crate::lineage::{Licence, Origin, Target, lineage_of};
use crate::model_call::CallNode;

/// Below calls: a scan of one task with a licence that does not permit the target is refused; a scan of many tasks
/// (the table `seeds`, with its column `license`) keeps only the rows of permitted licences. A user's own table is
/// the user's.
#[derive(Debug)]
pub struct LicenceGate {
    target: Target,
    licences: Vec<Licence>,
}

impl AnalyzerRule for LicenceGate {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            if let LogicalPlan::Extension(extension) = &node
                && let Some(call) = extension.node.as_any().downcast_ref::<CallNode>()
            {
                let gated = call.input().clone().transform_down_with_subqueries(|plan| self.gate(plan, call))?;
                if gated.transformed {
                    let call = call.with_exprs_and_inputs(Vec::new(), vec![gated.data])?;
                    return Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(call) })));
                }
            }
            Ok(Transformed::no(node))
        })
        .data()
    }

    fn name(&self) -> &str {
        "licence_gate"
    }
}

impl LicenceGate {
    /// `licences`: those of the catalog's tasks, each as often as it stands there.
    pub fn new(target: Target, mut licences: Vec<Licence>) -> Self {
        licences.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        licences.dedup();
        Self { target, licences }
    }

    fn gate(&self, plan: LogicalPlan, call: &CallNode) -> Result<Transformed<LogicalPlan>> {
        use datafusion::common::tree_node::TreeNodeRecursion::Jump;
        // Already gated below an earlier call of the chain.
        if let LogicalPlan::Filter(filter) = &plan
            && matches!(filter.input.as_ref(), LogicalPlan::TableScan(scan) if self.permitted(scan).as_ref() == Some(&filter.predicate))
        {
            return Ok(Transformed::new(plan, false, Jump));
        }
        // Nothing of a reference set reaches a call, so its licence does not matter.
        if let LogicalPlan::Extension(extension) = &plan
            && let Some(node) = extension.node.as_any().downcast_ref::<DecontaminateNode>()
        {
            let items = node.items().clone().transform_down_with_subqueries(|plan| self.gate(plan, call))?;
            if !items.transformed {
                return Ok(Transformed::new(plan, false, Jump));
            }
            let node = Arc::new(node.with_items(items.data)?);
            return Ok(Transformed::new(LogicalPlan::Extension(Extension { node }), true, Jump));
        }
        let LogicalPlan::TableScan(scan) = &plan else { return Ok(Transformed::no(plan)) };
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(Transformed::no(plan)) };
        let Some(lineage) = lineage_of(provider.as_ref()) else { return Ok(Transformed::no(plan)) };
        if lineage.origin != Origin::Catalog {
            return Ok(Transformed::no(plan));
        }
        if let Some(licence) = &lineage.licence {
            if licence.permits(self.target) {
                return Ok(Transformed::no(plan));
            }
            return plan_err!(
                "the table {} stands under the licence {licence}, which does not permit a {} run, and would reach a call \
                 of {} (model {}); set target = \"research\" in [tasks] of seedmill.toml, or give the licence of the \
                 dataset in [tasks.datasets] if you know better",
                scan.table_name,
                self.target,
                call.spec().kind.as_str(),
                call.spec().model
            );
        }
        match self.permitted(scan) {
            Some(predicate) => {
                let filter = Filter::try_new(predicate, Arc::new(plan))?;
                Ok(Transformed::new(LogicalPlan::Filter(filter), true, Jump))
            }
            None => Ok(Transformed::no(plan)),
        }
    }

    /// `license IN (…)` over a scan that has such a column.
    fn permitted(&self, scan: &TableScan) -> Option<Expr> {
        let field = scan.source.schema().field_with_name("license").ok().cloned()?;
        let permitted: Vec<Expr> =
            self.licences.iter().filter(|l| l.permits(self.target)).map(|l| lit(l.as_str())).collect();
        let column = Expr::Column(Column::new(Some(scan.table_name.clone()), field.name()));
        Some(column.in_list(permitted, false))
    }
}
