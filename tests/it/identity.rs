//! What makes a call another call, and what does not: each thing changed by itself, against a server that counts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use seedmill::endpoint::{Message, ModelIdentity, Parameters, Request};
use seedmill::ledger::CallKey;
use seedmill::session::OpenOptions;
use serde_json::json;

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

/// Input rows, each one call.
const ROWS: usize = 6;

/// Six questions, asked in one way; each case changes one thing.
#[derive(Clone)]
struct Ask {
    /// The name of the model's table in `seedmill.toml`, and the keys in it.
    model: &'static str,
    config: BTreeMap<&'static str, String>,
    /// Statements before the query.
    settings: &'static str,
    /// The query around the table function, which stands at `{}`.
    select: &'static str,
    function: &'static str,
    input: &'static str,
    arguments: BTreeMap<&'static str, &'static str>,
    out: Option<String>,
    rows: usize,
}

impl Ask {
    fn new(server: &FaultServer) -> Self {
        Ask {
            model: "m",
            config: BTreeMap::from([
                ("provider", "\"openai\"".into()),
                ("base_urls", format!("[\"{}\"]", server.url())),
                ("model", "\"m-1\"".into()),
            ]),
            settings: "",
            select: "SELECT * FROM {}",
            function: "generate",
            input: "SELECT value FROM generate_series(1, 6)",
            arguments: BTreeMap::from([
                ("system", "'Be short.'"),
                ("prompt", "'question ' || value"),
                ("returns", "'q TEXT'"),
                ("temperature", "0.5"),
                ("top_p", "0.9"),
                ("max_tokens", "50"),
                ("seed", "7"),
                ("stop", "'END'"),
                ("extra", "'{\"top_k\": 40, \"min_p\": 0.1}'"),
                ("variant", "'v1'"),
            ]),
            out: None,
            rows: ROWS,
        }
    }

    fn config(mut self, key: &'static str, value: &str) -> Self {
        self.config.insert(key, value.to_owned());
        self
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.arguments.insert(name, value);
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.arguments.remove(name).unwrap();
        self
    }

    /// Instead of system and prompt.
    fn messages(self, messages: &'static str) -> Self {
        self.without("system").without("prompt").with("messages", messages)
    }

    /// Asks in a session of its own.
    fn run(&self, scratch: &Scratch, case: &str) {
        let keys: String = self.config.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        scratch.write("seedmill.toml", &format!("[models.{}]\n{keys}", self.model));
        let arguments: String = self.arguments.iter().map(|(name, value)| format!(", {name} => {value}")).collect();
        let call = format!("{}(({}), model => '{}'{arguments})", self.function, self.input, self.model);
        let sql = format!("{}{}", self.settings, self.select.replace("{}", &call));
        let options = OpenOptions { out: self.out.clone(), ..OpenOptions::default() };
        let rows: usize = scratch.session(options, async |workspace| {
            let frame = workspace.sql(&sql).await.unwrap_or_else(|e| panic!("{case}: {e}\n{sql}"));
            let batches = frame.collect().await.unwrap_or_else(|e| panic!("{case}: {e}"));
            batches.iter().map(|batch| batch.num_rows()).sum()
        });
        assert_eq!(rows, self.rows, "rows of the case '{case}'");
    }
}

