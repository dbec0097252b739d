//! Licences of datasets, and what a run's target may use.

use std::fmt;
use std::str::FromStr;

/// What the output of a run is for. What a licence does not permit for it never reaches a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Target {
    #[default]
    Research,
    Commercial,
}

impl Target {
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Research => "research",
            Target::Commercial => "commercial",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.to_ascii_lowercase().as_str() {
            "research" => Ok(Target::Research),
            "commercial" => Ok(Target::Commercial),
            other => Err(format!("the target '{other}' is unknown; use 'research' or 'commercial'")),
        }
    }
}

/// What a licence permits, as the catalog's column `commercial` says it; the stricter is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Commercial use is permitted.
    Yes,
    /// Permitted, and what is made from it must carry the same licence.
    ShareAlike,
    /// Non-commercial or no-derivatives.
    No,
    /// Nothing is known: for a commercial target this means no.
    Unknown,
}

impl Permission {
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Yes => "yes",
            Permission::ShareAlike => "share_alike",
            Permission::No => "no",
            Permission::Unknown => "unknown",
        }
    }
}

/// A dataset's licence, by SPDX identifier where there is one (`CC-BY-4.0`); empty or `unknown` is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Licence(String);

impl Licence {
    pub fn new(name: impl Into<String>) -> Self {
        Licence(name.into())
    }

    pub fn unknown() -> Self {
        Licence("unknown".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the licence permits. Names are compared without case and punctuation, so `cc-by-sa 4.0` is
    /// `CC-BY-SA-4.0`. A name that is not in the list is unknown.
    pub fn permission(&self) -> Permission {
        let name: String = self.0.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        if name.is_empty() || name.starts_with("unknown") {
            return Permission::Unknown;
        }
        if name.starts_with("cc") && (name.contains("nc") || name.contains("nd") && !name.contains("cc0")) {
            return Permission::No;
        }
        if name.starts_with("ccbysa") || name.starts_with("gpl") || name.starts_with("agpl") || name.starts_with("odbl")
        {
            return Permission::ShareAlike;
        }
        const FREE: [&str; 13] = [
            "afl",
            "apache",
            "mit",
            "bsd",
            "ccby",
            "cc0",
            "odcby",
            "pddl",
            "unlicense",
            "isc",
            "cdla",
            "publicdomain",
            "openrail",
        ];
        if FREE.iter().any(|free| name.starts_with(free)) { Permission::Yes } else { Permission::Unknown }
    }

    /// Whether rows under this licence may reach a call of a run with this target. A research run may use
    /// everything but what forbids derivatives outright; a commercial run needs a known permission.
    pub fn permits(&self, target: Target) -> bool {
        match target {
            Target::Research => !self.forbids_derivatives(),
            Target::Commercial => matches!(self.permission(), Permission::Yes | Permission::ShareAlike),
        }
    }

    /// Of two licences the one that permits less.
    pub fn stricter(self, other: Licence) -> Licence {
        let strictness = |licence: &Licence| (licence.forbids_derivatives(), licence.permission());
        if strictness(&other) > strictness(&self) { other } else { self }
    }

    fn forbids_derivatives(&self) -> bool {
        let words: Vec<String> =
            self.0.to_ascii_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect();
        words.first().is_some_and(|w| w == "cc") && words.iter().any(|w| w == "nd")
    }
}

impl fmt::Display for Licence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_means_no_for_a_commercial_run() {
        assert!(!Licence::unknown().permits(Target::Commercial));
        assert!(Licence::unknown().permits(Target::Research));
        assert!(!Licence::new("CC-BY-NC-4.0").permits(Target::Commercial));
        assert!(!Licence::new("my own words").permits(Target::Commercial));
        assert!(Licence::new("CC-BY-4.0").permits(Target::Commercial));
        assert!(Licence::new("mit").permits(Target::Commercial));
        assert_eq!(Licence::new("cc-by-sa 4.0").permission(), Permission::ShareAlike);
        assert!(!Licence::new("CC-BY-ND-4.0").permits(Target::Research));
    }
}
