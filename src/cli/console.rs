//! What the program says beside its result, on standard error: plain lines, nothing but errors, or one JSON event a
//! line for machines. Lines never tear progress bars.

use std::fmt;
use std::io::{self, Write};
use std::sync::LazyLock;

use chrono::{SecondsFormat, Utc};
use indicatif::MultiProgress;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The progress bars of the process: it has one terminal.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How the program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Console {
    #[default]
    Plain,
    /// Nothing but errors.
    Quiet,
    /// Events.
    Json,
}

impl Console {
    /// Something worth knowing.
    pub fn note(self, text: impl fmt::Display) {
        match self {
            Console::Plain => line(text),
            Console::Quiet => {}
            Console::Json => self.event("warning", json!({ "message": text.to_string() })),
        }
    }

    /// Why the command fails.
    pub fn error(self, sentence: impl fmt::Display) {
        match self {
            Console::Plain | Console::Quiet => line(format_args!("seedmill: {sentence}")),
            Console::Json => self.event("error", json!({ "message": sentence.to_string() })),
        }
    }

    /// An event, for machines only. `fields` is an object.
    pub fn event(self, name: &str, fields: Value) {
        if self == Console::Json {
            line(event(name, fields));
        }
    }
}

/// Standard output beside the bars of standard error.
pub fn beside_bars<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

fn line(text: impl fmt::Display) {
    // Nobody listens where standard error is closed.
    let _ = BARS.suspend(|| writeln!(io::stderr().lock(), "{text}"));
}

fn event(name: &str, fields: Value) -> String {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut object = Map::from_iter([("event".to_owned(), name.into()), ("time".to_owned(), time.into())]);
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

/// Sets up logging. What is logged is a warning among the events.
pub fn logging(console: Console, verbose: bool) {
    use tracing_subscriber::EnvFilter;
    let default = match console {
        _ if verbose => "warn,seedmill=debug",
        Console::Quiet => "error",
        Console::Plain | Console::Json => "error,seedmill=warn",
    };
    let filter = EnvFilter::try_from_env("SEEDMILL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // It traces whole header frames, and an address may have a key in it.
    let filter = match "h2=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BesideBars);
    match console {
        Console::Json => log.event_format(LogEvents).init(),
        Console::Plain | Console::Quiet => log.init(),
    }
}

/// Standard error, a whole log line at a time.
struct BesideBars;

struct LogLine(Vec<u8>);

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(Vec::new())
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let _ = BARS.suspend(|| io::stderr().lock().write_all(&self.0));
    }
}

/// Log lines as events.
struct LogEvents;

impl<S, N> FormatEvent<S, N> for LogEvents
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        logged: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut fields = LogFields(Map::new());
        fields.0.insert("level".into(), logged.metadata().level().as_str().to_lowercase().into());
        logged.record(&mut fields);
        writeln!(writer, "{}", event("warning", Value::Object(fields.0)))
    }
}

struct LogFields(Map<String, Value>);

impl Visit for LogFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json_with_its_name_first() {
        let line = event("error", json!({ "message": "two\nlines" }));
        assert!(line.starts_with("{\"event\":\"error\",\"time\":\"") && !line.contains('\n'), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["message"], "two\nlines");
    }
}
