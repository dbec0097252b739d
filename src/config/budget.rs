//! What a run may spend.

/// Limits of one run; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    pub max_cost_usd: Option<f64>,
    /// Requests sent to endpoints, the repeated ones too. Answers out of the ledger are free.
    pub max_calls: Option<u64>,
    /// Tokens of prompts and answers together.
    pub max_tokens: Option<u64>,
}

impl Budget {
    /// What takes a limit away.
    pub const NO_LIMIT: &str = "none";

    /// [`Self::dollars`], or infinitely many for `none`.
    pub fn dollars_or_none(text: &str) -> Result<f64, String> {
        let none = text.trim().eq_ignore_ascii_case(Self::NO_LIMIT);
        if none { Ok(f64::INFINITY) } else { Self::dollars(text).map_err(|e| e + ", or none") }
    }

    /// [`Self::whole`], or the largest number for `none`.
    pub fn whole_or_none(text: &str) -> Result<u64, String> {
        let none = text.trim().eq_ignore_ascii_case(Self::NO_LIMIT);
        if none { Ok(u64::MAX) } else { Self::whole(text).map_err(|e| e + ", or none") }
    }

    /// Without the limits that are none.
    pub fn limits(self) -> Budget {
        Budget {
            max_cost_usd: self.max_cost_usd.filter(|usd| usd.is_finite()),
            max_calls: self.max_calls.filter(|calls| *calls < u64::MAX),
            max_tokens: self.max_tokens.filter(|tokens| *tokens < u64::MAX),
        }
    }

    /// These limits, and where there is none those of `other`.
    pub fn or(self, other: Budget) -> Budget {
        Budget {
            max_cost_usd: self.max_cost_usd.or(other.max_cost_usd),
            max_calls: self.max_calls.or(other.max_calls),
            max_tokens: self.max_tokens.or(other.max_tokens),
        }
    }

    /// Reads US dollars: a number from 0.
    pub fn dollars(text: &str) -> Result<f64, String> {
        let number = text.trim().trim_start_matches('$').parse::<f64>();
        number.ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| "it must be US dollars from 0".to_owned())
    }

    /// Reads a whole number from 0, which may be written `1e6` or `1_000_000`.
    pub fn whole(text: &str) -> Result<u64, String> {
        let text = text.trim().replace('_', "");
        let whole = |n: &f64| n.fract() == 0.0 && *n >= 0.0 && *n <= 9e15;
        let number = text.parse::<u64>().ok().or_else(|| text.parse().ok().filter(whole).map(|n: f64| n as u64));
        number.ok_or_else(|| "it must be a whole number from 0, such as 1000 or 1e6".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, n) in [("100", 100), ("1e6", 1_000_000), ("1_000_000", 1_000_000), ("2.5e3", 2_500)] {
            assert_eq!(Budget::whole(text), Ok(n), "{text}");
        }
        assert!(["", "-1", "1.5", "many", "1e300"].iter().all(|text| Budget::whole(text).is_err()));
        assert_eq!(Budget::dollars("$0.25"), Ok(0.25));
        assert_eq!((Budget::whole_or_none("None"), Budget::whole_or_none("12")), (Ok(u64::MAX), Ok(12)));
        assert_eq!((Budget::dollars_or_none("none"), Budget::dollars_or_none("2")), (Ok(f64::INFINITY), Ok(2.0)));
        assert!(Budget::whole_or_none("no").is_err_and(|e| e.ends_with("or none")));
        let (none, some) = (
            Budget { max_calls: Some(u64::MAX), ..Budget::default() },
            Budget { max_calls: Some(1), ..Budget::default() },
        );
        assert_eq!((none.or(some).limits(), Budget::default().or(some).limits()), (Budget::default(), some));
        assert!(["", "-1", "nan", "inf"].iter().all(|text| Budget::dollars(text).is_err()));
    }
}
