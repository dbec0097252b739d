//! The names in a ledger's folder, and the order of steps that makes them safe.
//!
//! `log-<unique>.log`: a log, locked by its owner while it lives. `log-<unique>.log.new`: a log about to begin.
//! `segment-<unique>/{calls,attempts,call_uses}.parquet`: a sealed log; it replaces the log of the same name.
//! `segment-<unique>.tmp/`: a segment half written. `log-<unique>.damaged`: a sealed log of which a part could not
//! be read. `claims/`: empty files whose bytes are locked by who asks a call. `<unique>` begins with the time in
//! hexadecimal, so names sort by age, and is never used again.
//! `segment-<unique>.c<n>/`: several segments merged; it stands at the age of the oldest, and its `replaces.json`
//! names the segments (and their logs) that count no more. `compaction-<unique>.tmp/`: one half written.
//! `compaction.lock`: locked by who merges. `in_use.lock`: locked by who has a hold on the folder, where several machines
//! have it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::LedgerError;
use super::crash_points;
use super::log;

/// Room behind a log's last frame.
const LEAST_ROOM: u64 = 64 << 10;
const MOST_ROOM: u64 = 1 << 20;

pub(super) fn log_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.log"))
}

pub(super) fn damaged_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.damaged"))
}

pub(super) fn segment_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("segment-{unique}"))
}

pub(super) fn unfinished_segment_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("segment-{unique}.tmp"))
}

pub(super) fn unfinished_compaction_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("compaction-{unique}.tmp"))
}

/// The name of what replaces a segment and younger ones: right after it in age, and never used before.
pub(super) fn successor(unique: &str) -> String {
    let (base, generation) = unique.split_once(".c").unwrap_or((unique, "0"));
    let generation: u32 = generation.parse().unwrap_or(0);
    format!("{base}.c{:06}", generation + 1)
}

fn new_log_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.log.new"))
}

/// What a folder holds: the `<unique>` parts, sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) logs: BTreeSet<String>,
    pub(super) segments: BTreeSet<String>,
    /// Logs and segments whose records stand in a merged segment: they count no more.
    pub(super) replaced: BTreeSet<String>,
    unfinished_segments: BTreeSet<String>,
    unfinished_compactions: BTreeSet<String>,
    new_logs: BTreeSet<String>,
}

impl Listing {
    /// All logs and segments that count, oldest first; a log that is also a segment stands once.
    pub(super) fn uniques(&self) -> impl Iterator<Item = &str> {
        self.logs.union(&self.segments).map(String::as_str)
    }

    /// Whether a log, begun or about to, is older than this: what is no segment yet may still grow.
    pub(super) fn has_log_before(&self, unique: &str) -> bool {
        let growing = |logs: &BTreeSet<String>| {
            logs.iter().take_while(|log| log.as_str() < unique).any(|log| !self.segments.contains(log))
        };
        growing(&self.logs) || growing(&self.new_logs)
    }
}

/// Lists a folder; empty where there is none.
///
/// Logs are listed before segments: a log that vanishes meanwhile was renamed into a segment before, so the second
/// pass sees it. Where segments may be merged meanwhile, a [`super::hold::Hold`] must keep the merged ones in place:
/// then a pass that misses the new segment sees all of the old ones.
pub(super) fn list(folder: &Path) -> Result<Listing, LedgerError> {
    let mut listing = Listing::default();
    for name in names(folder)? {
        if let Some(unique) = name.strip_prefix("log-").and_then(|n| n.strip_suffix(".log")) {
            listing.logs.insert(unique.to_owned());
        } else if let Some(unique) = name.strip_prefix("log-").and_then(|n| n.strip_suffix(".log.new")) {
            listing.new_logs.insert(unique.to_owned());
        }
    }
    for name in names(folder)? {
        if let Some(rest) = name.strip_prefix("segment-") {
            match rest.strip_suffix(".tmp") {
                Some(unique) => listing.unfinished_segments.insert(unique.to_owned()),
                None => listing.segments.insert(rest.to_owned()),
            };
        } else if let Some(unique) = name.strip_prefix("compaction-").and_then(|n| n.strip_suffix(".tmp")) {
            listing.unfinished_compactions.insert(unique.to_owned());
        }
    }
    leave_out_replaced(folder, &mut listing)?;
    Ok(listing)
}

