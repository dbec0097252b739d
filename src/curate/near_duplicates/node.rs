//! The logical node of `near_duplicates`: an input whose hidden columns hold what is compared, and a [`Spec`].

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::shingles::Unit;

/// The hidden columns of the input. The first holds the text, or the embedding.
pub(super) const TEXT: &str = "__near_duplicates_text";
pub(super) const KEY: &str = "__near_duplicates_key";
pub(super) const PREFER: &str = "__near_duplicates_prefer";
pub(super) const HIDDEN: [&str; 3] = [TEXT, KEY, PREFER];

/// What makes rows alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The Jaccard similarity of n-grams.
    Ngrams { unit: Unit, n: usize },
    /// The cosine of embeddings.
    Cosine,
}

/// What the function was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spec {
    /// The threshold's bits: plans are compared and hashed.
    threshold: u64,
    /// The bits of the ROUGE-L above which a row is a duplicate too.
    rouge_l: Option<u64>,
    pub by: By,
    /// The name of the column that is added.
    pub output: String,
}

impl Spec {
    pub fn new(threshold: f64, rouge_l: Option<f64>, by: By, output: String) -> Self {
        Self { threshold: threshold.to_bits(), rouge_l: rouge_l.map(f64::to_bits), by, output }
    }

    pub fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold)
    }

    pub fn rouge_l(&self) -> Option<f64> {
        self.rouge_l.map(f64::from_bits)
    }

    /// The added column: `of_key` is the key of the kept row that is most like this one, `jaccard` or `cosine` the
    /// likeness with it, `kind` 'exact' where both texts are equal after normalization, 'near' where that is at least the
    /// threshold, else 'rouge_l'.
    pub fn output_field(&self, key: &DataType) -> Field {
        Field::new(&self.output, DataType::Struct(self.by.fields(key)), true)
    }
}

impl By {
    /// The fields of the added struct.
    pub(super) fn fields(self, key: &DataType) -> Fields {
        let likeness = match self {
            By::Ngrams { .. } => "jaccard",
            By::Cosine => "cosine",
        };
        Fields::from(vec![
            Field::new("of_key", key.clone(), true),
            Field::new(likeness, DataType::Float64, true),
            Field::new("kind", DataType::Utf8View, true),
        ])
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threshold = self.threshold();
        match self.by {
            By::Ngrams { unit: Unit::Word, n } => write!(f, "threshold={threshold}, word {n}-grams")?,
            By::Ngrams { unit: Unit::Character, n } => write!(f, "threshold={threshold}, char {n}-grams")?,
            By::Cosine => write!(f, "threshold={threshold}, cosine")?,
        }
        match self.rouge_l() {
            Some(rouge_l) => write!(f, ", rouge_l={rouge_l}"),
            None => Ok(()),
        }
    }
}

/// Output: the input's columns without the hidden ones (qualifiers kept), and the added one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NearDuplicatesNode {
    spec: Spec,
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl NearDuplicatesNode {
    pub fn try_new(spec: Spec, input: LogicalPlan) -> Result<Self> {
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .filter(|(_, field)| !HIDDEN.contains(&field.name().as_str()))
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        if fields.iter().any(|(_, field)| *field.name() == spec.output) {
            return plan_err!(
                "near_duplicates adds a column '{}', which its input already has; name it otherwise with output => '…'",
                spec.output
            );
        }
        let key = input
            .schema()
            .iter()
            .find(|(_, field)| field.name() == KEY)
            .map(|(_, field)| field.data_type().clone())
            .ok_or_else(|| plan_datafusion_err!("near_duplicates has lost its key"))?;
        fields.push((None, Arc::new(spec.output_field(&key))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        Ok(Self { spec, input, schema })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }
}

impl PartialOrd for NearDuplicatesNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.spec.partial_cmp(&other.spec).filter(|o| o.is_ne()).or_else(|| self.input.partial_cmp(&other.input))
    }
}

impl UserDefinedLogicalNodeCore for NearDuplicatesNode {
    fn name(&self) -> &str {
        "NearDuplicates"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// None: what is compared is computed by a projection below.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    // Filters stay above (the default): below, they would change which rows there are to be like.

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NearDuplicates: {}", self.spec)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) if inputs.is_empty() => Self::try_new(self.spec.clone(), input),
            _ => plan_err!("near_duplicates takes exactly one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let (mut nth, mut needed) = (0, Vec::new());
        for (index, field) in self.input.schema().fields().iter().enumerate() {
            if HIDDEN.contains(&field.name().as_str()) {
                needed.push(index);
            } else {
                if output_columns.contains(&nth) {
                    needed.push(index);
                }
                nth += 1;
            }
        }
        Some(vec![needed])
    }
}
