//! Which RabbitMQ this is. The client library does not tell, so the greeting is read once by hand.

use std::fmt;

use super::BrokerEndpoint;
use crate::amqp::{self, AmqpError};

/// The entry of `server-properties` that is looked for: a short string `version`, then a long string.
const ENTRY: &[u8] = b"\x07versionS";

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
    pub async fn ask(broker: &BrokerEndpoint) -> Result<Option<Version>, AmqpError> {
        Ok(Version::find(&amqp::greeting(broker).await?))
    }

    fn find(frame: &[u8]) -> Option<Version> {
        let at = frame.windows(ENTRY.len()).position(|window| window == ENTRY)? + ENTRY.len();
        let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?);
        let text = frame.get(at + 4..at + 4 + usize::try_from(length).ok()?)?;
        let mut parts = std::str::from_utf8(text).ok()?.split('.');
        Some(Version { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
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
