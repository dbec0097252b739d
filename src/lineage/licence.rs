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

    /// What the licence permits. Names are compared as a whole, without case, punctuation and version, so
    /// `cc-by-sa 4.0` is `CC-BY-SA-4.0`. Of several names the strictest stands. A name that is not in the list is unknown.
    pub fn permission(&self) -> Permission {
        let text = self.0.to_ascii_lowercase();
        let all = words(&text);
        if all.first().is_none_or(|word| word.starts_with("unknown")) {
            return Permission::Unknown;
        }
        if forbids_commerce(&all) || forbids_derivatives(&all) {
            return Permission::No;
        }
        parts(&text).iter().filter_map(|part| permission_of(&words(part))).max().unwrap_or(Permission::Unknown)
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
        forbids_derivatives(&words(&self.0.to_ascii_lowercase()))
    }
}

/// The names in a text that has several: `MIT or Apache-2.0`, `MIT (code), CC-BY-4.0 (data)`.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for several in text.split([',', ';', '/', '|', '&', '+', '(', ')', '\n']) {
        let words: Vec<&str> = several.split_whitespace().collect();
        parts.extend(words.split(|word| matches!(*word, "and" | "or")).map(|name| name.join(" ")));
    }
    parts
}

/// The words of a name in lower case without its version, with `ccbync` as the three that it is.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if word == "0" && words.last() == Some(&"cc") || is_cc0(word) {
            words.retain(|word| *word != "cc");
            words.push("cc0");
            continue;
        }
        let name = without_version(word);
        match pieces(name) {
            Some(pieces) => words.extend(pieces),
            None => words.push(name),
        }
    }
    words
}

fn is_cc0(word: &str) -> bool {
    word.strip_prefix("cc0").is_some_and(|version| version.chars().all(|c| c.is_ascii_digit()))
}

/// `apache2`, `gplv3`, `v2` and `4` without their numbers.
fn without_version(word: &str) -> &str {
    let name = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if name.len() < word.len() { name.strip_suffix('v').unwrap_or(name) } else { name }
}

/// What a Creative Commons name is made of; nothing for a word that was a version, None for another word.
fn pieces(word: &str) -> Option<Vec<&str>> {
    let (mut pieces, mut rest) = (Vec::new(), word);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at_checked(2)?;
        if !matches!(piece, "cc" | "by" | "nc" | "nd" | "sa") {
            return None;
        }
        pieces.push(piece);
        rest = after;
    }
    Some(pieces)
}

fn forbids_commerce(words: &[&str]) -> bool {
    words.iter().any(|word| matches!(*word, "nc" | "noncommercial"))
        || words.windows(2).any(|two| matches!(two, ["non" | "not" | "no", "commercial"]))
}

fn forbids_derivatives(words: &[&str]) -> bool {
    words.iter().any(|word| matches!(*word, "nd" | "noderivatives" | "noderivs"))
        || words.windows(2).any(|two| matches!(two, ["no" | "non", "derivatives" | "derivs"]))
}

/// What one name permits; None where no word of it is a name.
fn permission_of(words: &[&str]) -> Option<Permission> {
    const AROUND: [&str; 16] = [
        "the",
        "license",
        "licence",
        "licensed",
        "licenced",
        "under",
        "version",
        "code",
        "data",
        "dataset",
        "international",
        "unported",
        "universal",
        "only",
        "or",
        "later",
    ];
    // Countries whose law an older version is ported to.
    const PORTED: [&str; 9] = ["igo", "us", "uk", "de", "fr", "jp", "au", "nl", "at"];
    let is_cc = words.first() == Some(&"cc");
    let is_name = |word: &&&str| !(AROUND.contains(*word) || is_cc && PORTED.contains(*word));
    let name: String = words.iter().filter(is_name).copied().collect();
    if name.is_empty() {
        return None;
    }
    Some(match name.as_str() {
        "afl" | "apache" | "apachesoftware" | "mit" | "bsd" | "bsdclause" | "bsdclauseclear" | "bsdclausepatent"
        | "ccby" | "cc0" | "odcby" | "pddl" | "unlicense" | "isc" | "cdlapermissive" | "publicdomain" | "openrail"
        | "openrailm" => Permission::Yes,
        "ccbysa" | "gpl" | "agpl" | "odbl" | "cdlasharing" => Permission::ShareAlike,
        _ => Permission::Unknown,
    })
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

    #[test]
    fn a_licence_is_judged_by_whole_names() {
        use Permission::{No, ShareAlike, Unknown, Yes};
        for (name, permission) in [
            ("MIT", Yes),
            ("The MIT License (MIT)", Yes),
            ("Apache License, Version 2.0", Yes),
            ("apache-2.0", Yes),
            ("BSD-3-Clause", Yes),
            ("CC0 1.0 Universal", Yes),
            ("CC-0", Yes),
            ("ccby4.0", Yes),
            ("CC-BY-3.0-US", Yes),
            ("CC-BY", Yes),
            ("AFL-3.0", Yes),
            ("ODC-By-1.0", Yes),
            ("public domain", Yes),
            ("CDLA-Permissive-2.0", Yes),
            ("MIT OR Apache-2.0", Yes),
            ("MIT (code), CC-BY-4.0 (data)", Yes),
            ("CDLA-Sharing-1.0", ShareAlike),
            ("GPL-3.0-or-later", ShareAlike),
            ("GPLv3", ShareAlike),
            ("CC-BY-SA-3.0", ShareAlike),
            ("MIT and CC BY-SA 4.0", ShareAlike),
            ("CC-BY-NC-SA-4.0", No),
            ("ccbync", No),
            ("ccbynd", No),
            ("CC BYND 4.0", No),
            ("MIT non-commercial", No),
            ("Apache-2.0 (code), CC-BY-NC-4.0 (data)", No),
            ("Apache-2.0 AND CC-BY-NC-4.0", No),
            ("Mitigated", Unknown),
            ("MIT, my own words", Unknown),
            ("C-UDA-1.0", Unknown),
            ("CDLA", Unknown),
            ("4.0", Unknown),
            ("", Unknown),
        ] {
            assert_eq!(Licence::new(name).permission(), permission, "{name}");
        }
        for name in ["CC-BY-NC-ND-4.0", "ccbynd", "CC BYND 4.0", "Apache-2.0 AND CC-BY-ND-4.0"] {
            assert!(!Licence::new(name).permits(Target::Research), "{name}");
        }
        assert!(Licence::new("MIT AND CC-BY-NC-4.0").permits(Target::Research));
    }
}
