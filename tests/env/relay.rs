//! A TCP relay in front of a server, to cut or delay its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A TCP relay in front of a server, which can be closed and opened like the server itself.
pub struct Relay {
    pub port: u16,
    target: String,
    open: std::sync::Mutex<Option<CancellationToken>>,
    /// Milliseconds that each byte takes on its way, in either direction.
    delay: Arc<AtomicU64>,
    turns: Arc<Turns>,
}

/// Number of times that the near end spoke after the far end.
#[derive(Default)]
struct Turns {
    near_speaks: AtomicBool,
    count: AtomicU64,
}

impl Turns {
    fn speaks(&self, near: bool) {
        if self.near_speaks.swap(near, Ordering::Relaxed) != near && near {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Relay {
    /// Creates a closed relay, which refuses connections.
    pub async fn before(url: &str) -> Arc<Relay> {
        let url = url::Url::parse(url).unwrap();
        let default = if url.scheme().starts_with("amqp") { 5672 } else { 5432 };
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(default));
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        Arc::new(Relay {
            port,
            target,
            open: std::sync::Mutex::default(),
            delay: Arc::default(),
            turns: Arc::default(),
        })
    }

    /// Returns the URL of the server through this relay.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }

    /// Opens it: accepts connections and relays them.
    pub async fn open(self: &Arc<Self>) {
        let mut bound = TcpListener::bind(("127.0.0.1", self.port)).await;
        let deadline = std::time::Instant::now() + crate::env::TIMEOUT;
        // The last listener may not be closed yet, or a client's connection may have the port for a moment.
        while bound.is_err() && std::time::Instant::now() < deadline {
            tokio::time::sleep(crate::env::POLL_INTERVAL).await; // a port sends no signal
            bound = TcpListener::bind(("127.0.0.1", self.port)).await;
        }
        let listener = bound.unwrap();
        let cut = CancellationToken::new();
        *self.open.lock().unwrap() = Some(cut.clone());
        let (target, delay, turns) = (self.target.clone(), self.delay.clone(), self.turns.clone());
        tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, cut) = (target.clone(), cut.clone());
                let (delay, turns) = (delay.clone(), turns.clone());
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    if let Ok(far) = TcpStream::connect(&target).await {
                        let _ = (near.set_nodelay(true), far.set_nodelay(true));
                        let ((from_near, to_near), (from_far, to_far)) =
                            (near.into_split(), far.into_split());
                        // Where one direction ends, so does the connection.
                        tokio::select! {
                            () = carry(from_near, to_far, delay.clone(), || turns.speaks(true)) => {}
                            () = carry(from_far, to_near, delay, || turns.speaks(false)) => {}
                        }
                    }
                }));
            }
        }));
    }

    /// Delays every byte by this time in each direction; the bandwidth stays.
    pub fn slow(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns how many times the near end spoke after the far end: with a delay, the number of round trips.
    pub fn turns(&self) -> u64 {
        self.turns.count.load(Ordering::Relaxed)
    }

    /// Cuts every connection, and refuses new ones.
    pub fn cut(&self) {
        if let Some(open) = self.open.lock().unwrap().take() {
            open.cancel();
        }
    }
}

/// Carries bytes in one direction; each arrives `delay` milliseconds after it was sent.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Arc<AtomicU64>,
    heard: impl Fn(),
) {
    let (line, mut far_end) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            heard();
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::Relaxed));
            if line.send((due, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = far_end.recv().await {
            tokio::time::sleep_until(due).await; // the delay that the test asks for
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
