//! The read API as a process, and requests to it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use super::http::{Response, read_response, request};
use super::tokens::SECRET;
use super::{TestEnv, Worker, eventually};

/// Process of `cns-events serve`.
pub struct ApiServer {
    pub process: Worker,
    pub address: SocketAddr,
}

impl ApiServer {
    /// Starts the process and waits until it is ready.
    pub async fn start(env: &TestEnv, change: impl FnOnce(&mut Command)) -> ApiServer {
        let served = ApiServer::spawn(env, change).await;
        served.process.ready().await;
        served
    }

    /// Starts the process and waits until its port is open; it may not be ready yet.
    pub async fn spawn(env: &TestEnv, change: impl FnOnce(&mut Command)) -> ApiServer {
        let process = env.launcher().run("serve", |command| {
            command.env("CNS_EVENTS__API__LISTEN", "127.0.0.1:0").env("CNS_EVENTS__API__JWT_SECRET", SECRET);
            change(command);
        });
        eventually("the API listens", async || process.address("api").is_some()).await;
        ApiServer { address: process.address("api").unwrap(), process }
    }

    /// Sends a GET with this token.
    pub fn get(&self, path: &str, token: &str) -> Response {
        self.request("GET", path, &[("authorization", &format!("Bearer {token}"))])
    }

    /// Sends a request without a body and reads its response.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request(method, path, headers).as_bytes()).unwrap();
        read_response(stream)
    }
}
