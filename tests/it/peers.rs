//! The quickstart as a user has it: the repository's own configuration and the real embedded model, whose weights come
//! through pip where they are not in the cache. Structure is asserted, never truth.

use std::path::{Path, PathBuf};

use crate::pipeline::copy_folder;
use crate::scratch::Scratch;

#[test]
fn peers_the_quickstart_runs_with_the_real_model_and_replays() {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::empty();
    std::fs::copy(repository.join("seedmill.toml"), scratch.path().join("seedmill.toml")).unwrap();
    copy_folder(&repository.join("sql"), &scratch.path().join("sql"));
    assert!(Path::new(scratch.ok(&["model", "fetch"]).trim()).is_file());

    let out = scratch.ok(&["run", "--set", "seeds_per_task=1"]);
    assert!(out.contains("Funnel") && out.contains("Published in"), "{out}");
    // A grammar stands behind every answer: all but those cut off at max_tokens parse.
    let read = scratch.value("SELECT count(*) FROM calls WHERE finish_reason <> 'length'");
    assert!(read.parse::<usize>().unwrap() >= 11, "{read}");
    let again = scratch.ok(&["run", "--set", "seeds_per_task=1"]);
    assert!(again.contains("0 calls asked"), "{again}");
}
