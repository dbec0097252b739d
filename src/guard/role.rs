//! What the rows at a place of a plan do to the rows of the whole. In: a node of a plan and its place. Out: the places of
//! what is below it.
//!
//! The analysis is one of polarity: what stands on the right of NOT IN, NOT EXISTS or an anti-join takes rows away, and
//! what takes away from that gives rows back. Between such a place and the one where rows are taken away only operators
//! may stand for which more rows in mean no fewer rows out (projection, filter, inner join, union, DISTINCT). What is
//! compared there is the user's choice: a test for difference instead of likeness is found where it can be seen, but an
//! expression can hide one.

use std::any::Any;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, Filter, Join, JoinType, LogicalPlan, Operator, RecursiveQuery, TableScan,
};

use crate::curate::DecontaminateNode;
use crate::lineage::lineage_of;

/// What the rows at a place of a plan do to the rows of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// They are among them, or choose them.
    Shown,
    /// They take rows away.
    TakesAway,
    /// Neither can be said.
    Unclear,
    /// Nothing: they are compared with and not seen, or stand where nobody asks for their role.
    Unseen,
}

impl Role {
    /// The role of what is taken away here.
    pub(super) fn flipped(self) -> Role {
        match self {
            Role::Shown => Role::TakesAway,
            Role::TakesAway => Role::Shown,
            Role::Unclear => Role::Unclear,
            Role::Unseen => Role::Unseen,
        }
    }

    fn turned(self, negated: bool) -> Role {
        if negated { self.flipped() } else { self }
    }

    /// The role of a subquery whose value is used in any way.
    fn of_value(self) -> Role {
        if self == Role::Unseen { Role::Unseen } else { Role::Unclear }
    }
}

/// A place in a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub role: Role,
    /// The anti-join that an outer join at this place is, by the filter above it.
    as_anti: Option<JoinType>,
}

impl Place {
    pub(super) fn of(role: Role) -> Self {
        Place { role, as_anti: None }
    }
}

/// The places of what is below a node, in the order in which DataFusion's walks with subqueries come to them: those of the
/// subqueries in its expressions, then those of its inputs.
pub(super) fn places_below(plan: &LogicalPlan, place: Place) -> Result<Vec<Place>> {
    // All expressions from the nth on are conditions that rows must meet.
    let (conditions_from, of_conditions) = match plan {
        LogicalPlan::Filter(_) => (0, place.role),
        LogicalPlan::Join(join) => (2 * join.on.len(), roles_in_join(join, place).2),
        _ => (usize::MAX, place.role.of_value()),
    };
    let (mut below, mut nth) = (Vec::new(), 0);
    plan.apply_expressions(|expr| {
        if nth >= conditions_from {
            in_condition(expr, of_conditions, &mut below);
        } else {
            in_value(expr, place.role.of_value(), &mut below);
        }
        nth += 1;
        Ok(TreeNodeRecursion::Continue)
    })?;
    below.extend(places_of_inputs(plan, place)?);
    Ok(below)
}

/// Shows the scans of a plan with their roles, until `see` says false.
pub(super) fn each_scan(
    plan: &LogicalPlan,
    role: Role,
    see: &mut dyn FnMut(&TableScan, Role) -> Result<bool>,
) -> Result<bool> {
    let mut next = vec![Place::of(role)];
    let mut more = true;
    plan.apply_with_subqueries(|node| {
        let place = next.pop().unwrap_or(Place::of(Role::Unclear));
        if place.role == Role::Unseen {
            return Ok(TreeNodeRecursion::Jump);
        }
        if let LogicalPlan::TableScan(scan) = node {
            more = see(scan, place.role)? && each_scan_of_view(scan, place.role, &mut *see)?;
        }
        if !more {
            return Ok(TreeNodeRecursion::Stop);
        }
        next.extend(places_below(node, place)?.into_iter().rev());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(more)
}

/// The scans of a view that planning has not put in its place.
fn each_scan_of_view(
    scan: &TableScan,
    role: Role,
    see: &mut dyn FnMut(&TableScan, Role) -> Result<bool>,
) -> Result<bool> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(true) };
    let view = provider.get_logical_plan();
    match &view {
        Some(view) => each_scan(view, role, see),
        None => Ok(true),
    }
}

fn places_of_inputs(plan: &LogicalPlan, place: Place) -> Result<Vec<Place>> {
    let role = place.role;
    let all = |role: Role| vec![Place::of(role); plan.inputs().len()];
    if role == Role::Unseen {
        return Ok(all(role));
    }
    Ok(match plan {
        LogicalPlan::Filter(filter) => vec![place_below_filter(filter, role)?],
        LogicalPlan::Join(join) => {
            let (left, right, _) = roles_in_join(join, place);
            vec![Place::of(left), Place::of(right)]
        }
        LogicalPlan::RecursiveQuery(query) if takes_from_itself(query)? => all(Role::Unclear),
        // Of its reference set nothing is in the output.
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<DecontaminateNode>() => {
            vec![Place::of(role), Place::of(Role::Unseen)]
        }
        _ if role == Role::TakesAway && !grows_with_its_input(plan)? => all(Role::Unclear),
        _ => all(role),
    })
}

fn place_below_filter(filter: &Filter, role: Role) -> Result<Place> {
    if role == Role::TakesAway
        && tests_difference(&filter.predicate, &[])
        && (filter.predicate.contains_outer() || !is_all_held_out(&filter.input)?)
    {
        return Ok(Place::of(Role::Unclear));
    }
    // LEFT JOIN … WHERE <key of the right> IS NULL is an anti-join in other words.
    let as_anti = match filter.input.as_ref() {
        LogicalPlan::Join(join) => unmatched(&filter.predicate, join),
        _ => None,
    };
    Ok(Place { role, as_anti })
}