const REPLACES: &str = "replaces.json";

/// Writes down, in a segment half written, which ones it replaces.
pub(super) fn write_replaces(segment: &Path, replaces: &BTreeSet<String>) -> Result<(), LedgerError> {
    let path = segment.join(REPLACES);
    let json = serde_json::to_vec(replaces).map_err(|e| LedgerError::format(&path, e.to_string()))?;
    let write = || {
        let mut file = File::create_new(&path)?;
        file.write_all(&json)?;
        file.sync_all()
    };
    write().map_err(LedgerError::io("write", &path))
}

/// The logs and segments that a merged segment replaces; `None` for one that is not merged, or is being deleted.
pub(super) fn replaces(folder: &Path, unique: &str) -> Result<Option<BTreeSet<String>>, LedgerError> {
    if !unique.contains(".c") {
        return Ok(None);
    }
    let path = segment_path(folder, unique).join(REPLACES);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|e| LedgerError::format(&path, e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerError::io("read", &path)(e)),
    }
}

fn leave_out_replaced(folder: &Path, listing: &mut Listing) -> Result<(), LedgerError> {
    let mut replaced = BTreeSet::new();
    for unique in &listing.segments {
        // A merged segment that is itself replaced may have lost its list: the newer one's names what it named.
        replaced.extend(self::replaces(folder, unique)?.into_iter().flatten());
    }
    let counts = |unique: &String| !replaced.contains(unique);
    listing.replaced = listing.logs.union(&listing.segments).filter(|unique| !counts(unique)).cloned().collect();
    listing.logs.retain(counts);
    listing.segments.retain(counts);
    Ok(())
}

/// Deletes what merged segments have replaced. Nobody else may have a hold on the folder.
pub(super) fn remove_replaced(folder: &Path) -> Result<(), LedgerError> {
    for unique in &list(folder)?.replaced {
        let log = log_path(folder, unique);
        if let Some(_locked) = lock(&log)? {
            ignore_not_found(fs::remove_file(&log)).map_err(LedgerError::io("remove", &log))?;
        }
        let segment = segment_path(folder, unique);
        ignore_not_found(fs::remove_dir_all(&segment)).map_err(LedgerError::io("remove", &segment))?;
        crash_points::pass("replaced segment removed");
    }
    Ok(())
}

/// The lock of who merges segments; `None` while another has it. It ends with the file.
pub(super) fn lock_compaction(folder: &Path) -> Result<Option<File>, LedgerError> {
    let path = folder.join("compaction.lock");
    OpenOptions::new().create(true).append(true).open(&path).map_err(LedgerError::io("open", &path))?;
    lock(&path)
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, LedgerError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LedgerError::io("list", folder)(e)),
    };
    entries
        .map(|entry| entry.map(|e| e.file_name()))
        .filter_map(|name| name.map(|n| n.into_string().ok()).transpose()) // foreign files are none of ours
        .collect::<io::Result<_>>()
        .map_err(LedgerError::io("list", folder))
}

