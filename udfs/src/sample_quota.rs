//! `sample_quota(key, rows, total, temperature, cap, minimum) OVER (…) → BIGINT`: how many rows of each group to draw, so
//! that small groups are not drowned by large ones. A window function over a table with one row a group.
//!
//! ```sql
//! SELECT family, n, sample_quota(family, n, 1000, 2.0, 5000, 10) OVER () AS quota
//! FROM (SELECT family, count(*) AS n FROM seeds GROUP BY family);
//! ```
//!
//! `key` names the group (any type; it breaks ties), `rows` BIGINT is its size. `total` BIGINT is the sum that is asked
//! for, NULL for as many rows as the caps allow. `temperature` DOUBLE over 0 shapes the shares: p ∝ min(rows, cap)^(1/T),
//! so 1 (also NULL) is proportional and a large one uniform. `cap` BIGINT is the most of a group, `minimum` BIGINT the
//! least (as far as it has rows); NULL is none. `total` and `temperature` must be the same in a whole partition.
//!
//! The quotas add up to `total` where the caps allow it. Where one share is above its group's rows, the others grow; where
//! the minimums alone add up to more than `total`, they shrink in proportion. Fractions go to the largest remainders.
//! The result depends on the groups only: not on the order of rows, nor on partitions.
//!
//! Source: temperature-scaled mixing with an artificial size limit (Raffel et al. 2020, "Exploring the Limits of Transfer
//! Learning", section 3.5.2); rounding by largest remainders (Hamilton's method).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion_expr::{Documentation, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

use crate::function::reference;

const NAME: &str = "sample_quota";

pub(crate) fn sample_quota() -> WindowUDF {
    let documentation = reference(
        "sample_quota(key, rows, total, temperature, cap, minimum) OVER (…)",
        "How many rows to draw from each group, of a table with one row a group: shares ∝ min(rows, cap)^(1/temperature) \
         of the total, never over rows or cap, nor under the minimum where the rows are there. NULL for no total, cap \
         or minimum.",
        "SELECT family, sample_quota(family, n, 100, 2.0, 60, 5) OVER () AS quota
FROM (VALUES ('a', 9000), ('b', 40)) AS t(family, n);",
    )
    .build();
    WindowUDF::new_from_impl(SampleQuota { signature: Signature::user_defined(Volatility::Immutable), documentation })
}

#[derive(Debug)]
struct SampleQuota {
    signature: Signature,
    documentation: Documentation,
}

impl PartialEq for SampleQuota {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for SampleQuota {}

impl Hash for SampleQuota {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl WindowUDFImpl for SampleQuota {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [key, rest @ ..] = given else {
            return plan_err!("{NAME} takes (key, rows, total, temperature, cap, minimum)");
        };
        if rest.len() != 5 {
            return plan_err!(
                "{NAME} takes (key, rows, total, temperature, cap, minimum), not {} arguments",
                given.len()
            );
        }
        if let Some(wrong) = rest.iter().find(|given| !given.is_numeric() && !given.is_null()) {
            return plan_err!("{NAME}: all arguments after the key must be numbers, not {wrong}");
        }
        let whole = || DataType::Int64;
        Ok(vec![key.clone(), whole(), whole(), DataType::Float64, whole(), whole()])
    }

    fn partition_evaluator(&self, _args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, false)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Evaluator;

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        let [keys, rows, totals, temperatures, caps, minimums] = values else {
            return exec_err!("{NAME} takes (key, rows, total, temperature, cap, minimum)");
        };
        if num_rows == 0 {
            return Ok(Arc::new(Int64Array::from(Vec::<i64>::new())));
        }
        let whole = |array: &ArrayRef| Ok::<_, datafusion_common::DataFusionError>(cast(array, &DataType::Int64)?);
        let (rows, totals, caps, minimums) = (whole(rows)?, whole(totals)?, whole(caps)?, whole(minimums)?);
        let temperatures = cast(temperatures, &DataType::Float64)?;
        let at =
            |array: &ArrayRef, row: usize| (!array.is_null(row)).then(|| array.as_primitive::<Int64Type>().value(row));
        let temperature_at =
            |row: usize| (!temperatures.is_null(row)).then(|| temperatures.as_primitive::<Float64Type>().value(row));
        let (total, temperature) = (at(&totals, 0), temperature_at(0));
        if (1..num_rows).any(|row| at(&totals, row) != total || temperature_at(row) != temperature) {
            return exec_err!("{NAME}: total and temperature must be the same for all groups of a partition");
        }
        if temperature.is_some_and(|t| t.is_nan() || t <= 0.0) {
            return exec_err!("{NAME}: the temperature must be over 0, not {}", temperature.unwrap_or_default());
        }
        let formatter = ArrayFormatter::try_new(keys.as_ref(), &FormatOptions::default().with_null(""))?;
        let mut groups = Vec::with_capacity(num_rows);
        for row in 0..num_rows {
            let size = at(&rows, row).unwrap_or(0).max(0);
            let most = at(&caps, row).map_or(size, |cap| cap.clamp(0, size));
            let least = at(&minimums, row).unwrap_or(0).clamp(0, most);
            groups.push(Group { key: formatter.value(row).try_to_string()?, most: most as u64, least: least as u64 });
        }
        let quotas = quotas(&groups, total.map(|total| total.max(0) as u64), temperature.unwrap_or(1.0));
        Ok(Arc::new(Int64Array::from_iter_values(quotas.into_iter().map(|quota| quota as i64))))
    }
}

