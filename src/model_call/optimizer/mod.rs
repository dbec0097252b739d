//! Optimizer rules about calls: which are not made, for which rows, and how soon their rows go on.
//! In: DataFusion's own lists of rules. Out: the same lists with ours in their places.

mod at_once;
mod leaf_projections;
mod semi_join;
mod show_estimates;
mod steady;
mod step_down;
mod top_k;
mod unused;
mod volatile_filter;

use std::sync::Arc;

use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use super::history::SharedHistory;
use crate::wrapped_rule::{Rules, wrap_rule};
use at_once::HandRowsOn;
use leaf_projections::push_down_leaves_or_not;
use semi_join::PushDownSemiJoin;
use show_estimates::ShowEstimates;
use top_k::PushDownTopK;
use unused::RemoveUnusedCalls;
use volatile_filter::push_down_steady_filter;

/// DataFusion's logical rules and ours. Filters, limits and columns go below calls through DataFusion's rules,
/// which ask [`super::CallNode`]; what these cannot do is done here.
pub fn optimizer_rules() -> Rules {
    let mut rules = Rules::new();
    for rule in Optimizer::new().rules {
        match rule.name() {
            "push_down_filter" => {
                rules.push(rule);
                // After it: a filter that is still above a call keeps the top rows above too.
                rules.push(Arc::new(PushDownSemiJoin));
                rules.push(Arc::new(PushDownTopK));
            }
            // Right behind it: it is what takes away the prompts of calls that nobody uses.
            "optimize_projections" => {
                rules.push(rule);
                rules.push(Arc::new(RemoveUnusedCalls));
            }
            _ => rules.push(rule),
        }
    }
    let rules = wrap_rule(rules, "push_down_filter", push_down_steady_filter);
    wrap_rule(rules, "push_down_leaf_projections", push_down_leaves_or_not)
}

/// DataFusion's physical rules and, last, ours: they look at the finished plan. Estimates are shown once `history`
/// is filled.
pub fn physical_optimizer_rules(history: SharedHistory) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.push(Arc::new(ShowEstimates(history)));
    rules.push(Arc::new(HandRowsOn));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_ours_has_found_its_place() {
        let rules = optimizer_rules();
        let names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
        let place = |name: &str| names.iter().position(|n| *n == name).unwrap();
        assert_eq!(place("push_down_top_k"), place("push_down_filter") + 2);
        assert_eq!(place("remove_unused_calls"), place("optimize_projections") + 1);
        assert_eq!(names.len(), Optimizer::new().rules.len() + 3);
        assert_eq!(physical_optimizer_rules(SharedHistory::default()).last().unwrap().name(), "hand_rows_on");
    }
}
