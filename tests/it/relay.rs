//! A server that goes and comes, as far as its clients can tell.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A TCP relay in front of a server, which can be closed and opened like the server itself.
pub struct Relay {
    pub port: u16,
    target: String,
    open: std::sync::Mutex<Option<CancellationToken>>,
}

impl Relay {
    /// A closed relay: connecting to it is refused.
    pub async fn before(url: &str) -> Arc<Relay> {
        let url = url::Url::parse(url).unwrap();
        let default = if url.scheme().starts_with("amqp") { 5672 } else { 5432 };
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(default));
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        Arc::new(Relay { port, target, open: std::sync::Mutex::default() })
    }

    /// The URL of the server, by way of this relay.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }

    pub async fn open(self: &Arc<Self>) {
        let mut bound = TcpListener::bind(("127.0.0.1", self.port)).await;
        let deadline = std::time::Instant::now() + crate::stand::PATIENCE;
        // The last listener may not be gone yet, or somebody's connection may have the port for a moment.
        while bound.is_err() && std::time::Instant::now() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            bound = TcpListener::bind(("127.0.0.1", self.port)).await;
        }
        let listener = bound.unwrap();
        let cut = CancellationToken::new();
        *self.open.lock().unwrap() = Some(cut.clone());
        let target = self.target.clone();
        tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, cut) = (target.clone(), cut.clone());
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    if let Ok(mut far) = TcpStream::connect(&target).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                }));
            }
        }));
    }

    /// Cuts every connection, and refuses new ones.
    pub fn cut(&self) {
        if let Some(open) = self.open.lock().unwrap().take() {
            open.cancel();
        }
    }
}
