//! Paths of the store `hf://datasets`: `owner/name[@revision]/path`, as the Hub's own clients write them. A revision is
//! one part, but for `refs/convert/<name>` and `refs/pr/<number>`; `~parquet` is `refs/convert/parquet`.

use object_store::path::Path;

/// The revision with the rows that the Hub has converted to Parquet.
pub(super) const CONVERTED: &str = "refs/convert/parquet";

/// A dataset, as the path names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Dataset {
    /// `owner/name`.
    pub(super) id: String,
    /// `None` where the path names none.
    pub(super) revision: Option<String>,
    /// What stands in paths before the files, `owner/name[@revision]`.
    pub(super) prefix: String,
}

impl Dataset {
    /// A dataset, and the path in it; `None` for a path that names no dataset.
    pub(super) fn parse(path: &Path) -> Option<(Dataset, String)> {
        let parts: Vec<&str> = path.as_ref().split('/').filter(|part| !part.is_empty()).collect();
        let [owner, second, rest @ ..] = parts.as_slice() else { return None };
        let (name, first) = match second.split_once('@') {
            Some((name, first)) => (name, Some(first)),
            None => (*second, None),
        };
        let more = match (first, rest) {
            (Some("refs"), [kind @ ("convert" | "pr"), of, ..]) => vec![*kind, *of],
            _ => Vec::new(),
        };
        let rest = &rest[more.len()..];
        let written = first.map(|first| std::iter::once(first).chain(more).collect::<Vec<_>>().join("/"));
        let id = format!("{owner}/{name}");
        let prefix = written.as_ref().map_or_else(|| id.clone(), |written| format!("{id}@{written}"));
        let revision = written.map(|written| if written == "~parquet" { CONVERTED.to_owned() } else { written });
        Some((Dataset { id, revision, prefix }, rest.join("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_parted_into_dataset_revision_and_file() {
        let parse = |path: &str| {
            let (dataset, file) = Dataset::parse(&Path::from(path)).unwrap();
            (dataset.id, dataset.revision, dataset.prefix, file)
        };
        let text = str::to_owned;
        assert_eq!(parse("a/b/c/d.csv"), (text("a/b"), None, text("a/b"), text("c/d.csv")));
        assert_eq!(parse("a/b@v1/d.csv"), (text("a/b"), Some(text("v1")), text("a/b@v1"), text("d.csv")));
        let converted = parse("a/b@refs/convert/parquet/main/train/0000.parquet");
        assert_eq!(converted.1.as_deref(), Some(CONVERTED));
        assert_eq!(
            (converted.2.as_str(), converted.3.as_str()),
            ("a/b@refs/convert/parquet", "main/train/0000.parquet")
        );
        assert_eq!(parse("a/b"), (text("a/b"), None, text("a/b"), String::new()));
        assert!(Dataset::parse(&Path::from("a")).is_none());
    }
}
