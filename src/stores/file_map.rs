//! Values by file. In: values under paths, URLs and patterns. Out: those of a file, by whichever name it is read.

use std::collections::{BTreeMap, HashMap, HashSet};

use datafusion::common::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::{ListedFile, Location, Walked, wait};

/// Values by the files that locations name.
#[derive(Debug)]
pub struct FileMap<T> {
    /// The locations so far.
    named: HashSet<String>,
    /// Of names, by where the files really lie. One may turn out to be a folder's.
    files: BTreeMap<Key, T>,
    /// Of folders and patterns, in order.
    many: Vec<(Location, T)>,
    /// Of what lies elsewhere and is among those by a link.
    linked: BTreeMap<Key, Vec<T>>,
}

type Key = (ObjectStoreUrl, Path);

impl<T> Default for FileMap<T> {
    fn default() -> Self {
        FileMap { named: HashSet::new(), files: BTreeMap::new(), many: Vec::new(), linked: BTreeMap::new() }
    }
}

impl<T: Clone> FileMap<T> {
    /// Of two values for one name, or for two names of one file, the first stands.
    pub fn insert(&mut self, location: &str, value: T) {
        if !self.named.insert(location.to_owned()) {
            return;
        }
        // What is no location names no file: who reads it is told so.
        let Ok(location) = Location::of(location) else { return };
        if location.is_many() {
            self.many.push((location.past_links(), value));
        } else {
            let file = location.file();
            self.files.entry((file.store, file.real)).or_insert(value);
        }
    }

    /// Takes in where the links among the files of folders and patterns lead to: there they may be read too.
    pub fn follow_links(&mut self) {
        let mut walked: HashMap<&str, Vec<ObjectMeta>> = HashMap::new();
        for (location, value) in self.many.iter().filter(|(location, _)| location.is_local()) {
            let url = location.url();
            let all = walked.entry(url.as_str()).or_insert_with(|| {
                let listed = wait(LocalFileSystem::new().list(Some(url.prefix())).try_collect());
                // What cannot be listed cannot be read by its folder or pattern either.
                listed.ok().and_then(|listed| listed.ok()).unwrap_or_default()
            });
            for file in all.iter().filter(|file| location.has(&file.location)) {
                let mut file = ListedFile::new(location.url(), &file.location);
                file.path = file.real.clone();
                if !location.contains(&file) {
                    self.linked.entry((file.store, file.real)).or_default().push(value.clone());
                }
            }
        }
    }

    /// Whether a name is that of this file alone.
    pub fn has_name_of(&self, file: &ListedFile) -> bool {
        self.files.contains_key(&(file.store.clone(), file.real.clone()))
    }

    /// The values of a file: of its own name, then of the folders and patterns that it is among.
    pub fn find(&self, file: &ListedFile) -> Vec<&T> {
        let key = (file.store.clone(), file.real.clone());
        let mut found: Vec<&T> = Vec::new();
        let (mut at, mut depth) = (key.clone(), 0);
        loop {
            found.extend(self.files.get(&at));
            // As a folder is listed: what is in it, and in its partitions.
            depth += usize::from(at.1.filename().is_none_or(|name| !name.contains('=')));
            match at.1.parent().filter(|_| depth < 2) {
                Some(folder) => at.1 = folder,
                None => break,
            }
        }
        found.extend(self.linked.get(&key).into_iter().flatten());
        found.extend(self.many.iter().filter(|(location, _)| location.contains(file)).map(|(_, value)| value));
        found
    }

