//! Values that no log, error or output may show.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

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

/// Hides the password of a URL, and the whole of any other secret.
#[must_use]
pub fn masked(secret: &str) -> String {
    match url::Url::parse(secret) {
        // An unescaped #, ? or / in a password moves the rest of the password into another part of the URL.
        Ok(mut url)
            if url.has_host()
                && url.fragment().is_none()
                && !url[url::Position::BeforePath..].contains('@') =>
        {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "***".into();
            }
            // A query may hold certificates' paths, and in some drivers a password.
            if url.query_pairs().any(|(key, _)| key == "password") {
                url.set_query(None);
            }
            url.into()
        }
        _ if secret.is_empty() => String::new(),
        _ => "***".into(),
    }
}
