//! Paths, URLs and patterns of files as DataFusion lists them.

use std::path::Path;

use datafusion::common::{Result, plan_datafusion_err};
use datafusion::datasource::listing::ListingTableUrl;
use url::Url;

/// What begins a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// As [`ListingTableUrl::parse`], which knows patterns (`*`, `?`, `[…]`) in local paths only, and also in URLs.
/// A file or folder of this machine that has such a character in its own name is no pattern.
pub fn listing_url(location: &str) -> Result<ListingTableUrl> {
    let pattern = location.find("://").and_then(|scheme| {
        let at = location[scheme + 3..].find(WILD)? + scheme + 3;
        let start = location[..at].rfind('/').filter(|slash| *slash > scheme + 2)? + 1;
        Some(location.split_at(start))
    });
    match pattern {
        Some((folder, pattern)) if !location.starts_with("file:") => {
            let url = Url::parse(folder).map_err(|e| plan_datafusion_err!("'{location}' is no URL: {e}"))?;
            ListingTableUrl::try_new(url, None)?.with_glob(pattern)
        }
        _ if location.contains("://") => ListingTableUrl::parse(location),
        _ => local_url(location),
    }
}

fn local_url(location: &str) -> Result<ListingTableUrl> {
    let (named, pattern) = location.split_at(pattern_start(location));
    if !named.contains(WILD) {
        return ListingTableUrl::parse(location);
    }
    let path = std::path::absolute(named)?;
    let url = match named.ends_with('/') || path.is_dir() {
        true => Url::from_directory_path(&path),
        false => Url::from_file_path(&path),
    };
    let url = url.map_err(|()| plan_datafusion_err!("'{location}' is no path of this machine"))?;
    // Read once more, which takes each `..` away.
    let url = Url::parse(url.as_str()).map_err(|e| plan_datafusion_err!("'{location}' is no path: {e}"))?;
    let url = ListingTableUrl::try_new(url, None)?;
    if pattern.is_empty() { Ok(url) } else { url.with_glob(pattern) }
}

/// Where the pattern of a path begins, or the path's end: at the first part that looks like one and is not there under
/// that very name.
fn pattern_start(location: &str) -> usize {
    let mut start = 0;
    for part in location.split_inclusive('/') {
        let end = start + part.len();
        if part.contains(WILD) && !Path::new(&location[..end]).exists() {
            break;
        }
        start = end;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_in_a_url_begins_after_the_last_whole_folder() {
        let parts = |location: &str| {
            let url = listing_url(location).unwrap();
            (url.as_str().to_owned(), url.get_glob().as_ref().map(ToString::to_string))
        };
        assert_eq!(parts("s3://b/p/*.parquet"), ("s3://b/p/".into(), Some("*.parquet".into())));
        assert_eq!(parts("s3://b/p/y=*/x-?.csv"), ("s3://b/p/".into(), Some("y=*/x-?.csv".into())));
        assert_eq!(parts("s3://b/*"), ("s3://b/".into(), Some("*".into())));
        assert_eq!(parts("s3://b/p/x.csv"), ("s3://b/p/x.csv".into(), None));
    }

    #[test]
    fn a_folder_that_is_there_under_a_name_like_a_pattern_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ä~#%[1]");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("x?.csv"), "a\n1\n").unwrap();
        let folder = folder.display().to_string();
        let parts = |below: &str| {
            let url = listing_url(&format!("{folder}{below}")).unwrap();
            let path = format!("/{}", url.prefix());
            let path = path.strip_prefix(&folder).unwrap().to_owned();
            (path, url.is_collection(), url.get_glob().as_ref().map(ToString::to_string))
        };
        assert_eq!(parts(""), (String::new(), true, None));
        assert_eq!(parts("/"), (String::new(), true, None));
        assert_eq!(parts("/x.csv"), ("/x.csv".into(), false, None));
        assert_eq!(parts("/x?.csv"), ("/x?.csv".into(), false, None));
        assert_eq!(parts("/y/../x.csv"), ("/x.csv".into(), false, None));
        assert_eq!(parts("/*.csv"), (String::new(), true, Some("*.csv".into())));
        assert_eq!(parts("/in/y=[2]/*.csv"), ("/in".into(), true, Some("y=[2]/*.csv".into())));
    }
}