#[test]
fn whatever_is_part_of_the_question_makes_new_calls_and_each_only_once() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 8, "");
    let base = || Ask::new(&server);
    base().run(&scratch, "the first time");
    assert_eq!(server.count(), ROWS);
    let same_but_roles =
        "[{'role': 'user', 'content': 'Be short.'}, {'role': 'user', 'content': 'question ' || value}]";
    let other_text = "[{'role': 'system', 'content': 'Be short.'}, {'role': 'user', 'content': 'query ' || value}]";
    let cases = [
        ("model", base().config("model", "\"m-2\"")),
        ("revision", base().config("revision", "\"r2\"")),
        ("variant", base().with("variant", "'v2'")),
        ("no variant", base().without("variant")),
        ("system", base().with("system", "'Be long.'")),
        ("no system", base().without("system")),
        ("prompt", base().with("prompt", "'another question ' || value")),
        ("messages, text", base().messages(other_text)),
        ("messages, roles", base().messages(same_but_roles)),
        ("temperature", base().with("temperature", "0.6")),
        ("no temperature", base().without("temperature")),
        ("top_p", base().with("top_p", "0.8")),
        ("max_tokens", base().with("max_tokens", "51")),
        ("seed", base().with("seed", "8")),
        ("no seed", base().without("seed")),
        ("stop", base().with("stop", "'STOP'")),
        ("a second stop", base().with("stop", "['END', '##']")),
        ("extra, value", base().with("extra", "'{\"top_k\": 41, \"min_p\": 0.1}'")),
        ("extra, key", base().with("extra", "'{\"top_k\": 40}'")),
        ("returns, name", base().with("returns", "'p TEXT'")),
        ("returns, bound", base().with("returns", "'q VARCHAR(20)'")),
        ("returns, another column", base().with("returns", "'q TEXT, r TEXT'")),
        ("no returns", base().without("returns")),
        ("items", Ask { rows: 2 * ROWS, ..base().with("items", "2") }),
        ("other items", Ask { rows: 3 * ROWS, ..base().with("items", "3") }),
        // The first of the two samples is the call that is there already.
        ("sample", Ask { rows: 2 * ROWS, ..base().with("samples", "2") }),
    ];
    for (case, ask) in &cases {
        let before = server.count();
        ask.run(&scratch, case);
        assert_eq!(server.count() - before, ROWS, "new calls when this changes: {case}");
    }
    let before = server.count();
    for (case, ask) in &cases {
        ask.run(&scratch, case);
        assert_eq!(server.count(), before, "the same again: {case}");
    }
    assert_eq!(scratch.number("SELECT count(*) FROM calls"), before);
}

