//! The folders and prefixes of `[data] roots`: finds a dataset's split in them. In: a dataset, a config and a split. Out: its files,
//! or the places that were looked at. Layout: `<dataset_path or its last part>/<config>/<split>*.<format>`, flat names
//! (`<config>.<split>.jsonl`) too, as the Hub, its Parquet conversion and people at home have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::split_files::split_files;
use crate::stores::{Location, Place, Prefix, Stores, Walked, wait};

/// Roots in order, and what was listed of them.
#[derive(Debug)]
pub(crate) struct DataRoots {
    roots: Vec<Root>,
    walked: Walked,
    listed: Mutex<HashMap<PathBuf, Arc<Listing>>>,
    /// Why a root in a store could not be listed.
    failed: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Root {
    Folder(PathBuf),
    /// A prefix of a store, with its URL as a path: what lies below is joined to it.
    Prefix(PathBuf, Prefix),
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Root::Folder(path) | Root::Prefix(path, _) => path,
        }
    }
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
    pub(crate) fn new(roots: &[String], stores: &Arc<Stores>) -> DataRoots {
        let root = |root: &String| match stores.place(root) {
            Place::Folder(folder) => Root::Folder(folder),
            Place::Prefix(prefix) => Root::Prefix(prefix.url().into(), prefix),
        };
        let roots = roots.iter().map(root).collect();
        DataRoots { roots, walked: Walked::new(stores), listed: Mutex::default(), failed: Mutex::default() }
    }

    /// Why a root in a store could not be listed: then what is known of files is not all.
    pub(crate) fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    /// A file, or a pattern of files, by its name in the dataset's own repository.
    pub(crate) fn file(&self, dataset_path: &str, name: &str) -> Option<String> {
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return None;
        }
        let mut places = self.datasets(dataset_path).map(|dataset| dataset.join(name));
        places.find(|place| self.is_there(place)).map(|place| place.to_string_lossy().into_owned())
    }

    /// The places that a dataset may have, for a message.
    pub(crate) fn places(&self, dataset_path: &str) -> Vec<String> {
        let of_root = |root: &Root| match root {
            Root::Folder(folder) if !folder.is_dir() => vec![format!("{} (which is not there)", folder.display())],
            Root::Folder(root) | Root::Prefix(root, _) => {
                names(dataset_path).map(|name| root.join(name).display().to_string()).collect()
            }
        };
        self.roots.iter().flat_map(of_root).collect()
    }

    /// The folders of a dataset that are there.
    fn datasets(&self, dataset_path: &str) -> impl Iterator<Item = PathBuf> {
        let dataset_path = dataset_path.to_owned();
        self.roots.iter().flat_map(move |root| self.below(root.path(), &dataset_path))
    }

    /// Whether a place is a file, or a pattern of files of which there are any. One that cannot be listed is taken at its
    /// word: who reads it is told.
    pub(crate) fn is_there(&self, place: &Path) -> bool {
        match Location::of(&place.to_string_lossy()).ok().filter(Location::is_pattern) {
            Some(pattern) => !self.walked.files(&pattern).is_ok_and(|files| files.is_empty()),
            None => self.is_file(place),
        }
    }

    fn is_file(&self, place: &Path) -> bool {
        if self.prefix_of(place).is_none() {
            return place.is_file();
        }
        let (Some(folder), Some(name)) = (place.parent(), place.file_name().and_then(|name| name.to_str())) else {
            return false;
        };
        self.listing(folder).files.binary_search_by(|file| file.as_str().cmp(name)).is_ok()
    }

    /// The root in a store that a place lies below.
    fn prefix_of(&self, place: &Path) -> Option<(&Path, &Prefix)> {
        self.roots.iter().find_map(|root| match root {
            Root::Prefix(path, prefix) if place.starts_with(path) => Some((path.as_path(), prefix)),
            _ => None,
        })
    }

    fn below(&self, folder: &Path, dataset_path: &str) -> Vec<PathBuf> {
        // Asked of the listings: a dataset that is not there costs nothing, and names are compared without case.
        let mut found = Vec::new();
        if self.prefix_of(folder).is_some_and(|(_, prefix)| is_hub(prefix)) {
            // The Hub's datasets cannot be listed, and their names are the configs' own.
            return dataset_path
                .contains('/')
                .then(|| names(dataset_path).next())
                .flatten()
                .map(|name| folder.join(name))
                .into_iter()
                .collect();
        }
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
        if let Some((root, prefix)) = self.prefix_of(folder) {
            return self.listing_of_prefix(root, prefix, folder);
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

impl DataRoots {
    /// A folder below a prefix. Of most stores the whole tree comes with the first look, since it takes one request a
    /// thousand files; the Hub is asked folder by folder.
    fn listing_of_prefix(&self, root: &Path, prefix: &Prefix, folder: &Path) -> Arc<Listing> {
        let by_folder = is_hub(prefix);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if !by_folder && listed.contains_key(root) {
            return listed.get(folder).cloned().unwrap_or_default();
        }
        let asked = if by_folder {
            let below = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
            let here = if below.is_empty() { prefix.clone() } else { prefix.join(&below) };
            wait(async move { here.here().await }).map(|listed| {
                listed.map(|(files, folders)| HashMap::from([(folder.to_owned(), Listing { files, folders })]))
            })
        } else {
            wait(prefix.tree()).map(|tree| tree.map(|files| listings(root, &files)))
        };
        let found = match asked.map_err(|e| e.to_string()).and_then(|found| found.map_err(|e| e.to_string())) {
            Ok(found) => found,
            // One of its datasets that is gated or gone is not there; the others are.
            Err(error) if by_folder => {
                tracing::warn!("{error}");
                HashMap::from([(folder.to_owned(), Listing::default())])
            }
            Err(error) => {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                HashMap::from([(root.to_owned(), Listing::default())])
            }
        };
        for (folder, mut listing) in found {
            listing.files.sort();
            listing.folders.sort();
            listing.folders.dedup();
            listed.insert(folder, Arc::new(listing));
        }
        listed.get(folder).cloned().unwrap_or_default()
    }
}

fn is_hub(prefix: &Prefix) -> bool {
    prefix.url().starts_with("hf:")
}

/// The folders of a tree of files.
fn listings(root: &Path, files: &[String]) -> HashMap<PathBuf, Listing> {
    let mut found = HashMap::from([(root.to_owned(), Listing::default())]);
    for file in files {
        let mut folder = root.to_owned();
        let mut parts = file.split('/').peekable();
        while let Some(part) = parts.next() {
            let listing: &mut Listing = found.entry(folder.clone()).or_default();
            if parts.peek().is_none() {
                listing.files.push(part.to_owned());
            } else {
                if listing.folders.last().is_none_or(|last| last != part) {
                    listing.folders.push(part.to_owned());
                }
                folder.push(part);
            }
        }
    }
    found
}

/// The path itself, then its last part.
fn names(dataset_path: &str) -> impl Iterator<Item = &str> {
    let last = dataset_path.rsplit_once('/').map(|(_, last)| last);
    // Nothing that leads out of a root.
    let safe = |name: &&str| name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    [Some(dataset_path), last].into_iter().flatten().filter(safe)
}