    /// A value of one of the files that a location names.
    ///
    /// # Errors
    /// Whether two patterns have a file in common is only known by their files: they cannot be listed.
    pub fn find_any(&self, location: &str, walked: &Walked) -> Result<Option<&T>> {
        let Ok(location) = Location::of(location) else { return Ok(None) };
        if !location.is_many() {
            return Ok(self.find(&location.file()).first().copied());
        }
        let location = location.past_links();
        let known = self.files.iter().find(|((store, path), _)| {
            location.contains(&ListedFile { store: store.clone(), path: path.clone(), real: path.clone() })
        });
        if let Some((_, value)) = known {
            return Ok(Some(value));
        }
        if let Some((_, value)) = self.many.iter().find(|(other, _)| other.is_same(&location)) {
            return Ok(Some(value));
        }
        // On this machine a link among its files may lead anywhere.
        if !location.is_local() && !self.many.iter().any(|(other, _)| other.is_near(&location)) {
            return Ok(None);
        }
        let listed = walked.files(&location)?;
        let mut files = listed.iter().map(|file| ListedFile::new(location.url(), &file.location));
        Ok(files.find_map(|file| self.find(&file).first().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::{Stores, Variables};

    #[test]
    fn a_file_has_the_values_of_its_name_and_of_the_folders_and_patterns_it_is_among() {
        let mut map = FileMap::default();
        for (location, value) in [
            ("s3://b/exam/1.jsonl", 1),
            ("s3://b/exam/1.jsonl", 2),
            ("s3://b/exam/*.jsonl", 3),
            ("s3://b/*/1.jsonl", 4),
            ("s3://b/rows.parquet", 5),
            ("s3://b/rows/", 6),
            ("s3://b/[", 7),
        ] {
            map.insert(location, value);
        }
        let found = |file: &str| map.find(&Location::of(file).unwrap().file()).into_iter().copied().collect::<Vec<_>>();
        assert_eq!(found("s3://b/exam/1.jsonl"), [1, 3, 4]);
        assert_eq!(found("s3://b/exam/2.jsonl"), [3]);
        assert_eq!(found("s3://b/other/1.jsonl"), [4]);
        assert_eq!(found("s3://b/rows.parquet/part-0.parquet"), [5]);
        assert_eq!(found("s3://b/rows.parquet/year=1/month=2/part-0.parquet"), [5]);
        assert_eq!(found("s3://b/rows.parquet/deep/part-0.parquet"), [0; 0]);
        assert_eq!(found("s3://b/rows/year=1/a.csv"), [6]);
        assert_eq!(found("s3://c/exam/1.jsonl"), [0; 0]);
    }

    #[test]
    fn two_locations_are_compared_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        for file in ["exam/1.jsonl", "exam/2.jsonl", "train/1.jsonl", "train/x.jsonl"] {
            std::fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let at = |below: &str| root.path().join(below).to_string_lossy().into_owned();
        let mut map = FileMap::default();
        map.insert(&at("exam/*.jsonl"), "exam");
        map.insert(&at("train/x.jsonl"), "x");
        map.insert("s3://b/exam/*.jsonl", "far");
        let alone = [("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())];
        let walked = Walked::new(&Stores::new(Variables::of(alone)));
        let any = |location: &str| map.find_any(location, &walked).unwrap().copied();
        assert_eq!(any(&at("exam/1.jsonl")), Some("exam"));
        assert_eq!(any(&at("train/../exam/1.jsonl")), Some("exam"));
        assert_eq!(any(&at("exam/*.jsonl")), Some("exam"));
        assert_eq!(any(&at("*/2.jsonl")), Some("exam"));
        assert_eq!(any(&at("train/*.jsonl")), Some("x"));
        assert_eq!(any(&at("train/")), Some("x"));
        assert_eq!(any(&at("train/1.jsonl")), None);
        assert_eq!(any(&at("*/[3-9].jsonl")), None);
        // Nothing is asked of a store that cannot have a file of both.
        assert_eq!(any("s3://b/train/*.jsonl"), None);
        assert_eq!(any("s3://b/exam/*.jsonl"), Some("far"));
        assert!(map.find_any("s3://b/*/1.jsonl", &walked).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_from_and_to_the_files_of_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let at = |below: &str| root.join(below).to_string_lossy().into_owned();
        std::fs::create_dir_all(at("real")).unwrap();
        std::fs::write(at("real/1.jsonl"), "").unwrap();
        std::fs::write(at("blob"), "").unwrap();
        std::os::unix::fs::symlink(at("real"), at("exam")).unwrap();
        std::os::unix::fs::symlink(at("blob"), at("real/2.jsonl")).unwrap();
        std::os::unix::fs::symlink(at("real/1.jsonl"), at("mine.jsonl")).unwrap();
        let mut map = FileMap::default();
        map.insert(&at("exam/*.jsonl"), ());
        let found = |map: &FileMap<()>, below: &str| map.find(&Location::of(&at(below)).unwrap().file()).len();
        for file in ["exam/1.jsonl", "real/1.jsonl", "mine.jsonl", "real/2.jsonl"] {
            assert_eq!(found(&map, file), 1, "{file}");
        }
        assert_eq!(found(&map, "blob"), 0);
        map.follow_links();
        for file in ["blob", "real/2.jsonl", "exam/2.jsonl"] {
            assert!(found(&map, file) > 0, "{file}");
        }
        assert_eq!(found(&map, "real/1.jsonl"), 1);
    }
}
