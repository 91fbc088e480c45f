//! Connection strings: URIs and lists of `keyword=value` as libpq documents them, with the parameters that platforms and other
//! drivers write into them.
//!
//! ```text
//! text → pairs → servers + parameters → ConnInfo
//! ```

mod error;
mod info;
mod pairs;
mod parameters;
mod servers;
#[cfg(test)]
mod tests;

use crate::stray::stray;
pub use error::UrlError;
pub(super) use info::{ConnInfo, SessionKind};
use parameters::Parameters;
pub(super) use servers::Server;

impl ConnInfo {
    /// Parses a text.
    ///
    /// # Errors
    /// The problem. No part of the text is in it.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        if let Some(problem) = stray(text) {
            return Err(UrlError::Stray(problem));
        }
        let mut parameters = Parameters::default();
        let pairs = pairs::parse(text)?;
        for pair in pairs.iter().filter(|pair| !pair.value.is_empty()) {
            parameters.apply(pair)?;
        }
        let list = |key: &str| {
            // What the query names counts instead of the authority; a host that is named again is one more.
            let named = pairs.iter().filter(|pair| pair.key == key && !pair.value.is_empty());
            let in_query = named.clone().any(|pair| pair.number > 0);
            let values: Vec<&str> =
                named.filter(|pair| !in_query || pair.number > 0).map(|pair| pair.value.as_str()).collect();
            values.join(",")
        };
        let mut servers = servers::parse(&list("host"), &list("hostaddr"), &list("port"))?;
        if parameters.random {
            servers::shuffle(&mut servers);
        }
        parameters.finish(servers)
    }
}
