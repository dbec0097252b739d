//! Kept HTTP/1.1 connections to one server, straight or through the proxy of the environment. In: requests, each with
//! the time it may take. Out: status, headers and the body up to a limit, or how far it came.
//!
//! On hyper's connections themselves: a client on top of them takes about 10 µs of a processor more a request
//! (hyper-util's) or 25 µs (reqwest's), where all the rest takes 30 (64 in flight, a server that answers at once).
//! HTTP/2 is not spoken: a server lets about 100 requests at once through one connection
//! (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 section 6.5.2), and the others would wait there with their slots.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Fuse, poll_fn};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use super::send_error::innermost_cause;

/// A server that cannot be reached in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is idle for longer may have been forgotten on the way without a word.
const KEPT: Duration = Duration::from_secs(90);
/// An answer may take minutes without a byte; the path between is to know that someone waits.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// Room for a body before it comes is made up to this.
const MOST_ROOM: u64 = 1 << 20;

/// Goes on while it is polled by the one who waits for something of it: a task of its own would be woken three times a
/// request, and wake the other as often.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Fuse<BoxFuture<'static, ()>>,
}

type Secured<C> = HttpsConnector<C>;
type BoxError = Box<dyn Error + Send + Sync>;

/// The connections to one server.
pub(super) struct Connections {
    /// Scheme, host and port.
    server: Uri,
    host: Option<HeaderValue>,
    route: Route,
    /// The last one that was used is the first to be used again: what is not needed grows old.
    idle: Mutex<Vec<(Connection, Instant)>>,
}

#[derive(Debug)]
enum Route {
    Straight(Secured<HttpConnector>),
    /// A proxy that is handed requests in plain text.
    Forwarded {
        proxy: Uri,
        connector: Secured<HttpConnector>,
        authorization: Option<HeaderValue>,
    },
    /// A proxy that is asked for a way through (`CONNECT`).
    Tunnelled(Secured<Tunnel<Secured<HttpConnector>>>),
    /// A proxy of a kind that is not spoken.
    Unknown(String),
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What a server said.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Longer than the limit where the limit cut it off.
    pub body: Vec<u8>,
    /// Why the body is not whole.
    pub broken: Option<Failure>,
}

/// Why there is no whole reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: refused, DNS, TLS, a proxy, or none of them in time.
    Connect(String),
    /// The time is over, and the request was sent.
    Timeout,
    /// The connection broke, or what came is not HTTP.
    Reset(String),
}

