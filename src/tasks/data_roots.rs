//! The folders of `[data] roots`: finds a dataset's split in them. In: a dataset, a config and a split. Out: its files,
//! or the places that were looked at. Layout: `<dataset_path or its last part>/<config>/<split>*.<format>`, flat names
//! (`<config>.<split>.jsonl`) too, as the Hub, its Parquet conversion and people at home have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::split_files::split_files;

/// Roots in order, and what was listed of them.
#[derive(Debug, Default)]
pub(crate) struct DataRoots {
    roots: Vec<Root>,
    listed: Mutex<HashMap<PathBuf, Arc<Listing>>>,
}

#[derive(Debug)]
enum Root {
    Folder(PathBuf),
    /// An object store's prefix. None can be listed in this version; `hf://` has its place here.
    Url(String),
}

/// The names in a folder, sorted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub files: Vec<String>,
    pub folders: Vec<String>,
}

/// A split of a dataset's config.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub dataset_path: &'a str,
    pub config: Option<&'a str>,
    pub split: &'a str,
    /// Whether files that name no config are this config's: it is the dataset's only one, or the rows are held out and
    /// it is safe to take too many.
    pub unnamed_config: bool,
}

impl DataRoots {
    /// `roots`: absolute folders, or URLs.
    pub(crate) fn new(roots: &[String]) -> DataRoots {
        let root = |root: &String| match root.split_once("://") {
            None => Root::Folder(PathBuf::from(root)),
            Some(("file", path)) => Root::Folder(PathBuf::from(path)),
            Some(_) => Root::Url(root.clone()),
        };
        DataRoots { roots: roots.iter().map(root).collect(), listed: Mutex::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The split's files in the first root that has any, sorted by name and all of one format.
    pub(crate) fn find(&self, wanted: Wanted<'_>) -> Vec<String> {
        self.datasets(wanted.dataset_path)
            .map(|dataset| split_files(&dataset, wanted, &|folder| self.listing(folder)))
            .find(|files| !files.is_empty())
            .unwrap_or_default()
    }

    /// A file by its name in the dataset's own repository.
    pub(crate) fn file(&self, dataset_path: &str, name: &str) -> Option<String> {
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return None;
        }
        let mut places = self.datasets(dataset_path).map(|dataset| dataset.join(name));
        places.find(|place| place.is_file()).map(|place| place.to_string_lossy().into_owned())
    }

    /// The places that a dataset may have, for a message.
    pub(crate) fn places(&self, dataset_path: &str) -> Vec<String> {
        let of_root = |root: &Root| match root {
            Root::Folder(folder) if !folder.is_dir() => vec![format!("{} (which is not there)", folder.display())],
            Root::Folder(folder) => names(dataset_path).map(|name| folder.join(name).display().to_string()).collect(),
            Root::Url(url) => vec![format!("{url} (only local folders are listed in this version)")],
        };
        self.roots.iter().flat_map(of_root).collect()
    }

    /// The folders of a dataset that are there.
    fn datasets(&self, dataset_path: &str) -> impl Iterator<Item = PathBuf> {
        let folders = self.roots.iter().filter_map(|root| match root {
            Root::Folder(folder) => Some(folder),
            Root::Url(_) => None,
        });
        let dataset_path = dataset_path.to_owned();
        folders.flat_map(move |folder| self.below(folder, &dataset_path))
    }

    fn below(&self, folder: &Path, dataset_path: &str) -> Vec<PathBuf> {
        // Asked of the listings: a dataset that is not there costs nothing, and names are compared without case.
        let mut found = Vec::new();
        for name in names(dataset_path) {
            let mut place = Some(folder.to_path_buf());
            for part in name.split('/') {
                place = place.and_then(|place| {
                    let listing = self.listing(&place);
                    let same = listing.folders.iter().find(|known| known.eq_ignore_ascii_case(part))?;
                    Some(place.join(same))
                });
            }
            found.extend(place);
        }
        found
    }

    fn listing(&self, folder: &Path) -> Arc<Listing> {
        if let Some(known) = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(folder) {
            return Arc::clone(known);
        }
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.path().is_dir() {
                true => listing.folders.push(name),
                false => listing.files.push(name),
            }
        }
        listing.files.sort();
        listing.folders.sort();
        let listing = Arc::new(listing);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.insert(folder.to_path_buf(), Arc::clone(&listing));
        listing
    }
}

/// The path itself, then its last part.
fn names(dataset_path: &str) -> impl Iterator<Item = &str> {
    let last = dataset_path.rsplit_once('/').map(|(_, last)| last);
    // Nothing that leads out of a root.
    let safe = |name: &&str| name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    [Some(dataset_path), last].into_iter().flatten().filter(safe)
}
