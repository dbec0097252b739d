//! Where held-out rows get to in a plan. In: a plan. Out: the first scan of held-out rows whose rows can be among the
//! plan's rows or choose among them; rows that only take others away are free.
//!
//! The analysis is one of polarity: a scan on the right of NOT IN, NOT EXISTS or an anti-join takes rows away, and what
//! takes away from that gives rows back, so it is refused again. Between such a scan and the place where it takes rows
//! away only operators may stand for which more rows in mean no fewer rows out (projection, filter, inner join, union,
//! DISTINCT). What is compared there is the user's choice: a test for difference instead of likeness is refused where
//! it can be seen, but an expression can hide one.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, Join, JoinType, LogicalPlan, Operator, TableScan};

use crate::curate::DecontaminateNode;
use crate::lineage::{Lineage, Origin, lineage_of};

/// A scan of held-out rows: the table's name and what it is marked with.
pub type HeldOutScan = (String, Lineage);

/// What the rows at a place of a plan do to the rows of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// They are among them, or choose them.
    Shown,
    /// They take rows away.
    TakesAway,
    /// Neither can be said.
    Unclear,
}

impl Role {
    fn flipped(self) -> Role {
        match self {
            Role::Shown => Role::TakesAway,
            Role::TakesAway => Role::Shown,
            Role::Unclear => Role::Unclear,
        }
    }
}

/// The first scan of held-out rows that reaches the plan's output.
pub fn held_out_scan(plan: &LogicalPlan) -> Result<Option<HeldOutScan>> {
    in_plan(plan, Role::Shown)
}

/// The first scan of held-out rows anywhere in the plan, whatever they do there.
pub fn any_held_out_scan(plan: &LogicalPlan) -> Result<Option<HeldOutScan>> {
    in_plan(plan, Role::Unclear)
}

fn in_plan(plan: &LogicalPlan, role: Role) -> Result<Option<HeldOutScan>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            if let Some(found) = scanned(scan, role)? {
                return Ok(Some(found));
            }
        }
        LogicalPlan::Join(join) => return in_join(join, role),
        LogicalPlan::Filter(filter) => {
            if let Some(found) = in_condition(&filter.predicate, role)? {
                return Ok(Some(found));
            }
            if role == Role::TakesAway
                && tests_difference(&filter.predicate, &[])
                && (filter.predicate.contains_outer() || !is_all_held_out(&filter.input)?)
            {
                return in_plan(&filter.input, Role::Unclear);
            }
            // LEFT JOIN … WHERE <key of the right> IS NULL is an anti-join in other words.
            if let LogicalPlan::Join(join) = filter.input.as_ref()
                && let Some(as_anti) = unmatched(&filter.predicate, join)
            {
                let (kept, other) = match as_anti {
                    JoinType::LeftAnti => (&join.left, &join.right),
                    _ => (&join.right, &join.left),
                };
                let different = join.filter.as_ref().is_some_and(|filter| tests_difference(filter, &join.on));
                let of_other = if different { Role::Unclear } else { role.flipped() };
                return first([in_plan(kept, role), in_plan(other, of_other), in_expressions(&filter.input)]);
            }
            return in_plan(&filter.input, role);
        }
        // Of its reference set nothing is in the output.
        LogicalPlan::Extension(extension) => {
            if let Some(decontaminate) = extension.node.as_any().downcast_ref::<DecontaminateNode>() {
                return first([in_plan(decontaminate.items(), role), in_expressions(plan)]);
            }
        }
        _ => {}
    }
    let role = match (plan, role) {
        (_, Role::Shown | Role::Unclear) => role,
        (plan, Role::TakesAway) => match plan {
            LogicalPlan::Projection(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Unnest(_) => role,
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => role,
            // A group without rows is no group: only a total over nothing gives a row.
            LogicalPlan::Aggregate(aggregate)
                if aggregate.aggr_expr.is_empty() && !aggregate.group_expr.is_empty() && !has_total(plan) =>
            {
                role
            }
            // Of held-out rows alone each row that comes out needs one that went in.
            LogicalPlan::Aggregate(aggregate)
                if !aggregate.group_expr.is_empty() && !has_total(plan) && is_all_held_out(&aggregate.input)? =>
            {
                role
            }
            LogicalPlan::Window(_) | LogicalPlan::Limit(_) | LogicalPlan::Sort(_) | LogicalPlan::Distinct(_)
                if plan.inputs().into_iter().all(|input| is_all_held_out(input).unwrap_or(false)) =>
            {
                role
            }
            _ => Role::Unclear,
        },
    };
    for input in plan.inputs() {
        if let Some(found) = in_plan(input, role)? {
            return Ok(Some(found));
        }
    }
    in_expressions(plan)
}

