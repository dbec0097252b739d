//! What lies below the folders of patterns, while tasks are loaded. In: patterns and folders. Out: their files, for which each
//! folder is walked once, however many patterns begin in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::Result;
use futures::TryStreamExt;
use object_store::ObjectMeta;

use super::{Location, Stores, wait};

/// Files that are there since their folder was walked: for who looks at them all at one time.
#[derive(Debug)]
pub struct Walked {
    stores: Arc<Stores>,
    /// By URL, in order of their paths.
    below: Mutex<HashMap<String, Arc<[ObjectMeta]>>>,
}

impl Walked {
    pub fn new(stores: &Arc<Stores>) -> Walked {
        Walked { stores: Arc::clone(stores), below: Mutex::default() }
    }

    /// The files of a folder or pattern, in order of their paths.
    pub fn files(&self, location: &Location) -> Result<Vec<ObjectMeta>> {
        let all = self.below(location)?;
        Ok(all.iter().filter(|file| location.has(&file.location)).cloned().collect())
    }

    fn below(&self, location: &Location) -> Result<Arc<[ObjectMeta]>> {
        let url = location.url();
        let known = || self.below.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = known().get(url.as_str()) {
            return Ok(Arc::clone(all));
        }
        let store = self.stores.store(url.get_url())?;
        let mut all: Vec<ObjectMeta> = wait(store.list(Some(url.prefix())).try_collect())??;
        all.sort_by(|a, b| a.location.cmp(&b.location));
        let all: Arc<[ObjectMeta]> = all.into();
        known().insert(url.as_str().to_owned(), Arc::clone(&all));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Variables;

    #[test]
    fn a_folder_is_walked_once_for_all_its_patterns() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str| {
            std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(file), "").unwrap();
        };
        ["b/1.jsonl", "a/1.jsonl", "a/2.jsonl"].into_iter().for_each(write);
        let walked = Walked::new(&Stores::new(Variables::default()));
        let names = |pattern: &str| {
            let location = Location::of(&root.path().join(pattern).to_string_lossy()).unwrap();
            let files = walked.files(&location).unwrap();
            files.iter().map(|file| file.location.filename().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("*/1.jsonl"), ["1.jsonl", "1.jsonl"]);
        write("a/3.jsonl");
        assert_eq!(names("*/[23].jsonl"), ["2.jsonl"]);
        assert_eq!(names("a/*.jsonl"), ["1.jsonl", "2.jsonl", "3.jsonl"]);
    }
}