/// A group that rows are drawn from.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    key: String,
    /// Its rows, at most the cap.
    most: u64,
    /// At most `most`.
    least: u64,
}

/// The quota of each group.
fn quotas(groups: &[Group], total: Option<u64>, temperature: f64) -> Vec<u64> {
    // Three groups may be more than a u64 holds.
    let all: u128 = groups.iter().map(|group| u128::from(group.most)).sum();
    let Some(total) = total.filter(|total| u128::from(*total) < all) else {
        return groups.iter().map(|group| group.most).collect();
    };
    let least: u128 = groups.iter().map(|group| u128::from(group.least)).sum();
    // Relative to the largest: a low temperature would leave the range of numbers.
    let largest = groups.iter().map(|group| group.most).max().unwrap_or(1).max(1) as f64;
    // (weight, least, most) of each group.
    let bounds: Vec<(f64, f64, f64)> = if least > u128::from(total) {
        groups.iter().map(|group| (group.least as f64, 0.0, group.least as f64)).collect()
    } else {
        groups
            .iter()
            .map(|group| {
                ((group.most as f64 / largest).powf(temperature.recip()), group.least as f64, group.most as f64)
            })
            .collect()
    };
    let shares = shares(&bounds, total as f64);
    // A bound may have been rounded up to the next f64.
    let mut quotas: Vec<u64> =
        shares.iter().zip(groups).map(|(share, group)| (share.floor() as u64).min(group.most)).collect();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let remainder = |group: usize| shares[group] - shares[group].floor();
    order.sort_by(|&a, &b| {
        remainder(b).total_cmp(&remainder(a)).then_with(|| groups[a].key.cmp(&groups[b].key)).then_with(|| {
            // Two groups of one name that differ in nothing get what is left in either order.
            (groups[a].most, groups[a].least).cmp(&(groups[b].most, groups[b].least))
        })
    });
    let mut left = u128::from(total).saturating_sub(quotas.iter().map(|quota| u128::from(*quota)).sum());
    // One round gives each fraction its row; more are needed only where the shares' sum was rounded.
    while left > 0 {
        let before = left;
        for &group in &order {
            if left > 0 && (quotas[group] as f64) < bounds[group].2 && quotas[group] < groups[group].most {
                quotas[group] += 1;
                left -= 1;
            }
        }
        if before == left {
            break;
        }
    }
    quotas
}

