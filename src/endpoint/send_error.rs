//! Why one attempt gave no answer.

use std::error::Error;
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
    /// A 2xx status with a body over `max_response_bytes`, of which no more was read.
    TooLarge,
    /// 408, 409, 429 and 5xx.
    Busy(u16),
    /// Every other status: asking again would give the same.
    Refused(u16),
    /// The prompt does not fit into the model's context: the server's status, or `None` where it was not sent.
    ContextOverflow(Option<u16>),
    /// The request could not be made at all (no key in the environment, weights missing).
    Request,
    /// We gave it up at the end of a command, before an answer had come.
    Cancelled,
}

impl ErrorKind {
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Connect => "connect",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Reset => "reset",
            ErrorKind::TornBody => "torn_body",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::Busy(_) => "busy",
            ErrorKind::Refused(_) => "refused",
            ErrorKind::ContextOverflow(_) => "context_overflow",
            ErrorKind::Request => "request",
            ErrorKind::Cancelled => "cancelled",
        }
    }

    pub fn status(self) -> Option<u16> {
        match self {
            ErrorKind::Busy(status) | ErrorKind::Refused(status) => Some(status),
            ErrorKind::ContextOverflow(status) => status,
            _ => None,
        }
    }

    /// Whether the server may have billed an answer that did not arrive whole.
    pub fn may_be_billed(self) -> bool {
        matches!(
            self,
            ErrorKind::TornBody | ErrorKind::TooLarge | ErrorKind::Reset | ErrorKind::Timeout | ErrorKind::Cancelled
        )
    }

    /// Whether a server has seen the request.
    pub fn was_sent(self) -> bool {
        !matches!(self, ErrorKind::Connect | ErrorKind::Request | ErrorKind::ContextOverflow(None))
    }

    /// Whether it says something of this request only, and nothing of the next one.
    pub fn is_of_one_request(self) -> bool {
        matches!(self, ErrorKind::ContextOverflow(_) | ErrorKind::TooLarge)
    }

    /// Whether the next request may fare better: what a server makes of one, not how it is reached and who is let in. (403
    /// is also what moderation says.)
    pub fn may_be_of_one_request(self) -> bool {
        matches!(
            self,
            ErrorKind::Refused(400 | 403 | 413 | 422)
                | ErrorKind::Busy(_)
                | ErrorKind::Timeout
                | ErrorKind::Reset
                | ErrorKind::TornBody
        )
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
    /// The same request may succeed at once, because it goes elsewhere or travels otherwise: it is sent again without a
    /// wait, and that is no retry.
    pub again: bool,
}

impl SendError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, again: false }
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

impl Error for SendError {}

/// What an error comes from in the end: those around it say where, not what.
pub(super) fn innermost_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
        let kinds = [ErrorKind::Connect, ErrorKind::Timeout, ErrorKind::Reset, ErrorKind::TornBody];
        assert!(kinds.into_iter().all(ErrorKind::is_retryable));
        let kinds = [ErrorKind::TooLarge, ErrorKind::ContextOverflow(None), ErrorKind::Request, ErrorKind::Cancelled];
        assert!(!kinds.into_iter().any(ErrorKind::is_retryable));
    }
}
