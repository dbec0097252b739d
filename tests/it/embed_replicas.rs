//! `embed` with a model at several addresses, one of which is dead, lacks the model or breaks off.

use std::collections::BTreeMap;

use crate::closed_port::ClosedPort;
use crate::fault_server::{Asked, FaultServer, Reply, embeddings};
use crate::scratch::Scratch;

const ROWS: usize = 1000;

/// Rows, vectors, distinct vectors and the least error.
const SQL: &str = "SELECT count(*), count(embedding), count(DISTINCT embedding), min(embed_call['error']) FROM embed(\
                   (SELECT value FROM generate_series(1, 1000)), model => 'm', text => 'the text ' || value)";

/// A workspace whose model `m` is at these addresses, the first of which is asked first.
fn workspace(urls: &[&str]) -> Scratch {
    let scratch = Scratch::new(urls[0], 4, "");
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = {urls:?}\nmodel = \"m-1\"\nmax_retries = 6\n\
             retry_base_seconds = 0.1\nmax_in_flight = 4\nembed_batch_size = 50\n"
        ),
    );
    scratch
}

/// How often each text was in one of these requests.
fn texts<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in asked {
        for text in one.body["input"].as_array().unwrap() {
            *counts.entry(text.to_string()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn with_an_address_that_is_dead_or_lacks_the_model_every_text_comes_and_is_paid_once() {
    let dead = ClosedPort::hold();
    let lacking = FaultServer::start(|_, _| Reply::Status(404, None, "The model `m-1` does not exist.".into()));
    for wrong in [dead.url().as_str(), lacking.url()] {
        let well = [FaultServer::start(embeddings), FaultServer::start(embeddings)];
        let scratch = workspace(&[wrong, well[0].url(), well[1].url()]);
        assert_eq!(scratch.value(SQL), format!("{ROWS},{ROWS},{ROWS},"), "{wrong}");
        let asked = well.each_ref().map(FaultServer::asked);
        assert!(asked.iter().all(|asked| !asked.is_empty()), "{wrong}: both take their share");
        let counts = texts(asked.iter().flatten());
        assert_eq!((counts.len(), counts.values().max()), (ROWS, Some(&1)), "{wrong}");
        let recorded = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM attempts WHERE billed)";
        assert_eq!(scratch.value(recorded), format!("{ROWS} {ROWS}"), "{wrong}");
        // It was tried, and nobody says that it was paid.
        let failed = "SELECT count(*) > 0 FROM attempts WHERE error_kind IS NOT NULL AND NOT billed";
        assert_eq!(scratch.value(failed), "true", "{wrong}");
    }
}

#[test]
fn a_server_that_breaks_off_after_some_batches_costs_no_text_and_what_it_answered_is_kept() {
    let breaks = FaultServer::start(|body, nth| match nth {
        0..3 => embeddings(body, nth),
        _ => Reply::CloseBeforeHeaders,
    });
    let well = FaultServer::start(embeddings);
    let scratch = workspace(&[breaks.url(), well.url()]);
    assert_eq!(scratch.value(SQL), format!("{ROWS},{ROWS},{ROWS},"));
    let (at_one, at_other) = (breaks.asked(), well.asked());
    assert!(at_one.len() > 3, "nothing broke off: {}", at_one.len());
    let counts = texts(at_one[..3].iter().chain(&at_other));
    assert_eq!((counts.len(), counts.values().max()), (ROWS, Some(&1)), "each is answered once");
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), ROWS.to_string());
}
