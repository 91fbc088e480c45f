//! The read API as a process, and a plain client for it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::env::tokens::SECRET;
use crate::env::{TestEnv, Worker, eventually};

/// `cns-events serve`, ready.
pub struct ApiServer {
    pub process: Worker,
    pub address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl ApiServer {
    pub async fn start(env: &TestEnv, change: impl FnOnce(&mut Command)) -> ApiServer {
        let served = ApiServer::begin(env, change).await;
        served.process.ready().await;
        served
    }

    /// Not ready yet, perhaps.
    pub async fn begin(env: &TestEnv, change: impl FnOnce(&mut Command)) -> ApiServer {
        let process = env.launcher().run("serve", |command| {
            command.env("CNS_EVENTS__API__LISTEN", "127.0.0.1:0").env("CNS_EVENTS__API__JWT_SECRET", SECRET);
            change(command);
        });
        eventually("the API listens", async || process.address("api").is_some()).await;
        ApiServer { address: process.address("api").unwrap(), process }
    }

    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, &[("authorization", &format!("Bearer {token}"))])
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request(method, path, headers).as_bytes()).unwrap();
        answer(stream)
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

pub fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A server that closes with something unread resets the connection behind its answer.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()["events"].as_array().unwrap().clone()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}