/// The roles of the left side, of the right side and of the condition.
fn roles_in_join(join: &Join, place: Place) -> (Role, Role, Role) {
    use Role::Unclear;
    let role = place.role;
    if role == Role::Unseen {
        return (role, role, role);
    }
    let join_type = place.as_anti.unwrap_or(join.join_type);
    // A side whose rows may be missing beside kept rows shows by their absence what took them away.
    let (left, right, condition) = match join_type {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => (role, role, role),
        JoinType::LeftAnti => (role, role.flipped(), role.flipped()),
        JoinType::RightAnti => (role.flipped(), role, role.flipped()),
        JoinType::Left | JoinType::LeftMark => (role, Unclear, Unclear),
        JoinType::Right | JoinType::RightMark => (Unclear, role, Unclear),
        JoinType::Full => (Unclear, Unclear, Unclear),
    };
    // Rows that are taken away for being like none of the others are chosen for being like one.
    let different = join.filter.as_ref().is_some_and(|filter| tests_difference(filter, &join.on));
    match (different, join_type) {
        (true, JoinType::LeftAnti) => (left, Unclear, condition),
        (true, JoinType::RightAnti) => (Unclear, right, condition),
        (true, _) if role == Role::TakesAway => (Unclear, Unclear, condition),
        _ => (left, right, condition),
    }
}

/// Whether the rows that a recursive query has so far take away from those that come next: what was taken away once is
/// then given back.
fn takes_from_itself(query: &RecursiveQuery) -> Result<bool> {
    let mut takes = false;
    each_scan(&query.recursive_term, Role::Shown, &mut |scan, role| {
        takes |= role != Role::Shown && is_work_table(scan, &query.name);
        Ok(!takes)
    })?;
    Ok(takes)
}

fn is_work_table(scan: &TableScan, name: &str) -> bool {
    let Ok(provider) = source_as_provider(&scan.source) else { return false };
    let table = (provider.as_ref() as &dyn Any).downcast_ref::<CteWorkTable>();
    table.is_some_and(|table| table.name() == name)
}

/// Whether more rows in mean no fewer rows out.
fn grows_with_its_input(plan: &LogicalPlan) -> Result<bool> {
    Ok(match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::RecursiveQuery(_)
        | LogicalPlan::Unnest(_) => true,
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => true,
        // A group without rows is no group: only a total over nothing gives a row. Of held-out rows alone each row that
        // comes out needs one that went in.
        LogicalPlan::Aggregate(aggregate) => {
            !aggregate.group_expr.is_empty()
                && !has_total(aggregate)
                && (aggregate.aggr_expr.is_empty() || is_all_held_out(&aggregate.input)?)
        }
        LogicalPlan::Window(_) | LogicalPlan::Limit(_) | LogicalPlan::Sort(_) | LogicalPlan::Distinct(_) => {
            let mut all = true;
            for input in plan.inputs() {
                all &= is_all_held_out(input)?;
            }
            all
        }
        _ => false,
    })
}

/// The places of the subqueries in a condition that rows must meet: what makes it true less often takes rows away.
/// A subquery comes before what it is compared with, as in a walk from the top.
fn in_condition(expr: &Expr, role: Role, found: &mut Vec<Place>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            in_condition(left, role, found);
            in_condition(right, role, found);
        }
        Expr::Alias(alias) => in_condition(&alias.expr, role, found),
        // A function of a user's casts its body.
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Boolean => in_condition(&cast.expr, role, found),
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => in_condition(inner, role, found),
        Expr::Not(inner) | Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => in_condition(inner, role.flipped(), found),
        Expr::Exists(Exists { negated, .. }) => found.push(Place::of(role.turned(*negated))),
        Expr::InSubquery(InSubquery { expr, negated, .. }) => {
            found.push(Place::of(role.turned(*negated)));
            in_value(expr, role.of_value(), found);
        }
        Expr::SetComparison(SetComparison { expr, op, quantifier, .. }) => {
            let of_set = match (op, quantifier) {
                (Operator::NotEq, SetQuantifier::All) => role.flipped(),
                (Operator::Eq, SetQuantifier::Any) => role,
                // Under a NOT all other tests of any row are tests of all rows.
                (_, SetQuantifier::Any) if role == Role::Shown => role,
                _ => role.of_value(),
            };
            found.push(Place::of(of_set));
            in_value(expr, role.of_value(), found);
        }
        other => in_value(other, role.of_value(), found),
    }
}

/// The same of an expression whose value is used in any way.
fn in_value(expr: &Expr, role: Role, found: &mut Vec<Place>) {
    // Without an error of its own `apply` cannot fail.
    let _ = expr.apply(|expr| {
        if matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_)) {
            found.push(Place::of(role));
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Whether every row below comes from a held-out table.
fn is_all_held_out(plan: &LogicalPlan) -> Result<bool> {
    let mut all = true;
    plan.apply(|node| {
        if node.inputs().is_empty() {
            all &= matches!(node, LogicalPlan::TableScan(scan) if is_held_out(scan)?);
        }
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(all)
}

fn is_held_out(scan: &TableScan) -> Result<bool> {
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(false) };
    if let Some(lineage) = lineage_of(provider.as_ref()) {
        // Of what lacks some there may be fewer for more of the others.
        return Ok(lineage.split.is_held_out() && lineage.lacks.is_none());
    }
    let view = provider.get_logical_plan();
    match &view {
        Some(view) => is_all_held_out(view),
        None => Ok(false),
    }
}

/// Whether an aggregate has a total beside its groups.
fn has_total(aggregate: &Aggregate) -> bool {
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
        Expr::Not(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => is_between(inner),
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
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => is_difference(inner),
        Expr::Not(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => true,
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
