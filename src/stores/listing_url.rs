//! Paths, URLs and patterns of files as DataFusion lists them.

use datafusion::common::{Result, plan_datafusion_err};
use datafusion::datasource::listing::ListingTableUrl;
use url::Url;

/// As [`ListingTableUrl::parse`], which knows patterns (`*`, `?`, `[…]`) in local paths only, and also in URLs.
pub fn listing_url(location: &str) -> Result<ListingTableUrl> {
    let pattern = location.find("://").and_then(|scheme| {
        let at = location[scheme + 3..].find(['*', '?', '['])? + scheme + 3;
        let start = location[..at].rfind('/').filter(|slash| *slash > scheme + 2)? + 1;
        Some(location.split_at(start))
    });
    match pattern {
        Some((folder, pattern)) if !location.starts_with("file:") => {
            let url = Url::parse(folder).map_err(|e| plan_datafusion_err!("'{location}' is no URL: {e}"))?;
            ListingTableUrl::try_new(url, None)?.with_glob(pattern)
        }
        _ => ListingTableUrl::parse(location),
    }
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
}
