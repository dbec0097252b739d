//! Reads all task configs under a folder, in parallel, and keeps what it read: the next load of unchanged files parses
//! nothing. Whether they are unchanged is a matter of their content alone, of every file that was read or looked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::config_folder::{config_files, family};
use super::harness_config::Definitions;
use super::yaml::{ContentHash, YamlReader, content_hash};

/// Fewer files than this are read faster than a snapshot of them is.
const WORTH_KEEPING: usize = 300;

/// Sources whose change makes other definitions of the same files.
const CODE: [&str; 6] = [
    include_str!("yaml.rs"),
    include_str!("harness_config.rs"),
    include_str!("python_class.rs"),
    include_str!("config_folder.rs"),
    include_str!("config_reader.rs"),
    env!("CARGO_PKG_VERSION"),
];

/// A config file and what it defines, or why it cannot be read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    pub path: PathBuf,
    /// The top folder it lies in.
    pub family: Option<String>,
    pub definitions: Result<Definitions, String>,
}

/// What was read of a folder, and of which contents.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    code: String,
    paths: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, ContentHash>,
    files: Vec<ConfigFile>,
}

/// The configs under `folder` (see [`super::config_folder::tasks_folder`]), in order. `cache`: the folder in which a
/// snapshot of many files is kept; one that cannot be read or written costs time and nothing else.
pub(crate) fn read_configs(folder: &Path, cache: &Path) -> Vec<ConfigFile> {
    let paths = config_files(folder);
    if paths.len() < WORTH_KEEPING {
        return read(folder, &paths).0;
    }
    let place = snapshot_place(folder, cache);
    if let Some(files) = kept(&place, &paths) {
        return files;
    }
    let (files, seen) = read(folder, &paths);
    let snapshot = Snapshot { code: code(), paths, seen, files };
    if let Err(e) = keep(&place, &snapshot) {
        tracing::debug!("the task configs of '{}' are not kept: {e}", folder.display());
    }
    snapshot.files
}

fn code() -> String {
    let mut hasher = blake3::Hasher::new();
    CODE.iter().for_each(|code| {
        hasher.update(code.as_bytes());
    });
    // Another build may have another template engine, which decides what a config's templates are.
    if let Ok(program) = std::env::current_exe().and_then(std::fs::metadata) {
        hasher.update(&program.len().to_le_bytes());
        hasher.update(format!("{:?}", program.modified().ok()).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn snapshot_place(folder: &Path, cache: &Path) -> PathBuf {
    let name = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    cache.join(format!("configs-{}.json.zst", &name[..16]))
}

fn kept(place: &Path, paths: &[PathBuf]) -> Option<Vec<ConfigFile>> {
    let file = std::fs::File::open(place).ok()?;
    let json = zstd::stream::decode_all(file).ok()?;
    let snapshot: Snapshot = serde_json::from_slice(&json).ok()?;
    if snapshot.code != code() || snapshot.paths != paths {
        return None;
    }
    let seen: Vec<_> = snapshot.seen.iter().collect();
    let changed = AtomicBool::new(false);
    in_parallel(seen.len(), |at| {
        let (path, hash) = seen[at];
        if !changed.load(Ordering::Relaxed) && content_hash(std::fs::read(path).ok().as_deref()) != *hash {
            changed.store(true, Ordering::Relaxed);
        }
    });
    (!changed.into_inner()).then_some(snapshot.files)
}

/// Two processes may keep the same at once: each writes its own file and renames it into place.
fn keep(place: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = place.with_extension(format!("{}.partial", std::process::id()));
    let json = serde_json::to_vec(snapshot)?;
    let written = std::fs::write(&partial, zstd::bulk::compress(&json, 1)?);
    let renamed = written.and_then(|()| std::fs::rename(&partial, place));
    if renamed.is_err() {
        // What is left of a failed write is of no use; a second failure would only hide the first.
        let _ = std::fs::remove_file(&partial);
    }
    renamed
}

fn read(folder: &Path, paths: &[PathBuf]) -> (Vec<ConfigFile>, BTreeMap<PathBuf, ContentHash>) {
    let reader = YamlReader::default();
    let files: Vec<Mutex<Option<ConfigFile>>> = paths.iter().map(|_| Mutex::new(None)).collect();
    in_parallel(paths.len(), |at| {
        let path = &paths[at];
        let definitions = reader.read(path).and_then(|mapping| Definitions::from_mapping(&mapping, path));
        for source in definitions.iter().flat_map(|d| &d.tasks).filter_map(|task| task.class.as_ref()?.source.as_ref())
        {
            reader.note(source, std::fs::read(source).ok().as_deref());
        }
        let file = ConfigFile { path: path.clone(), family: family(folder, path), definitions };
        *files[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    });
    let files =
        files.into_iter().filter_map(|file| file.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
    (files, reader.seen())
}

/// Does `work` for each number below `count`, on all cores.
fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            work(at);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(64));
    std::thread::scope(|scope| {
        for _ in 1..cores {
            scope.spawn(worker);
        }
        worker();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[ConfigFile]) -> Vec<String> {
        let tasks = files.iter().filter_map(|file| file.definitions.as_ref().ok()).flat_map(|d| &d.tasks);
        tasks.map(|task| format!("{}:{}", task.task, task.dataset_path.as_deref().unwrap_or_default())).collect()
    }

    #[test]
    fn a_snapshot_is_used_while_every_file_is_as_it_was_and_never_after() {
        let place = tempfile::tempdir().unwrap();
        let (folder, cache) = (place.path().join("tasks"), place.path().join("cache"));
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("_base_yaml", "dataset_path: one\n");
        for n in 0..WORTH_KEEPING {
            write(&format!("t{n:03}.yaml"), &format!("task: t{n:03}\ninclude: _base_yaml\n"));
        }
        write("lost.yaml", "task: lost\ninclude: _later_yaml\n");
        write("task.py", "class A(B):\n    DATASET_PATH = 'old'\n");
        write("python.yaml", "task: python\nclass: !function task.A\n");
        let load = || names(&read_configs(&folder, &cache));
        let snapshot = || {
            let entry = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
            entry.metadata().unwrap().modified().unwrap()
        };
        let first = load();
        assert_eq!((first.len(), first[0].as_str(), first[1].as_str()), (WORTH_KEEPING + 1, "python:old", "t000:one"));
        let kept = snapshot();
        assert_eq!(load(), first);
        assert_eq!(snapshot(), kept, "unchanged files are not read anew");
        // Another content of the same length and, it may be, of the same time.
        write("_base_yaml", "dataset_path: two\n");
        assert_eq!(load()[1], "t000:two");
        write("task.py", "class A(B):\n    DATASET_PATH = 'new'\n");
        assert_eq!(load()[0], "python:new");
        write("_later_yaml", "dataset_path: late\n");
        assert_eq!(load()[0], "lost:late");
        write("t999.yaml", "task: more\n");
        assert_eq!(load().last().unwrap(), "more:");
        std::fs::remove_file(folder.join("t999.yaml")).unwrap();
        assert_eq!(load().len(), WORTH_KEEPING + 2);
        std::fs::write(snapshot_place(&folder, &cache), b"torn").unwrap();
        assert_eq!(load().len(), WORTH_KEEPING + 2);
    }
}
