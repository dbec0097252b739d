//! Draws the next token from a model's logits: temperature, top-k, top-p and min-p, seeded.
//! In: logits and the tokens that a grammar allows. Out: one token id.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use toktrie::SimpleVob;

use crate::endpoint::Parameters;

/// How a token is drawn. The defaults are what makes a model of 135 million parameters write sensibly (measured).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// 0 takes the likeliest token.
    temperature: f32,
    /// Only the likeliest tokens that together have this probability.
    top_p: f32,
    /// Only so many of the likeliest tokens; 0 for all.
    top_k: usize,
    /// Only tokens at least this likely relative to the likeliest (Nguyen et al. 2024).
    min_p: f32,
}

impl Sampling {
    /// Reads a call's parameters; the error names the one that is wrong.
    pub(super) fn from_parameters(parameters: &Parameters) -> Result<Sampling, String> {
        let mut sampling = Sampling {
            temperature: parameters.temperature.unwrap_or(0.7) as f32,
            top_p: parameters.top_p.unwrap_or(1.0) as f32,
            top_k: 40,
            min_p: 0.05,
        };
        for (key, value) in &parameters.extra {
            match key.as_str() {
                "top_k" => sampling.top_k = top_k(value)?,
                "min_p" => {
                    sampling.min_p =
                        value.as_f64().ok_or_else(|| format!("min_p is a number from 0 to 1, not {value}"))? as f32
                }
                _ => {
                    return Err(format!(
                        "the embedded model knows top_k and min_p in extra, not {key}; leave it out for this model"
                    ));
                }
            }
        }
        let range = |name: &str, value: f32, max: f32| match (0.0..=max).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is a number from 0 to {max}, not {value}")),
        };
        range("temperature", sampling.temperature, 100.0)?;
        range("top_p", sampling.top_p, 1.0)?;
        range("min_p", sampling.min_p, 1.0)?;
        Ok(sampling)
    }
}

/// A count; 0 and -1 mean all tokens, as servers have it.
fn top_k(value: &Value) -> Result<usize, String> {
    match value.as_i64() {
        Some(-1) => Ok(0),
        Some(k) if k >= 0 => Ok(k as usize),
        _ => Err(format!("top_k is a whole number from 0, not {value}")),
    }
}

/// One answer's source of chance: the same seed and logits give the same tokens.
pub(super) struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling, seed: [u8; 32]) -> Self {
        Sampler { sampling, rng: ChaCha8Rng::from_seed(seed) }
    }

    /// A token among the allowed ones (all, if `None`); `None` when nothing is allowed.
    pub(super) fn draw(&mut self, logits: &[f32], allowed: Option<&SimpleVob>) -> Option<u32> {
        let mut candidates: Vec<(u32, f32)> = match allowed {
            Some(allowed) => {
                let mut candidates = Vec::new();
                allowed.iter_set_entries(|id| {
                    if let Some(logit) = logits.get(id) {
                        candidates.push((id as u32, *logit));
                    }
                });
                candidates
            }
            None => logits.iter().enumerate().map(|(id, logit)| (id as u32, *logit)).collect(),
        };
        let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.sampling.temperature == 0.0 || candidates.len() < 2 {
            return candidates.into_iter().min_by(likelier).map(|(id, _)| id);
        }
        let top_k = self.sampling.top_k;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        candidates.sort_unstable_by(likelier);

        // Probabilities relative to the likeliest: min-p is a plain comparison, and top-p a running sum.
        let best = candidates.first()?.1;
        let weights: Vec<f32> =
            candidates.iter().map(|(_, logit)| ((logit - best) / self.sampling.temperature).exp()).collect();
        let wanted = weights.iter().sum::<f32>() * self.sampling.top_p;
        let mut total = 0.0;
        let mut kept = 0;
        for weight in &weights {
            if kept > 0 && (*weight < self.sampling.min_p || total >= wanted) {
                break;
            }
            total += weight;
            kept += 1;
        }
        let mut left = (self.rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32 * total;
        for (candidate, weight) in candidates.iter().zip(&weights).take(kept) {
            left -= weight;
            if left < 0.0 {
                return Some(candidate.0);
            }
        }
        candidates.get(kept.saturating_sub(1)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sampler(parameters: Parameters) -> Sampler {
        Sampler::new(Sampling::from_parameters(&parameters).unwrap(), [7; 32])
    }

    fn with(temperature: f64, extra: Value) -> Parameters {
        let extra = extra.as_object().cloned().unwrap_or_default();
        Parameters { temperature: Some(temperature), extra, ..Parameters::default() }
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_allowed_token() {
        let mut sampler = sampler(with(0.0, json!({})));
        assert_eq!(sampler.draw(&[1.0, 9.0, 3.0], None), Some(1));
        let mut allowed = SimpleVob::alloc(3);
        allowed.allow_token(0);
        allowed.allow_token(2);
        assert_eq!(sampler.draw(&[1.0, 9.0, 3.0], Some(&allowed)), Some(2));
        assert_eq!(sampler.draw(&[1.0], Some(&SimpleVob::alloc(1))), None);
    }

    #[test]
    fn top_k_and_min_p_cut_the_tail_and_what_is_left_is_drawn_by_its_probability() {
        let logits = [2.0, 2.0, 0.0, -9.0];
        let count = |parameters: Parameters| {
            let mut sampler = sampler(parameters);
            let mut counts = [0; 4];
            for _ in 0..4000 {
                counts[sampler.draw(&logits, None).unwrap() as usize] += 1;
            }
            counts
        };
        let all = count(with(1.0, json!({"top_k": 0, "min_p": 0.0})));
        // 2 / (2 + e^-2) of the draws fall on the first two.
        assert!((3650..3850).contains(&(all[0] + all[1])), "{all:?}");
        assert!((1700..2050).contains(&all[0]), "{all:?}");
        let two = count(with(1.0, json!({"top_k": 2, "min_p": 0.0})));
        assert_eq!(two[2] + two[3], 0);
        let likely = count(with(1.0, json!({"top_k": -1, "min_p": 0.2})));
        assert_eq!(likely[2] + likely[3], 0);
    }

    #[test]
    fn a_parameter_out_of_range_or_unknown_is_named() {
        let message = |parameters| Sampling::from_parameters(&parameters).unwrap_err();
        assert!(message(with(-1.0, json!({}))).contains("temperature"));
        assert!(message(with(1.0, json!({"top_k": "many"}))).contains("top_k"));
        assert!(message(with(1.0, json!({"best_of": 3}))).contains("best_of"));
    }
}
