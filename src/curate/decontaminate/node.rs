//! The logical node of `decontaminate`: items and a reference set, and a [`Spec`].

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::matcher::{Limits, Rule};

/// The hidden columns of the items.
pub(super) const TEXT: &str = "__decontaminate_text";
pub(super) const ANSWER: &str = "__decontaminate_answer";
pub(super) const HIDDEN: [&str; 2] = [TEXT, ANSWER];

/// What the function was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spec {
    pub ngram: u32,
    pub long_ngram: u32,
    /// Bits: plans are compared and hashed.
    coverage: u64,
    near: u64,
    /// The rules that may decide.
    pub rules: Vec<Rule>,
    /// The name of the column that is added.
    pub output: String,
}

impl Spec {
    pub fn new(limits: Limits, rules: Vec<Rule>, output: String) -> Self {
        Self {
            ngram: limits.ngram,
            long_ngram: limits.long_ngram,
            coverage: limits.coverage.to_bits(),
            near: limits.near.to_bits(),
            rules,
            output,
        }
    }

    pub fn limits(&self) -> Limits {
        Limits {
            ngram: self.ngram,
            long_ngram: self.long_ngram,
            coverage: f64::from_bits(self.coverage),
            near: f64::from_bits(self.near),
        }
    }
}

/// The fields of the added struct.
pub(super) fn contamination_fields() -> Fields {
    Fields::from(vec![
        Field::new("score", DataType::Float64, true),
        Field::new("rule", DataType::Utf8View, true),
        Field::new_list("rules", Field::new_list_field(DataType::Utf8View, true), true),
        Field::new("source_table", DataType::Utf8View, true),
        Field::new("source_row", DataType::Utf8View, true),
        Field::new("matched_span", DataType::Utf8View, true),
    ])
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits();
        let rules: Vec<String> = self
            .rules
            .iter()
            .map(|rule| match rule {
                Rule::Coverage => format!("coverage {} of {}-grams", limits.coverage, limits.ngram),
                Rule::Ngram => format!("{}-gram", limits.long_ngram),
                Rule::Near => format!("near {}", limits.near),
                other => other.as_str().to_owned(),
            })
            .collect();
        f.write_str(&rules.join(", "))
    }
}

/// Output: the items' columns without the hidden ones (qualifiers kept), and the added one. Nothing of the reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecontaminateNode {
    spec: Spec,
    items: LogicalPlan,
    reference: LogicalPlan,
    schema: DFSchemaRef,
}

impl DecontaminateNode {
    pub fn try_new(spec: Spec, items: LogicalPlan, reference: LogicalPlan) -> Result<Self> {
        let mut fields: Vec<_> = items
            .schema()
            .iter()
            .filter(|(_, field)| !HIDDEN.contains(&field.name().as_str()))
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        if fields.iter().any(|(_, field)| *field.name() == spec.output) {
            return plan_err!(
                "decontaminate adds a column '{}', which its input already has; name it otherwise with output => '…'",
                spec.output
            );
        }
        fields.push((None, Arc::new(Field::new(&spec.output, DataType::Struct(contamination_fields()), true))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { spec, items, reference, schema })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whose rows are in the output.
    pub fn items(&self) -> &LogicalPlan {
        &self.items
    }

    /// The same node over other items.
    pub fn with_items(&self, items: LogicalPlan) -> Result<Self> {
        Self::try_new(self.spec.clone(), items, self.reference.clone())
    }

    /// Whether a column of this name is the node's and not the items'.
    pub fn adds(&self, column: &str) -> bool {
        column == self.spec.output
    }
}

impl PartialOrd for DecontaminateNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.spec, &self.items, &self.reference).partial_cmp(&(&other.spec, &other.items, &other.reference))
    }
}

impl UserDefinedLogicalNodeCore for DecontaminateNode {
    fn name(&self) -> &str {
        "Decontaminate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.items, &self.reference]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// None: what is compared is computed by projections below.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    // No filter goes below by DataFusion's own rule (the default), which would put it on both sides; see `optimizer`.

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Decontaminate: {}", self.spec)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 2]>::try_from(inputs) {
            Ok([items, reference]) => Self::try_new(self.spec.clone(), items, reference),
            Err(_) => plan_err!("decontaminate takes exactly two inputs"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let (mut nth, mut needed) = (0, Vec::new());
        for (index, field) in self.items.schema().fields().iter().enumerate() {
            if HIDDEN.contains(&field.name().as_str()) {
                needed.push(index);
            } else {
                if output_columns.contains(&nth) {
                    needed.push(index);
                }
                nth += 1;
            }
        }
        Some(vec![needed, (0..self.reference.schema().fields().len()).collect()])
    }
}
