//! One program in a process of its own. In: its text. Out: how it ended. It is killed, with all that it started, when its
//! time is over or nobody waits for it any more.

use std::process::Stdio;
use std::time::Duration;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::config::RunCode;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Status,
    /// The last line of standard error, if there is any.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Failed,
    Timeout,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Timeout => "timeout",
        }
    }
}

/// Limits itself (bytes of memory, seconds of processor; 1 MB in a file, no core dump), then is the program.
const LIMITED: &str = "\
import resource, sys
for name, most in (('AS', int(sys.argv[1])), ('CPU', int(sys.argv[2])), ('FSIZE', 1000000), ('CORE', 0)):
    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (most, most))
del name, most
exec(compile(sys.stdin.read(), 'answer', 'exec'), {'__name__': '__main__'})
";

/// Of standard error the end is kept.
const KEPT: usize = 4096;

/// Bytes of an error line at most.
const ERROR: usize = 500;

/// Whether the interpreter can be started, as one sentence if not.
pub async fn check(settings: &RunCode) -> Result<()> {
    let ended = run(settings, "").await?;
    match ended.status {
        Status::Ok => Ok(()),
        status => Err(exec_datafusion_err!(
            "[run_code] python = {:?}: an empty program ends with '{}' ({}); raise timeout_seconds or memory_mb, or name another Python",
            settings.python,
            status.as_str(),
            ended.error.unwrap_or_default()
        )),
    }
}

/// Runs a program.
///
/// # Errors
/// The interpreter cannot be started, or the system has no folder or process for it.
pub async fn run(settings: &RunCode, program: &str) -> Result<Ended> {
    let cannot = |e: std::io::Error| -> DataFusionError {
        exec_datafusion_err!("[run_code] python = {:?} cannot be run: {e}", settings.python)
    };
    let folder = tempfile::tempdir().map_err(cannot)?;
    let seconds = settings.timeout_seconds.ceil() as u64 + 1;
    let mut command = Command::new(&settings.python);
    command
        .args(["-I", "-c", LIMITED, &(settings.memory_mb * 1_000_000).to_string(), &seconds.to_string()])
        .current_dir(folder.path())
        // Keys of endpoints and stores are in the environment.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(cannot)?;
    let _group = Group(child.id());
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let work = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that ends before it has read all has its reasons, which its status tells.
                let _ = stdin.write_all(program.as_bytes()).await;
            }
        };
        let read = async {
            match stderr {
                Some(stderr) => end_of(stderr).await,
                None => Ok(Vec::new()),
            }
        };
        let ((), said, status) = tokio::join!(write, read, child.wait());
        Ok::<_, std::io::Error>((said?, status?))
    };
    match tokio::time::timeout(Duration::from_secs_f64(settings.timeout_seconds), work).await {
        Err(_) => Ok(Ended { status: Status::Timeout, error: None }),
        Ok(Err(e)) => Err(cannot(e)),
        Ok(Ok((said, status))) => {
            let error = last_line(&String::from_utf8_lossy(&said));
            let ended = if status.success() { Status::Ok } else { Status::Failed };
            Ok(Ended { status: ended, error: error.or_else(|| (!status.success()).then(|| status.to_string())) })
        }
    }
}

/// The last bytes of what is written there.
async fn end_of(mut from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; KEPT]);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line[..line.floor_char_boundary(ERROR)].to_owned())
}

/// The processes that a program has started, by its own number.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: numbers go in. While one of the group runs its number is given to no other; where none does there is
            // no such group.
            unsafe {
                nix::libc::killpg(id, nix::libc::SIGKILL);
            }
        }
    }
}
