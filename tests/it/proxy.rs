//! Model servers behind the proxy that the environment names.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Output;

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

const SQL: &str = "SELECT completion FROM generate((SELECT 'a' AS q UNION ALL SELECT 'b'), model => 'm', prompt => q)";
/// Never printed: a proxy's password is a secret too.
const PASSWORD: &str = "hush-proxy-4711";

/// The program with a proxy for http and https, and with all that it logs.
fn run(server: &str, proxy: &str) -> Output {
    let proxy = format!("http://me:{PASSWORD}@{proxy}");
    let variables = ["http_proxy", "https_proxy"].map(|name| (name.to_owned(), proxy.clone()));
    let unset = ["no_proxy", "NO_PROXY"].map(|name| (name.to_owned(), String::new()));
    let scratch = Scratch::new(server, 2, "").with_variables(&variables).with_variables(&unset);
    let output = scratch.run_with(("SEEDMILL_LOG", "trace"), &["-v", "sql", "--format", "csv", "-c", SQL]);
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(!said.contains(PASSWORD), "{said}");
    output
}

#[test]
fn plain_requests_are_handed_to_the_proxy_whole_but_not_those_to_this_machine() {
    // A proxy that answers itself: it is named in no base_url.
    let proxy = FaultServer::start(answer);
    let output = run("http://model.invalid/v1", proxy.address());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!((String::from_utf8_lossy(&output.stdout).lines().count(), proxy.count()), (3, 2), "{said}");

    let here = FaultServer::start(answer);
    assert!(run(here.url(), proxy.address()).status.success());
    assert_eq!((here.count(), proxy.count()), (2, 2));
}

#[test]
fn a_proxy_is_asked_for_a_way_to_an_https_server_and_sees_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let proxy = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&socket);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_ascii_lowercase()),
            }
        }
        (&socket).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        (head, first[0])
    });
    let output = run("https://model.invalid/v1", &address);
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(said.contains("no connection to model.invalid"), "{said}");
    let (head, first) = proxy.join().unwrap();
    assert_eq!(head[0], "connect model.invalid:443 http/1.1");
    assert!(head.iter().any(|line| line.starts_with("proxy-authorization: basic ")), "{head:?}");
    assert_eq!(first, 22, "a TLS handshake (RFC 8446, section 5.1) comes first");
}
