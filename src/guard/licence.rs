//! The licence gate: rows whose licence does not permit the run's target never reach a model call.
//! In: an analyzed plan. Out: the same plan with a filter over the catalog's scans below calls.

use datafusion::common::{Column, Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, lit};
use datafusion::optimizer::AnalyzerRule;

use super::below_calls::filter_below_calls;
use crate::lineage::{Licence, Origin, Target, lineage_of};
use crate::model_call::CallSpec;

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
        filter_below_calls(plan, &|scan, call| self.condition(scan, call))
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

    /// What rows of a scan must meet, or an error where none may pass.
    fn condition(&self, scan: &TableScan, call: Option<&CallSpec>) -> Result<Option<Expr>> {
        let Some(call) = call else { return Ok(None) };
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
        let Some(lineage) = lineage_of(provider.as_ref()) else { return Ok(None) };
        let Some(licence) = &lineage.licence else {
            let rows_say = matches!(lineage.origin, Origin::Catalog | Origin::Derived);
            return Ok(if rows_say { self.permitted(scan) } else { None });
        };
        if licence.permits(self.target) {
            return Ok(None);
        }
        let advice = match lineage.origin {
            Origin::Derived => "fill it with rows of permitted licences only, or keep their column license in it",
            _ => {
                "set target = \"research\" in [tasks] of seedmill.toml, or give the licence of the dataset in \
                 [tasks.datasets] if you know better"
            }
        };
        plan_err!(
            "the table {} stands under the licence {licence}, which does not permit a {} run, and would reach a call of {} \
             (model {}); {advice}",
            scan.table_name,
            self.target,
            call.kind.as_str(),
            call.model
        )
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
