//! The rows that are kept, as vectors, and the question which of them a row is like by its cosine. Exact: each row is
//! compared with each kept row. The time grows with rows times kept rows; a block of rows passes the kept ones together,
//! so that each is fetched once for all of them.

use datafusion::common::{Result, exec_err};

use super::kept::{Kind, Match};

/// Kept vectors of length 1, one behind the other.
#[derive(Debug)]
pub struct KeptVectors {
    threshold: f64,
    dimensions: usize,
    vectors: Vec<f32>,
}

impl KeptVectors {
    pub fn new(threshold: f64) -> Self {
        Self { threshold, dimensions: 0, vectors: Vec::new() }
    }

    /// How many rows are kept.
    pub fn len(&self) -> usize {
        self.vectors.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// The bytes that are held.
    pub fn size(&self) -> usize {
        self.vectors.capacity() * size_of::<f32>()
    }

    /// For each row the nearest kept row at or above the threshold, of several the first; where there is none, the row
    /// is kept. None and a vector of length 0 are compared with nothing and are not kept. The second value says whether
    /// the row was kept.
    ///
    /// # Errors
    /// Vectors of different numbers of dimensions.
    pub fn find_or_keep(&mut self, rows: &[Option<&[f32]>]) -> Result<Vec<(Option<Match>, bool)>> {
        let mut unit: Vec<Option<Vec<f32>>> = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(row) = row.filter(|row| !row.is_empty()) else {
                unit.push(None);
                continue;
            };
            if self.dimensions == 0 {
                self.dimensions = row.len();
            }
            if row.len() != self.dimensions {
                return exec_err!(
                    "near_duplicates: an embedding has {} dimensions and another one {}; compare vectors of one model",
                    row.len(),
                    self.dimensions
                );
            }
            let length = dot(row, row).sqrt();
            unit.push((length > 0.0 && length.is_finite()).then(|| row.iter().map(|x| x / length).collect()));
        }
        let mut best: Vec<Option<Match>> = vec![None; rows.len()];
        for (nth, kept) in self.vectors.chunks_exact(self.dimensions.max(1)).enumerate() {
            for (row, best) in unit.iter().zip(&mut best) {
                if let Some(row) = row {
                    self.compare(row, nth, kept, best);
                }
            }
        }
        let before = self.len();
        let mut decided = Vec::with_capacity(rows.len());
        for (row, mut best) in unit.into_iter().zip(best) {
            let Some(row) = row else {
                decided.push((None, false));
                continue;
            };
            for (nth, kept) in self.vectors[before * self.dimensions..].chunks_exact(self.dimensions).enumerate() {
                self.compare(&row, before + nth, kept, &mut best);
            }
            if best.is_none() {
                self.vectors.extend_from_slice(&row);
            }
            decided.push((best, best.is_none()));
        }
        Ok(decided)
    }

    fn compare(&self, row: &[f32], nth: usize, kept: &[f32], best: &mut Option<Match>) {
        let cosine = f64::from(dot(row, kept)).min(1.0);
        if cosine >= self.threshold && best.is_none_or(|best| cosine > best.likeness) {
            *best = Some(Match { row: nth as u32, likeness: cosine, kind: Kind::Near });
        }
    }
}

/// In eight sums, which a processor adds at once; always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for at in 0..8 {
            sums[at] += x[at] * y[at];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decide(kept: &mut KeptVectors, rows: &[Vec<f32>]) -> Vec<Option<u32>> {
        let rows: Vec<Option<&[f32]>> = rows.iter().map(|row| Some(row.as_slice())).collect();
        kept.find_or_keep(&rows).unwrap().into_iter().map(|(found, _)| found.map(|found| found.row)).collect()
    }

    #[test]
    fn length_does_not_matter_and_direction_does() {
        let mut kept = KeptVectors::new(0.9);
        let rows = vec![vec![1.0, 0.0], vec![5.0, 0.5], vec![0.0, 2.0], vec![-1.0, 0.0]];
        assert_eq!(decide(&mut kept, &rows), [None, Some(0), None, None]);
        assert_eq!(kept.find_or_keep(&[None, Some(&[0.0, 0.0])]).unwrap(), [(None, false), (None, false)]);
        assert!(kept.find_or_keep(&[Some(&[1.0])]).unwrap_err().to_string().contains("1 dimensions and another one 2"));
    }

    proptest! {
        #[test]
        fn blocks_do_not_matter(
            rows in prop::collection::vec(prop::collection::vec(-3i8..4, 3), 1..30),
            cut in 0usize..30,
        ) {
            let rows: Vec<Vec<f32>> = rows.into_iter().map(|row| row.into_iter().map(f32::from).collect()).collect();
            let whole = decide(&mut KeptVectors::new(0.8), &rows);
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let mut kept = KeptVectors::new(0.8);
            let mut parts = decide(&mut kept, first);
            parts.extend(decide(&mut kept, second));
            prop_assert_eq!(whole, parts);
        }
    }
}
