//! Why one attempt gave no answer.

use std::fmt;
use std::time::Duration;

/// The kinds of failed attempts; the column `error_kind` of `attempts` holds their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection: refused, DNS, TLS.
    Connect,
    Timeout,
    /// The connection broke before the body was whole.
    Reset,
    /// A 2xx status with a body that is no completion.
    TornBody,
    /// 408, 409, 429 and 5xx.
    Busy(u16),
    /// Every other status: asking again would give the same.
    Refused(u16),
    /// The request could not be made at all (no key in the environment, weights missing, a prompt over the context).
    Request,
    Cancelled,
}

impl ErrorKind {
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Connect => "connect",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Reset => "reset",
            ErrorKind::TornBody => "torn_body",
            ErrorKind::Busy(_) => "busy",
            ErrorKind::Refused(_) => "refused",
            ErrorKind::Request => "request",
            ErrorKind::Cancelled => "cancelled",
        }
    }

    pub fn status(self) -> Option<u16> {
        match self {
            ErrorKind::Busy(status) | ErrorKind::Refused(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the same attempt may succeed later in the same run.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Reset | ErrorKind::TornBody | ErrorKind::Busy(_)
        )
    }
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub struct SendError {
    pub kind: ErrorKind,
    /// One sentence without any secret, e.g. the server's own message.
    pub message: String,
    /// What the server asked us to wait (Retry-After).
    pub retry_after: Option<Duration>,
}

impl SendError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.status() {
            Some(status) => write!(f, "{} {status}: {}", self.kind.name(), self.message),
            None => write!(f, "{}: {}", self.kind.name(), self.message),
        }
    }
}

impl std::error::Error for SendError {}