#[test]
fn whatever_is_no_part_of_the_question_makes_no_new_call() {
    let (server, replica) = (FaultServer::start(answer), FaultServer::start(answer));
    let scratch = Scratch::new(server.url(), 8, "");
    let base = || Ask::new(&server);
    base().run(&scratch, "the first time");
    assert_eq!(server.count(), ROWS);
    let spelled_out = "[{'role': 'system', 'content': 'Be short.'}, {'role': 'user', 'content': 'question ' || value}]";
    let halves = "SELECT value FROM generate_series(4, 6) UNION ALL SELECT value FROM generate_series(1, 3)";
    let cases = [
        ("a replica's URL", base().config("base_urls", &format!("[\"{}\"]", replica.url()))),
        ("two replicas", base().config("base_urls", &format!("[\"{}\", \"{}\"]", replica.url(), server.url()))),
        ("the model's name here", Ask { model: "other", ..base() }),
        ("how the schema travels", base().config("response_format", "false")),
        ("the key", base().config("api_key_env", "\"PATH\"")),
        ("headers", base().config("headers", "{ x-team = \"a\" }")),
        ("max_in_flight", base().config("max_in_flight", "1")),
        ("requests_per_minute", base().config("requests_per_minute", "1000")),
        ("tokens_per_minute", base().config("tokens_per_minute", "100000")),
        ("the price", base().config("price_per_million", "{ input = 1.0, output = 2.0 }")),
        ("the timeout", base().config("timeout_seconds", "7.0")),
        ("retries", base().config("max_retries", "3")),
        ("context_length", base().config("context_length", "4096")),
        ("the order of rows", Ask { input: "SELECT value FROM generate_series(1, 6) ORDER BY value DESC", ..base() }),
        ("partitions of the input", Ask { input: halves, ..base() }),
        ("one partition", Ask { settings: "SET datafusion.execution.target_partitions = 1; ", ..base() }),
        ("many partitions", Ask { settings: "SET datafusion.execution.target_partitions = 7; ", ..base() }),
        ("the batch size", Ask { settings: "SET datafusion.execution.batch_size = 1; ", ..base() }),
        (
            "a filter on the answers",
            Ask { select: "SELECT q FROM {} WHERE q LIKE '%no such answer'", rows: 0, ..base() },
        ),
        ("a filter on the input's columns", Ask { select: "SELECT q FROM {} WHERE value > 2", rows: 4, ..base() }),
        ("the columns read", Ask { select: "SELECT q FROM {}", ..base() }),
        ("no column read", Ask { select: "SELECT count(*) FROM {}", rows: 1, ..base() }),
        ("more input columns", Ask { input: "SELECT value, -value AS minus FROM generate_series(1, 6)", ..base() }),
        ("fewer rows", Ask { input: "SELECT value FROM generate_series(2, 3)", rows: 2, ..base() }),
        ("a limit", Ask { select: "SELECT * FROM {} LIMIT 1", rows: 1, ..base() }),
        ("where runs are published", Ask { out: Some("elsewhere".into()), ..base() }),
        ("the call column's name", base().with("call_as", "'c'")),
        ("what becomes of errors", base().with("on_error", "'drop'")),
        ("a condition", base().with("when", "value > 0")),
        ("the text's expression", base().with("prompt", "concat('question', ' ', value)")),
        ("messages spelled out", base().messages(spelled_out)),
        ("the order of extra's keys", base().with("extra", "'{\"min_p\": 0.1, \"top_k\": 40}'")),
        ("the table function", Ask { function: "enrich", ..base() }),
        ("one sample, said aloud", base().with("samples", "1")),
    ];
    for (case, ask) in &cases {
        ask.run(&scratch, case);
        assert_eq!((server.count(), replica.count()), (ROWS, 0), "new calls though only this changed: {case}");
    }
    assert_eq!(scratch.number("SELECT count(DISTINCT run_id) FROM call_uses"), cases.len() + 1);
}

/// Two providers do not answer at one socket, so this is told below it.
#[test]
fn every_part_of_a_key_tells_calls_apart_the_provider_too() {
    let model = |provider: &str, model: &str, revision: &str| ModelIdentity {
        provider: provider.into(),
        model: model.into(),
        revision: revision.into(),
    };
    let request = Request {
        messages: vec![Message::new("user", "Why?")],
        parameters: Arc::new(Parameters { temperature: Some(0.5), ..Default::default() }),
        schema: Some(Arc::new(json!({"type": "object"}))),
    };
    let changed = |change: fn(&mut Request)| {
        let mut changed = request.clone();
        change(&mut changed);
        changed
    };
    let requests = [
        request.clone(),
        changed(|request| request.messages[0].role = "system".into()),
        changed(|request| request.messages.push(Message::new("assistant", ""))),
        changed(|request| request.schema = None),
        changed(|request| request.schema = Some(Arc::new(json!({"type": "array"})))),
        changed(|request| request.parameters = Arc::default()),
    ];
    let models =
        [model("openai", "m", ""), model("embedded", "m", ""), model("openai", "n", ""), model("openai", "m", "r")];
    let mut ids = HashSet::new();
    for model in &models {
        for request in &requests {
            for (items, variant, sample) in [(None, "", 0), (Some(1), "", 0), (None, "v", 0), (None, "", 1)] {
                assert!(ids.insert(CallKey { model, request, items, variant, sample }.id()), "{model:?} {request:?}");
            }
        }
    }
    // Parts do not run into each other.
    let (a, b) = (model("openai", "mr", ""), model("openai", "m", "r"));
    let key = |model| CallKey { model, request: &request, items: None, variant: "", sample: 0 }.id();
    assert_ne!(key(&a), key(&b));
}