fn scanned(scan: &TableScan, role: Role) -> Result<Option<HeldOutScan>> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    if let Some(lineage) = lineage_of(provider.as_ref()) {
        if !lineage.split.is_held_out() || role == Role::TakesAway {
            return Ok(None);
        }
        // The catalog's held-out rows are known to users as heldout.<task>.
        let name = match (&lineage.task, lineage.origin) {
            (Some(task), Origin::Catalog) => format!("heldout.{task}"),
            _ => scan.table_name.to_string(),
        };
        return Ok(Some((name, lineage.clone())));
    }
    // A view that planning has not put in its place.
    match provider.get_logical_plan() {
        Some(view) => in_plan(&view, role),
        None => Ok(None),
    }
}

fn in_join(join: &Join, role: Role) -> Result<Option<HeldOutScan>> {
    use Role::Unclear;
    // A side whose rows may be missing beside kept rows shows by their absence what took them away.
    let (left, right, filter) = match join.join_type {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => (role, role, role),
        JoinType::LeftAnti => (role, role.flipped(), role.flipped()),
        JoinType::RightAnti => (role.flipped(), role, role.flipped()),
        JoinType::Left | JoinType::LeftMark => (role, Unclear, Unclear),
        JoinType::Right | JoinType::RightMark => (Unclear, role, Unclear),
        JoinType::Full => (Unclear, Unclear, Unclear),
    };
    // Rows that are taken away for being like none of the others are chosen for being like one.
    let different = join.filter.as_ref().is_some_and(|filter| tests_difference(filter, &join.on));
    let (left, right) = match (different, join.join_type) {
        (true, JoinType::LeftAnti) => (left, Unclear),
        (true, JoinType::RightAnti) => (Unclear, right),
        (true, _) if role == Role::TakesAway => (Unclear, Unclear),
        _ => (left, right),
    };
    let condition = match &join.filter {
        Some(condition) if filter != Unclear => in_condition(condition, filter),
        Some(condition) => in_expr(condition),
        None => Ok(None),
    };
    let keys = first(join.on.iter().flat_map(|(left, right)| [in_expr(left), in_expr(right)]));
    first([in_plan(&join.left, left), in_plan(&join.right, right), condition, keys])
}

/// In a condition that rows must meet: what makes it true less often takes rows away.
fn in_condition(expr: &Expr, role: Role) -> Result<Option<HeldOutScan>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            first([in_condition(left, role), in_condition(right, role)])
        }
        Expr::Alias(alias) => in_condition(&alias.expr, role),
        // A function of a user's casts its body.
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Boolean => in_condition(&cast.expr, role),
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => in_condition(inner, role),
        Expr::Not(inner) | Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => in_condition(inner, role.flipped()),
        Expr::Exists(Exists { subquery, negated }) => in_plan(&subquery.subquery, turned(role, *negated)),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            first([in_expr(expr), in_plan(&subquery.subquery, turned(role, *negated))])
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let role = match (op, quantifier) {
                (Operator::NotEq, SetQuantifier::All) => role.flipped(),
                (Operator::Eq, SetQuantifier::Any) => role,
                // Under a NOT all other tests of any row are tests of all rows.
                (_, SetQuantifier::Any) if role == Role::Shown => role,
                _ => Role::Unclear,
            };
            first([in_expr(expr), in_plan(&subquery.subquery, role)])
        }
        other => in_expr(other),
    }
}

fn turned(role: Role, negated: bool) -> Role {
    if negated { role.flipped() } else { role }
}