/// Shares in proportion to the weights, each within its bounds, that add up to `total` (which lies between the sums of
/// the bounds): the factor is found by halving.
fn shares(bounds: &[(f64, f64, f64)], total: f64) -> Vec<f64> {
    // A sum in order of size is the same for every order of the groups.
    let heaviest = bounds.iter().map(|(weight, _, _)| *weight).fold(0.0, f64::max);
    let lightest = bounds.iter().map(|(weight, _, _)| *weight).filter(|weight| *weight > 0.0).fold(heaviest, f64::min);
    let at = |factor: f64| {
        bounds
            .iter()
            .map(move |&(weight, least, most)| (weight / heaviest.max(f64::MIN_POSITIVE) * factor).clamp(least, most))
    };
    let sum = |factor: f64| {
        let mut shares: Vec<f64> = at(factor).collect();
        shares.sort_by(f64::total_cmp);
        shares.into_iter().sum::<f64>()
    };
    let most = bounds.iter().map(|(_, _, most)| *most).fold(0.0, f64::max);
    let (mut low, mut high) = (0.0, most * (heaviest / lightest.max(f64::MIN_POSITIVE)) + 1.0);
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if sum(middle) > total { high = middle } else { low = middle }
    }
    at(low).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(key: &str, most: u64, least: u64) -> Group {
        Group { key: key.into(), most, least }
    }

    #[test]
    fn temperature_one_is_proportional_and_a_high_one_uniform() {
        let groups = [group("a", 900, 0), group("b", 90, 0), group("c", 10, 0)];
        assert_eq!(quotas(&groups, Some(100), 1.0), [90, 9, 1]);
        assert_eq!(quotas(&groups, Some(28), 1e9), [10, 9, 9]);
        // Shares ∝ sqrt: 30 : 9.49 : 3.16.
        assert_eq!(quotas(&groups, Some(100), 2.0), [70, 22, 8]);
        assert_eq!(quotas(&groups, None, 2.0), [900, 90, 10]);
        assert_eq!(quotas(&groups, Some(5000), 2.0), [900, 90, 10]);
        assert_eq!(quotas(&[], Some(5), 1.0), Vec::<u64>::new());
    }

    #[test]
    fn a_group_that_is_used_up_leaves_its_share_to_the_others() {
        let groups = [group("a", 1000, 0), group("b", 1000, 0), group("c", 3, 0)];
        assert_eq!(quotas(&groups, Some(101), 1e9), [49, 49, 3]);
    }

    #[test]
    fn minimums_hold_and_shrink_together_where_they_do_not_fit() {
        let groups = [group("a", 10_000, 20), group("b", 30, 20), group("c", 5, 5)];
        assert_eq!(quotas(&groups, Some(100), 1.0), [75, 20, 5]);
        assert_eq!(quotas(&groups, Some(9), 1.0), [4, 4, 1]);
    }

    #[test]
    fn groups_that_are_more_than_a_u64_together() {
        let most = i64::MAX as u64;
        let groups = [group("a", most, 0), group("b", most, 0), group("c", most, 0)];
        assert_eq!(quotas(&groups, Some(30), 1.0), [10, 10, 10]);
        assert_eq!(quotas(&groups, None, 1.0), [most; 3]);
        assert!(quotas(&groups, Some(most), 1.0).into_iter().all(|quota| quota <= most));
        let least = [group("a", most, most), group("b", most, most), group("c", most, most)];
        assert_eq!(quotas(&least, Some(30), 2.0), [10, 10, 10]);
    }

    proptest! {
        #[test]
        fn quotas_keep_bounds_and_the_total_and_no_order_matters(
            sizes in prop::collection::vec((0u64..5000, 0u64..50, 0u64..3000), 0..40),
            total in 0u64..20_000,
            temperature in 0.2f64..50.0,
            turn in 0usize..40,
        ) {
            let groups: Vec<Group> = sizes
                .iter()
                .enumerate()
                .map(|(n, &(rows, least, cap))| {
                    let most = rows.min(cap);
                    group(&format!("g{n:02}"), most, least.min(most))
                })
                .collect();
            let drawn = quotas(&groups, Some(total), temperature);
            let (all, least): (u64, u64) = groups.iter().fold((0, 0), |(a, l), g| (a + g.most, l + g.least));
            prop_assert_eq!(drawn.iter().sum::<u64>(), total.min(all));
            for (group, &quota) in groups.iter().zip(&drawn) {
                prop_assert!(quota <= group.most, "{:?} {}", group, quota);
                prop_assert!(least > total || quota >= group.least, "{:?} {}", group, quota);
            }
            let mut turned = groups.clone();
            turned.rotate_left(if groups.is_empty() { 0 } else { turn % groups.len() });
            turned.reverse();
            let again = quotas(&turned, Some(total), temperature);
            for (group, quota) in turned.iter().zip(again) {
                let at = groups.iter().position(|other| other.key == group.key).unwrap();
                prop_assert_eq!(drawn[at], quota);
            }
        }

        #[test]
        fn a_larger_group_gets_no_less(sizes in prop::collection::vec(1u64..100_000, 2..30), total in 1u64..5000, t in 0.5f64..20.0) {
            let groups: Vec<Group> = sizes.iter().enumerate().map(|(n, &size)| group(&format!("{n:02}"), size, 0)).collect();
            let drawn = quotas(&groups, Some(total), t);
            for (a, b) in (0..groups.len()).flat_map(|a| (0..groups.len()).map(move |b| (a, b))) {
                prop_assert!(groups[a].most <= groups[b].most || drawn[a] + 1 >= drawn[b]);
            }
        }
    }
}