impl Connections {
    /// None is opened yet. `server` is any address there.
    pub fn new(server: &Uri, straight: bool) -> Self {
        let mut origin = hyper::http::uri::Parts::default();
        origin.scheme = server.scheme().cloned();
        origin.authority = server.authority().cloned();
        origin.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static("/"));
        let server = Uri::from_parts(origin).unwrap_or_default();
        let proxy = (!straight).then(|| Matcher::from_env().intercept(&server)).flatten();
        let route = match proxy {
            None => Route::Straight(secured(tcp())),
            Some(proxy) => match (proxy.uri().scheme_str(), server.scheme_str()) {
                (Some("http" | "https"), Some("https")) => {
                    let tunnel = Tunnel::new(proxy.uri().clone(), secured(tcp()));
                    Route::Tunnelled(secured(match proxy.basic_auth() {
                        Some(authorization) => tunnel.with_auth(authorization.clone()),
                        None => tunnel,
                    }))
                }
                (Some("http" | "https"), _) => Route::Forwarded {
                    proxy: proxy.uri().clone(),
                    connector: secured(tcp()),
                    authorization: proxy.basic_auth().cloned(),
                },
                (scheme, _) => Route::Unknown(scheme.unwrap_or_default().to_owned()),
            },
        };
        let host = server.authority().and_then(|place| HeaderValue::from_str(place.as_str()).ok());
        Connections { server, host, route, idle: Mutex::default() }
    }

    /// A request to be completed: `Host` comes first (RFC 9110, section 7.2).
    pub fn request(&self, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.into()));
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        request
    }

    /// Sends a request to an address of this server and reads what comes, up to `limit(status)` bytes. What was broken
    /// off, by the limit or by dropping the future, costs its connection.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: impl Fn(StatusCode) -> u64,
        time: Duration,
    ) -> Result<Reply, Failure> {
        let (mut connecting, mut reply) = (false, None);
        let exchange = self.exchange(self.addressed(request), limit, &mut connecting, &mut reply);
        let ended = tokio::time::timeout(time, exchange).await;
        let broken = match ended {
            Ok(ended) => ended.err(),
            // Nothing was sent: it is billed by nobody, however short the time was.
            Err(_) if connecting => Some(nobody_there(time)),
            Err(_) => Some(Failure::Timeout),
        };
        match (reply, broken) {
            (Some(reply), broken) => Ok(Reply { broken, ..reply }),
            (None, broken) => Err(broken.unwrap_or(Failure::Timeout)),
        }
    }

    /// The request as it travels on this route.
    fn addressed(&self, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
        match &self.route {
            Route::Forwarded { authorization, .. } => {
                if let Some(authorization) = authorization {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
                }
            }
            _ => {
                if let Some(path) = request.uri().path_and_query() {
                    *request.uri_mut() = Uri::from(path.clone());
                }
            }
        }
        request
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: impl Fn(StatusCode) -> u64,
        connecting: &mut bool,
        reply: &mut Option<Reply>,
    ) -> Result<(), Failure> {
        let (mut connection, response) = self.ask(request, connecting).await?;
        let (head, mut body) = response.into_parts();
        let limit = limit(head.status);
        let room = body.size_hint().lower().min(limit).min(MOST_ROOM);
        let reply = reply.insert(Reply {
            status: head.status,
            headers: head.headers,
            body: Vec::with_capacity(room as usize),
            broken: None,
        });
        while let Some(frame) = connection.driver.drive(body.frame()).await {
            if let Ok(data) = frame.map_err(reset)?.into_data() {
                reply.body.extend_from_slice(&data);
            }
            if reply.body.len() as u64 > limit {
                return Ok(());
            }
        }
        self.keep(connection);
        Ok(())
    }

    /// The response to a request, of which the body is still to come, and the connection that it comes over. `connecting`
    /// is true while a new one is opened for it.
    async fn ask(
        &self,
        mut request: Request<Full<Bytes>>,
        connecting: &mut bool,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        while let Some(mut kept) = self.kept() {
            // The server has closed it meanwhile.
            if kept.ready().await.is_err() {
                continue;
            }
            let response = kept.sender.try_send_request(request);
            match kept.driver.drive(response).await {
                Ok(response) => return Ok((kept, response)),
                Err(mut failed) => match failed.take_message() {
                    // Not a byte of it was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(reset(failed.into_error())),
                },
            }
        }
        *connecting = true;
        let mut connection = self.connect().await?;
        *connecting = false;
        let response = connection.sender.send_request(request);
        let response = connection.driver.drive(response).await.map_err(reset)?;
        Ok((connection, response))
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (connection, since) = idle.pop()?;
        if since.elapsed() > KEPT {
            // Those below are older still.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    fn keep(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.first().is_some_and(|(_, since)| since.elapsed() > KEPT) {
            let old = idle.partition_point(|(_, since)| since.elapsed() > KEPT);
            idle.drain(..old);
        }
        idle.push((connection, Instant::now()));
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connect = async {
            match &self.route {
                Route::Straight(connector) => open(connector.clone(), self.server.clone()).await,
                Route::Forwarded { connector, proxy, .. } => open(connector.clone(), proxy.clone()).await,
                Route::Tunnelled(connector) => open(connector.clone(), self.server.clone()).await,
                Route::Unknown(scheme) => {
                    Err(format!("the environment names a proxy of the kind {scheme}, only http and https are known")
                        .into())
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Failure::Connect(innermost_cause(&*error))),
            Err(_) => Err(nobody_there(CONNECT_TIMEOUT)),
        }
    }
}

async fn open<C>(mut connector: C, to: Uri) -> Result<Connection, BoxError>
where
    C: Service<Uri, Error: Into<BoxError>, Response: Read + Write + Unpin + Send + 'static>,
{
    poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Into::into)?;
    let stream = connector.call(to).await.map_err(Into::into)?;
    let (sender, driver) = http1::handshake(stream).await?;
    // Whoever waits for an answer is told of an error.
    let mut connection = Connection { sender, driver: driver.map(drop).boxed().fuse() };
    connection.ready().await?;
    Ok(connection)
}

impl Connection {
    /// An error where the server has closed it.
    async fn ready(&mut self) -> hyper::Result<()> {
        self.driver.drive(self.sender.ready()).await
    }
}

trait Drive {
    /// Waits for something that comes over this connection. Cancel-safe where the future is.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T;
}

impl Drive for Fuse<BoxFuture<'static, ()>> {
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // Twice: what waits tells the connection only when it is polled that it wants more.
            for _ in 0..2 {
                let _ = self.poll_unpin(cx);
                if let Poll::Ready(value) = future.as_mut().poll(cx) {
                    return Poll::Ready(value);
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector
}

/// TLS where the address is https, verified against Mozilla's roots.
fn secured<C>(connector: C) -> Secured<C> {
    HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(connector)
}

/// The failure to open a connection in this time.
fn nobody_there(time: Duration) -> Failure {
    Failure::Connect(format!("no answer in {} s", time.as_secs_f64()))
}

fn reset(error: hyper::Error) -> Failure {
    Failure::Reset(innermost_cause(&error))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
