//! Where a ledger lies: a folder, or a prefix of an object store with a folder of this machine beside it.

use std::path::{Path, PathBuf};

use crate::stores::{Place, Prefix};

/// The place of a ledger.
#[derive(Debug, Clone)]
pub enum Location {
    Folder(PathBuf),
    /// `unsent` is the folder for answers that the store has not got yet.
    Store {
        prefix: Prefix,
        unsent: PathBuf,
    },
}

impl Location {
    /// The ledger of a place, for a process that keeps its state in `state` (`.seedmill` of a workspace). Of each URL
    /// there is one folder `<state>/unsent/<the URL in letters, digits and dashes>-<its hash>`.
    pub fn new(place: Place, state: &Path) -> Location {
        match place {
            Place::Folder(folder) => Location::Folder(folder),
            Place::Prefix(prefix) => {
                let words = prefix.url().split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
                let readable: String = words.collect::<Vec<_>>().join("-").chars().take(80).collect();
                let hash = blake3::hash(prefix.url().as_bytes()).to_hex();
                let unsent = state.join("unsent").join(format!("{readable}-{}", &hash[..8]));
                Location::Store { prefix, unsent }
            }
        }
    }
}

impl From<PathBuf> for Location {
    fn from(folder: PathBuf) -> Self {
        Location::Folder(folder)
    }
}

impl From<&PathBuf> for Location {
    fn from(folder: &PathBuf) -> Self {
        Location::Folder(folder.clone())
    }
}

impl From<&Path> for Location {
    fn from(folder: &Path) -> Self {
        Location::Folder(folder.to_owned())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Self {
        location.clone()
    }
}
