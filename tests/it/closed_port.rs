//! An address that refuses every connection. A port that was bound a moment ago and is free again may be given to any
//! other test in the meantime; this one is bound for as long as it is held, and never listens.

use tokio::net::TcpSocket;

pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn hold() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        ClosedPort(socket)
    }

    /// A `base_url`, ending in `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.0.local_addr().unwrap())
    }
}
