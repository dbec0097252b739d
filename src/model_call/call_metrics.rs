//! What EXPLAIN ANALYZE shows of a call node beside its rows: requests, retries, errors by kind, tokens, cost, the
//! most in flight, the wait for the limiter. In: the counts of one exec. Out: DataFusion's metrics.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::physical_plan::metrics::{Count, CustomMetricValue, Gauge, Metric, MetricValue, MetricsSet, Time};

use super::progress::{Dollars, StageCounts};

/// Adds the counts of an exec to its metrics.
pub fn push(metrics: &mut MetricsSet, counts: &StageCounts) {
    let mut add = |value| metrics.push(Arc::new(Metric::new(value, None)));
    let count = |name: String, n: u64| {
        let count = Count::new();
        count.add(usize::try_from(n).unwrap_or(usize::MAX));
        MetricValue::Count { name: name.into(), count }
    };
    for (name, n) in [
        ("requests", counts.requests),
        ("retries", counts.retries),
        ("prompt_tokens", counts.prompt_tokens),
        ("completion_tokens", counts.completion_tokens),
    ] {
        add(count(name.to_owned(), n));
    }
    for (kind, n) in &counts.errors {
        add(count(format!("errors_{kind}"), *n));
    }
    let gauge = Gauge::new();
    gauge.set(usize::try_from(counts.max_in_flight).unwrap_or(usize::MAX));
    add(MetricValue::Gauge { name: "max_in_flight".into(), gauge });
    let time = Time::new();
    time.add_duration(counts.waited);
    add(MetricValue::Time { name: "limiter_wait".into(), time });
    let cost = Usd::default();
    cost.0.add(counts.cost_usd);
    add(MetricValue::Custom { name: "cost_usd".into(), value: Arc::new(cost) });
}

/// US dollars.
#[derive(Debug, Default)]
struct Usd(Dollars);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0.get())
    }
}

impl CustomMetricValue for Usd {
    fn new_empty(&self) -> Arc<dyn CustomMetricValue> {
        Arc::new(Usd::default())
    }

    fn aggregate(&self, other: Arc<dyn CustomMetricValue>) {
        if let Some(other) = other.as_any().downcast_ref::<Usd>() {
            self.0.add(other.0.get());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_eq(&self, other: &Arc<dyn CustomMetricValue>) -> bool {
        other.as_any().downcast_ref::<Usd>().is_some_and(|other| self.0.get() == other.0.get())
    }
}
