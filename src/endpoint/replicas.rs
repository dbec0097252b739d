//! The addresses of one model and how they are doing. In: what became of each request. Out: the replica for the next one:
//! the least busy that is well, and now and then one that was not, to see whether it is back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Uri;
use url::Url;

use super::connections::Connections;
use super::{ErrorKind, SendError};
use crate::config::Api;

/// So many failures in a row take a replica out; one that cannot be connected to, or that refuses whatever it is asked,
/// is out at once.
const FAILURES: u32 = 3;
/// How long it is out at first; doubled each time it fails again …
const OUT: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST_OUT: Duration = Duration::from_secs(60);

/// One address.
#[derive(Debug)]
pub(super) struct Replica {
    pub url: Uri,
    /// The same server's `/embeddings`.
    pub embeddings: Uri,
    /// The same server's `/models`.
    pub models: Uri,
    pub connections: Connections,
    /// `host:port`, for messages: the rest of an address may hold a secret.
    pub place: String,
    outstanding: AtomicUsize,
}

/// All addresses of a model, one at least.
#[derive(Debug)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    health: Mutex<Vec<Health>>,
    /// Where the search starts, so that equally busy replicas take turns.
    turn: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
struct Health {
    /// Failures since the last answer.
    failures: u32,
    /// How often it was taken out since the last answer.
    times_out: u32,
    /// While it is out: since when, and until when nobody is sent there.
    out: Option<(Instant, Instant)>,
    /// Someone is there to see whether it is back.
    probed: bool,
    /// It is out because it refuses all that it is asked: where all are out, it is asked last.
    refuses: bool,
    /// It has answered since it was out last: what it refuses now may be wrong with the request.
    answered: bool,
    last_failure: Option<Instant>,
}

impl Replicas {
    /// The error, of kind `Request`, says what is wrong with an address.
    pub fn new(base_urls: &[String], api: Api) -> Result<Self, SendError> {
        let all = base_urls.iter().map(|url| Replica::new(url, api)).collect::<Result<Vec<_>, _>>()?;
        let health = Mutex::new(vec![Health::default(); all.len()]);
        Ok(Replicas { all, health, turn: AtomicUsize::new(0) })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.all.iter()
    }

    /// Where the next request goes: to a replica that is due to be tried again, else to the least busy that is well,
    /// else to the one whose last failure is longest ago, rather to one that does not refuse. `None` only where there is
    /// no address at all.
    pub fn choose(&self, now: Instant) -> Option<Visit<'_>> {
        let index = match self.all.len() {
            1 => 0,
            n => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let indexes = || (0..n).map(|i| turn.wrapping_add(i) % n);
                let mut health = self.health();
                let due = indexes().find(|&i| !health[i].probed && health[i].out.is_some_and(|(_, end)| end <= now));
                if let Some(due) = due {
                    health[due].probed = true;
                }
                due.or_else(|| {
                    let well = indexes().filter(|&i| health[i].out.is_none());
                    well.min_by_key(|&i| self.all[i].outstanding.load(Ordering::Relaxed))
                })
                .or_else(|| indexes().min_by_key(|&i| (health[i].refuses, health[i].last_failure)))?
            }
        };
        let replica = self.all.get(index)?;
        replica.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(Visit { replicas: self, index, since: now })
    }

    fn health(&self) -> MutexGuard<'_, Vec<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request under way at a replica; ends when dropped.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    replicas: &'a Replicas,
    index: usize,
    since: Instant,
}

impl Visit<'_> {
    pub fn replica(&self) -> &Replica {
        &self.replicas.all[self.index]
    }

    /// What became of the request, `None` for an answer. Says whether another replica, one that is well, could answer
    /// what found nobody here, or one without the right key or model.
    pub fn ended(&self, error: Option<ErrorKind>, now: Instant) -> bool {
        if self.replicas.all.len() == 1 {
            return false;
        }
        let mut all = self.replicas.health();
        let health = &mut all[self.index];
        // Wrong here for the next call, too. What is wrong with a request (400, 422) is so everywhere.
        let refuses = matches!(error, Some(ErrorKind::Refused(401 | 403 | 404)));
        let at_once = refuses && !health.answered || error == Some(ErrorKind::Connect);
        match error {
            // A web page that comes at once would make it the least busy of all.
            Some(
                ErrorKind::Connect
                | ErrorKind::Reset
                | ErrorKind::TornBody
                | ErrorKind::Timeout
                | ErrorKind::Busy(500..)
                | ErrorKind::Refused(401 | 403 | 404),
            ) => {
                health.last_failure = Some(now);
                health.failures += 1;
                health.refuses = refuses;
                // Those who were under way when it was taken out bring no news.
                let news = health.out.is_none_or(|(start, _)| start < self.since);
                if news && (at_once || health.failures >= FAILURES || health.out.is_some()) {
                    let wait = OUT.saturating_mul(2u32.saturating_pow(health.times_out)).min(LONGEST_OUT);
                    health.times_out += 1;
                    health.probed = false;
                    health.answered = false;
                    health.out = Some((now, now + wait));
                    let (place, why) = (&self.replica().place, error.map_or("", ErrorKind::name));
                    tracing::warn!("{place} gives no answers ({why}); it is left out for {} s", wait.as_secs());
                }
            }
            // It was not sent, or not waited for.
            Some(ErrorKind::Request | ErrorKind::Cancelled) => {}
            // Whatever else it says, it is there.
            _ => {
                if health.out.is_some() {
                    tracing::info!("{} answers again", self.replica().place);
                }
                *health = Health { answered: health.answered || error.is_none(), ..Health::default() };
            }
        }
        let is_gone = at_once || refuses && health.out.is_some();
        is_gone && all.iter().any(|health| health.out.is_none())
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.replica().outstanding.fetch_sub(1, Ordering::Relaxed);
        let mut health = self.replicas.health();
        let health = &mut health[self.index];
        // A probe that was given up is made by the next one. Whoever came before it was not the probe.
        if health.out.is_some_and(|(_, end)| end <= self.since) {
            health.probed = false;
        }
    }
}

impl Replica {
    fn new(base_url: &str, api: Api) -> Result<Self, SendError> {
        let wrong =
            || SendError::new(ErrorKind::Request, "base_urls must be http:// or https:// addresses without a user");
        let mut url = Url::parse(base_url).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        let place = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(wrong()),
        };
        let beside = |name: &str| {
            let mut beside = url.clone();
            beside.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().push(name);
            Ok(beside)
        };
        let (embeddings, models) = (beside("embeddings")?, beside("models")?);
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(match api {
            Api::Chat => ["chat", "completions"].as_slice(),
            Api::Completions => &["completions"],
        });
        let uri = |url: Url| url.as_str().parse::<Uri>().map_err(|_| wrong());
        let (url, embeddings, models) = (uri(url)?, uri(embeddings)?, uri(models)?);
        // A proxy of the environment is not for servers on this machine.
        let connections = Connections::new(&url, is_loopback(&url));
        Ok(Replica { url, embeddings, models, connections, place, outstanding: AtomicUsize::new(0) })
    }
}

/// Whether it is on this machine.
fn is_loopback(url: &Uri) -> bool {
    match url.host() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
