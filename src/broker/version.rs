//! Version of the broker. The client library does not tell it, so the greeting is read.

use std::fmt;

use super::BrokerEndpoint;
use crate::amqp::{self, AmqpError};

/// Version of RabbitMQ, as far as behaviour depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3, 4, …
    pub major: u16,
    /// 13 in 3.13.
    pub minor: u16,
}

impl Version {
    /// Asks the broker, which greets with its version before any login. `Ok(None)` where it does not tell.
    ///
    /// # Errors
    /// The broker did not greet.
    pub async fn ask(broker: &BrokerEndpoint) -> Result<Option<Version>, AmqpError> {
        Ok(amqp::server_version(broker).await?.as_deref().and_then(Version::parse))
    }

    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.');
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
    fn a_version_is_compared_by_its_numbers() {
        assert_eq!(Version::parse("3.10.8"), Some(Version { major: 3, minor: 10 }));
        assert_eq!(Version::parse("4.3"), Some(Version { major: 4, minor: 3 }));
        assert_eq!(Version::parse("nothing"), None);
        assert!(Version { major: 4, minor: 3 } > Version { major: 3, minor: 13 });
    }
}
