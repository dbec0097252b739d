//! `seedmill init`: a working pipeline folder out of the program itself, so that an installed binary needs no checkout.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use datafusion::common::{DataFusionError, Result, plan_err};
use include_dir::{Dir, include_dir};

use super::arguments::InitArguments;
use super::{EXIT_OK, output};
use crate::config::CONFIG_FILE;

/// The standard pipeline: stages, filters, prompts and example tasks.
static SQL: Dir = include_dir!("$CARGO_MANIFEST_DIR/sql");
const CONFIG: &str = include_str!("../../seedmill.toml");

pub fn init(arguments: InitArguments) -> Result<u8> {
    let folder = arguments.folder.unwrap_or_else(|| PathBuf::from("."));
    let mut files: Vec<(PathBuf, &[u8])> = vec![(PathBuf::from(CONFIG_FILE), CONFIG.as_bytes())];
    collect(&SQL, &mut files);
    // All or nothing: what is there is somebody's work.
    if let Some((there, _)) = files.iter().find(|(file, _)| folder.join(file).exists()) {
        return plan_err!(
            "{} is there already, and nothing was written: name another folder",
            folder.join(there).display()
        );
    }
    for (file, bytes) in &files {
        write(&folder.join(file), bytes)?;
    }
    let (place, here) = match folder == Path::new(".") {
        true => ("this folder".to_owned(), String::new()),
        false => (folder.display().to_string(), format!("cd {}\n", folder.display())),
    };
    output::text(&format!(
        "{} files are in {place}. Next:\n\n{here}seedmill tasks          # what there is to start from\nseedmill explain        \
         # the plan, without a call\nseedmill run            # with the small model in the program; models of yours: \
         {CONFIG_FILE}\n",
        files.len()
    ))?;
    Ok(EXIT_OK)
}

fn collect(dir: &Dir<'static>, files: &mut Vec<(PathBuf, &'static [u8])>) {
    files.extend(dir.files().map(|file| (Path::new("sql").join(file.path()), file.contents())));
    dir.dirs().for_each(|dir| collect(dir, files));
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Never over a file that came to be meanwhile.
        fs::File::create_new(path)?.write_all(bytes)
    };
    write().map_err(|e| DataFusionError::Execution(format!("{} cannot be written: {e}", path.display())))
}
