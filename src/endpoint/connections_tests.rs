//! Tests of kept connections against a server of raw sockets, which counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

struct Server {
    connections: Connections,
    url: Uri,
    opened: Arc<AtomicUsize>,
}

/// What comes after a head whose body is `hello`.
type Tail = &'static str;

impl Server {
    /// Answers each request with this head and tail, after a moment; closes the connection after so many requests.
    async fn start(tail: Tail, requests: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("http://{}/v1?a=b", listener.local_addr().unwrap()).parse().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(socket, tail, requests));
            }
        });
        Server { connections: Connections::new(&url, true), url, opened }
    }

    /// With so much time that it never runs out, however slow this machine is.
    async fn send(&self, limit: u64) -> Result<Reply, Failure> {
        self.send_in(limit, Duration::from_secs(60)).await
    }

    async fn send_in(&self, limit: u64, time: Duration) -> Result<Reply, Failure> {
        let mut request = self.connections.request("{}");
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        self.connections.send(request, |_| limit, time).await
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

async fn answer(mut socket: TcpStream, tail: Tail, requests: usize) {
    for _ in 0..requests {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n{}") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        assert!(head.starts_with(b"POST /v1?a=b HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
        tokio::time::sleep(Duration::from_millis(5)).await;
        if socket.write_all(format!("HTTP/1.1 200 OK\r\n{tail}").as_bytes()).await.is_err() {
            return;
        }
    }
}

const WHOLE: Tail = "content-length: 5\r\n\r\nhello";

#[tokio::test]
async fn requests_share_as_many_connections_as_are_in_flight() {
    let server = Server::start(WHOLE, usize::MAX).await;
    for _ in 0..10 {
        assert_eq!(server.send(100).await.unwrap().body, b"hello");
    }
    assert_eq!(server.opened(), 1);
    for _ in 0..3 {
        join_all((0..4).map(|_| server.send(100))).await.into_iter().for_each(|reply| drop(reply.unwrap()));
    }
    assert_eq!(server.opened(), 4);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_costs_no_request() {
    for tail in [WHOLE, "connection: close\r\ncontent-length: 5\r\n\r\nhello"] {
        let server = Server::start(tail, 1).await;
        for _ in 0..5 {
            assert!(server.send(100).await.unwrap().broken.is_none());
            // So that the end is here, too.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.opened(), 5);
    }
}

#[tokio::test]
async fn what_was_broken_off_is_not_used_again() {
    // Behind its limit, and before the end that never comes: there the time runs out.
    for (tail, limit, seconds) in [(WHOLE, 3, 60), ("content-length: 9\r\n\r\nhello", 100, 5)] {
        let server = Server::start(tail, usize::MAX).await;
        for _ in 0..2 {
            let reply = server.send_in(limit, Duration::from_secs(seconds)).await.unwrap();
            assert_eq!(reply.body, b"hello");
            assert_eq!(matches!(reply.broken, Some(Failure::Timeout)), limit == 100, "{:?}", reply.broken);
        }
        assert_eq!(server.opened(), 2);
    }
}

#[tokio::test]
async fn a_body_cut_off_is_told_from_a_whole_one() {
    let server = Server::start("content-length: 9\r\n\r\nhello", 1).await;
    let reply = server.send(100).await.unwrap();
    assert!(matches!(&reply.broken, Some(Failure::Reset(_))), "{:?}", reply.broken);
    let server = Server::start("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", usize::MAX).await;
    for _ in 0..2 {
        assert!(server.send(100).await.unwrap().broken.is_none());
    }
    assert_eq!(server.opened(), 1);
    let server = Server::start("this is no header\r\n\r\n", 1).await;
    assert!(matches!(server.send(100).await, Err(Failure::Reset(_))));
}

#[tokio::test]
async fn a_time_that_is_over_before_there_is_a_connection_sent_nothing() {
    // The handshake of TLS belongs to the connection: this server says nothing at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let cases = [("https", false), ("http", true)].map(|(scheme, sent)| async move {
        let url: Uri = format!("{scheme}://{place}/v1").parse().unwrap();
        let connections = Connections::new(&url, true);
        let mut request = connections.request("{}");
        *request.uri_mut() = url;
        let failure = connections.send(request, |_| 100, Duration::from_secs(5)).await.unwrap_err();
        match failure {
            Failure::Connect(why) => assert!(!sent && why == "no answer in 5 s", "{scheme}: {why}"),
            failure => assert!(sent && matches!(failure, Failure::Timeout), "{scheme}: {failure:?}"),
        }
    });
    join_all(cases).await;
}
