//! A client of Server-Sent Events, over a plain connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::request;

/// One event of a stream.
#[derive(Clone, Debug, Default)]
pub struct SseEvent {
    pub event: String,
    pub id: String,
    pub data: Value,
}

/// An open stream.
pub struct Sse {
    connection: BufReader<TcpStream>,
    pub status: u16,
    /// Head of the response, in lower case.
    pub head: String,
    text: String,
}

impl Sse {
    /// Opens a stream after an id, if one is given.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        token: &str,
        after: Option<&str>,
    ) -> std::io::Result<Sse> {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![
            ("authorization", bearer.as_str()),
            ("accept", "text/event-stream"),
            ("accept-encoding", "gzip"),
        ];
        headers.extend(after.map(|id| ("last-event-id", id)));
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(request("GET", path, &headers).as_bytes()).await?;
        let mut connection = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok(Sse { connection, status, head: head.to_lowercase(), text: String::new() })
    }

    /// Returns the next event; `None` where the stream has ended. Comments are skipped.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let mut event = SseEvent::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.event = name.to_owned(),
                        Some(("id", id)) => event.id = id.to_owned(),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                if !event.event.is_empty() {
                    return Some(event);
                }
            }
            let mut size = String::new();
            self.connection.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
            let mut chunk = vec![0; size + 2];
            self.connection.read_exact(&mut chunk).await.ok()?;
            self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        }
    }

    /// Returns the next event of the stream's kind `event`.
    pub async fn event(&mut self) -> Option<SseEvent> {
        loop {
            match self.next().await {
                Some(other) if other.event != "event" => assert_eq!(other.event, "clock", "{other:?}"),
                next => return next,
            }
        }
    }
}
