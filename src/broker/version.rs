//! Which RabbitMQ this is. The client library does not tell, so the greeting is read once by hand.

use std::fmt;
use std::time::Duration;

use lapin::uri::AMQPScheme;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Broker;

/// The protocol header of AMQP 0-9-1; the broker answers with `connection.start` and its properties.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// The entry of `server-properties` that is looked for: a short string `version`, then a long string.
const ENTRY: &[u8] = b"\x07versionS";

/// How long the broker may take to greet.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// More than any greeting has.
const MAX_GREETING_BYTES: usize = 64 * 1024;

/// A RabbitMQ version, as far as behaviour depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3, 4, …
    pub major: u16,
    /// 13 in 3.13.
    pub minor: u16,
}

impl Version {
    /// Asks the broker. `Ok(None)` where it greets and does not say.
    ///
    /// # Errors
    /// It did not greet.
    pub async fn ask(broker: &Broker) -> std::io::Result<Option<Version>> {
        let uri = broker.uri();
        let host = uri.authority.host.as_str();
        let asking = async {
            let stream = TcpStream::connect((host, uri.authority.port)).await?;
            let frame = match uri.scheme {
                AMQPScheme::AMQP => greeting(stream).await?,
                AMQPScheme::AMQPS => {
                    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
                    greeting(Broker::tls()?.connect(name, stream).await?).await?
                }
            };
            Ok(Version::find(&frame))
        };
        tokio::time::timeout(ASK_TIMEOUT, asking).await.map_err(std::io::Error::other)?
    }

    fn find(frame: &[u8]) -> Option<Version> {
        let at = frame.windows(ENTRY.len()).position(|window| window == ENTRY)? + ENTRY.len();
        let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?);
        let text = frame.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
        let mut parts = std::str::from_utf8(text).ok()?.split('.');
        Some(Version { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
}

/// The first frame that the broker sends.
async fn greeting(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<Vec<u8>> {
    stream.write_all(HEADER).await?;
    stream.flush().await?;
    // Type, channel, size; then so many bytes.
    stream.read_u8().await?;
    stream.read_u16().await?;
    let size = usize::try_from(stream.read_u32().await?).unwrap_or(MAX_GREETING_BYTES);
    let mut frame = vec![0; size.min(MAX_GREETING_BYTES)];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_in_the_greeting() {
        let greeting = b"..\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8..";
        assert_eq!(Version::find(greeting), Some(Version { major: 3, minor: 10 }));
        assert_eq!(Version::find(b"nothing"), None);
        assert!(Version { major: 4, minor: 3 } > Version { major: 3, minor: 13 });
    }
}