/// In an expression whose value is used in any way.
fn in_expr(expr: &Expr) -> Result<Option<HeldOutScan>> {
    let mut found = None;
    expr.apply(|expr| {
        if let Some(Subquery { subquery, .. }) = subquery_of(expr) {
            found = in_plan(subquery, Role::Unclear)?;
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn in_expressions(plan: &LogicalPlan) -> Result<Option<HeldOutScan>> {
    let mut found = None;
    plan.apply_expressions(|expr| {
        found = in_expr(expr)?;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

fn first(all: impl IntoIterator<Item = Result<Option<HeldOutScan>>>) -> Result<Option<HeldOutScan>> {
    for found in all {
        if let Some(found) = found? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether every row below comes from a held-out table.
fn is_all_held_out(plan: &LogicalPlan) -> Result<bool> {
    let mut all = true;
    plan.apply(|node| {
        if node.inputs().is_empty() {
            all &= matches!(node, LogicalPlan::TableScan(scan) if scanned(scan, Role::Unclear)?.is_some());
        }
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(all)
}

/// Whether an aggregate has a total beside its groups.
fn has_total(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Aggregate(aggregate) = plan else { return false };
    aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

/// Whether a condition between two sides tests that they differ and nothing tests that they are alike.
fn tests_difference(condition: &Expr, keys: &[(Expr, Expr)]) -> bool {
    let between: Vec<&Expr> = split_conjunction(condition).into_iter().filter(|expr| is_between(expr)).collect();
    keys.is_empty() && !between.is_empty() && between.into_iter().all(is_difference)
}

/// Whether an expression has values on both of its sides that are no constants.
fn is_between(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_between(left) || is_between(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => !is_constant(left) && !is_constant(right),
        Expr::Like(like) => !is_constant(&like.expr) && !is_constant(&like.pattern),
        Expr::Not(inner) => is_between(inner),
        _ => false,
    }
}

fn is_difference(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_difference(left) || is_difference(right)
        }
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            matches!(
                op,
                Operator::NotEq
                    | Operator::IsDistinctFrom
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::NotLikeMatch
                    | Operator::NotILikeMatch
                    | Operator::RegexNotMatch
                    | Operator::RegexNotIMatch
            )
        }
        Expr::Like(like) => like.negated,
        Expr::Not(_) => true,
        _ => false,
    }
}

fn is_constant(expr: &Expr) -> bool {
    let mut constant = true;
    // Without an error of its own `apply` cannot fail.
    let _ = expr.apply(|expr| {
        constant &= !matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(_, _));
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    constant
}

/// The anti-join that an outer join is below a filter that keeps only its unmatched rows.
fn unmatched(predicate: &Expr, join: &Join) -> Option<JoinType> {
    let as_anti = match join.join_type {
        JoinType::Left => JoinType::LeftAnti,
        JoinType::Right => JoinType::RightAnti,
        _ => return None,
    };
    let other = if as_anti == JoinType::LeftAnti { &join.right } else { &join.left };
    let equal = |expr: &Expr, key: &Expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            without_casts(left) == key || without_casts(right) == key
        }
        _ => false,
    };
    // A key that is NULL is equal to nothing, in whatever type, so a row with a NULL there has no match.
    let null_key = split_conjunction(predicate).into_iter().any(|expr| match expr {
        Expr::IsNull(key) => match key.as_ref() {
            Expr::Column(column) if other.schema().has_column(column) => {
                let nulls_differ = join.null_equality == datafusion::common::NullEquality::NullEqualsNothing;
                nulls_differ
                    && join
                        .on
                        .iter()
                        .any(|(left, right)| [left, right].into_iter().any(|on| without_casts(on) == key.as_ref()))
                    || join.filter.iter().flat_map(split_conjunction).any(|expr| equal(expr, key))
            }
            _ => false,
        },
        _ => false,
    });
    null_key.then_some(as_anti)
}

/// What is compared, in its own type: the two sides of a join may have two.
fn without_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => without_casts(&cast.expr),
        _ => expr,
    }
}
