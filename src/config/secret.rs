//! Values that no log, error or output may show.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::uri;

/// A value that no log, error or output may show.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Secret")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// Query parameters that hold no secret.
const PRINTABLE: [&str; 20] = [
    "heartbeat",
    "connection_timeout",
    "connect_timeout",
    "channel_max",
    "frame_max",
    "auth_mechanism",
    "verify",
    "sslmode",
    "application_name",
    "cacertfile",
    "certfile",
    "sslrootcert",
    "sslcert",
    "ssl",
    "target_session_attrs",
    "load_balance_hosts",
    "channel_binding",
    "pgbouncer",
    "host",
    "port",
];

/// Schemes of the URIs of which a part is shown. Another text with `://` in it may be a secret as a whole.
const SCHEMES: [&str; 7] = ["amqp", "amqps", "pyamqp", "py-amqp", "librabbitmq", "postgres", "postgresql"];

/// Hides the password of a URI and the query parameters that may hold a secret. Any other secret, and a text that is not exactly
/// one URI, is hidden as a whole.
#[must_use]
pub fn masked(secret: &str) -> String {
    match masked_uri(secret) {
        Some(uri) => uri,
        None if secret.is_empty() => String::new(),
        None => "***".into(),
    }
}

fn masked_uri(secret: &str) -> Option<String> {
    uri::form(secret).ok()?;
    let (scheme, rest) = secret.split_once("://")?;
    if !SCHEMES.contains(&scheme.split('+').next()?.to_ascii_lowercase().as_str()) {
        return None;
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@').map(|(login, hosts)| (login.split_once(':'), hosts)) {
        Some((Some((user, _)), hosts)) => format!("{user}:***@{hosts}"),
        _ => authority.to_owned(),
    };
    let Some((path, query)) = tail.split_once('?') else {
        return Some(format!("{scheme}://{authority}{tail}"));
    };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((key, value)) if PRINTABLE.contains(&key) && !value.contains([',', ';', ':']) => parameter,
        _ => "***",
    });
    let query = parameters.collect::<Vec<_>>().join("&");
    Some(format!("{scheme}://{authority}{path}?{query}"))
}