/// Removes what dead processes left half done: segments never renamed, logs never begun.
pub(super) fn sweep(folder: &Path, listing: &Listing) -> Result<(), LedgerError> {
    for unique in &listing.unfinished_segments {
        // Who seals a log holds its lock until the log is deleted. Without a log nobody is at work here.
        if !log_path(folder, unique).exists() {
            let path = unfinished_segment_path(folder, unique);
            ignore_not_found(fs::remove_dir_all(&path)).map_err(LedgerError::io("remove", &path))?;
        }
    }
    // Who merges holds this lock.
    if !listing.unfinished_compactions.is_empty()
        && let Some(_locked) = lock_compaction(folder)?
    {
        sweep_compactions(folder, listing)?;
    }
    for unique in &listing.new_logs {
        let path = new_log_path(folder, unique);
        if let Some(_locked) = lock(&path)? {
            ignore_not_found(fs::remove_file(&path)).map_err(LedgerError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes half-written merged segments. The caller has the lock of who merges.
pub(super) fn sweep_compactions(folder: &Path, listing: &Listing) -> Result<(), LedgerError> {
    for unique in &listing.unfinished_compactions {
        let path = unfinished_compaction_path(folder, unique);
        ignore_not_found(fs::remove_dir_all(&path)).map_err(LedgerError::io("remove", &path))?;
    }
    Ok(())
}

pub(super) fn ignore_not_found(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a file and takes its lock; `None` where another holds it, or where the file is gone.
pub(super) fn lock(path: &Path) -> Result<Option<File>, LedgerError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(LedgerError::io("open", path)(e)),
    };
    match file.try_lock() {
        // The last owner may have sealed and deleted it between our opening and our locking.
        Ok(()) => Ok(path.exists().then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(LedgerError::io("lock", path)(e)),
    }
}

/// A log that this process holds the lock of.
#[derive(Debug)]
pub(super) struct OwnedLog {
    pub(super) unique: String,
    pub(super) file: File,
    /// Bytes that are written and durable.
    pub(super) len: u64,
    /// How long the file is: behind `len` are zeros.
    pub(super) room: u64,
}

impl OwnedLog {
    /// Writes zeros behind where the next `bytes` will stand, if they do not fit in the room that is there. A file
    /// that does not grow is synced without its metadata: on ext4 0.1 ms in place of 4 ms.
    pub(super) fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.len + bytes;
        if end <= self.room {
            return Ok(());
        }
        // As much again as there is, so that a short log stays short.
        let zeros = vec![0; self.len.clamp(LEAST_ROOM, MOST_ROOM) as usize];
        let written = self.file.seek(SeekFrom::Start(end)).and_then(|_| self.file.write_all(&zeros));
        match written {
            Ok(()) => self.room = end + zeros.len() as u64,
            // A full disk: what is to be written may still fit.
            Err(_) => self.file.set_len(self.room)?,
        }
        self.file.seek(SeekFrom::Start(self.len)).map(drop)
    }
}

/// Begins a log: its name appears only when its header is durable and its lock is held, so nobody can take it
/// for a dead process's. `announce` hears the name before that, so that nobody here takes it for another process's.
pub(super) fn create_log(folder: &Path, announce: impl Fn(&str)) -> Result<OwnedLog, LedgerError> {
    loop {
        let unique = unique(folder)?;
        let new = new_log_path(folder, &unique);
        let mut file = match OpenOptions::new().read(true).write(true).create_new(true).open(&new) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(LedgerError::io("create", &new)(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue, // another process's sweep was quicker
            Err(TryLockError::Error(e)) => return Err(LedgerError::io("lock", &new)(e)),
        }
        file.write_all(&log::header()).and_then(|()| file.sync_all()).map_err(LedgerError::io("write", &new))?;
        announce(&unique);
        match fs::rename(&new, log_path(folder, &unique)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // swept
            Err(e) => return Err(LedgerError::io("rename", &new)(e)),
        }
        sync_folder(folder)?;
        return Ok(OwnedLog { unique, file, len: log::HEADER_LEN, room: log::HEADER_LEN });
    }
}

/// Makes a folder, and those above it, so that a crash of the machine does not take one away, and with it all that has
/// been synced in it since.
pub(super) fn create(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(folder)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // A folder above may be one that we may not read.
        if let Err(e) = sync_folder(parent) {
            tracing::debug!("{e}");
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    // Only Unix opens folders as files; elsewhere the file system keeps the order of renames itself.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(LedgerError::io("sync", folder))?;
    }
    Ok(())
}

/// A name younger than every other in the folder, also where the clock went back: that a segment repeats no older
/// call stays true only if nothing older comes after it.
fn unique(folder: &Path) -> Result<String, LedgerError> {
    let time_of = |name: &String| {
        let unique = name.strip_prefix("log-").or_else(|| name.strip_prefix("segment-"))?;
        u128::from_str_radix(unique.get(..12)?, 16).ok()
    };
    let newest = names(folder)?.iter().filter_map(time_of).max();
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_millis());
    // A year ahead of the clock is no name of ours.
    let after = newest.filter(|newest| *newest < now + 366 * 86_400_000).map_or(0, |newest| newest + 1);
    Ok(format!("{:012x}-{:016x}", now.max(after), RandomState::new().hash_one(std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_those_above_it_where_it_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        for _ in 0..2 {
            create(&folder).unwrap();
            assert!(folder.is_dir());
        }
        File::create(root.path().join("file")).unwrap();
        assert!(create(&root.path().join("file/a")).is_err());
    }

    #[test]
    fn a_log_that_was_never_begun_is_swept_unless_its_owner_lives() {
        let folder = tempfile::tempdir().unwrap();
        let dead = new_log_path(folder.path(), "1");
        let alive = new_log_path(folder.path(), "2");
        File::create(&dead).unwrap();
        let owner = File::create(&alive).unwrap();
        owner.try_lock().unwrap();
        sweep(folder.path(), &list(folder.path()).unwrap()).unwrap();
        assert!(!dead.exists() && alive.exists());
    }

    #[test]
    fn a_log_is_announced_before_its_name_appears() {
        let folder = tempfile::tempdir().unwrap();
        let (path, announced) = (folder.path(), std::cell::Cell::new(0));
        let log = create_log(path, |unique| {
            assert!(!log_path(path, unique).exists(), "another task could take it for another process's");
            announced.set(announced.get() + 1);
        });
        assert_eq!(announced.get(), 1);
        assert!(log_path(path, &log.unwrap().unique).exists());
    }

    #[test]
    fn later_names_sort_after_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let early = create_log(folder.path(), |_| {}).unwrap().unique;
        let late = create_log(folder.path(), |_| {}).unwrap().unique;
        assert!(early < late);
        assert!(early < successor(&early) && successor(&early) < successor(&successor(&early)));
        assert!(successor(&early) < late);
    }

    #[test]
    fn a_name_is_the_youngest_also_when_the_clock_went_back() {
        let folder = tempfile::tempdir().unwrap();
        let millis = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() + 3_600_000;
        let ahead = format!("{millis:012x}-0123456789abcdef");
        fs::create_dir(segment_path(folder.path(), &ahead)).unwrap();
        assert!(create_log(folder.path(), |_| {}).unwrap().unique > ahead);
    }

    #[test]
    fn what_a_merged_segment_replaces_does_not_count_though_its_own_list_is_half_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        for unique in ["1", "2", "1.c000001", "1.c000002", "3"] {
            fs::create_dir(segment_path(folder.path(), unique)).unwrap();
        }
        File::create(log_path(folder.path(), "1")).unwrap();
        write_replaces(&segment_path(folder.path(), "1.c000002"), &names(&["1", "2", "1.c000001"])).unwrap();
        let listing = list(folder.path()).unwrap();
        assert_eq!(listing.segments, names(&["1.c000002", "3"]));
        assert!(listing.logs.is_empty());
        assert_eq!(listing.replaced, names(&["1", "1.c000001", "2"]));
        remove_replaced(folder.path()).unwrap();
        assert_eq!(list(folder.path()).unwrap().replaced, names(&[]));
        assert_eq!(super::names(folder.path()).unwrap().len(), 2);
    }
}
