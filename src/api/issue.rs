//! Tokens that this program signs itself, with the configured HS256 secret: for support staff, scripts and first steps.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use super::token::{ROLE_CLAIM, SUPPORT};
use crate::config;

/// Holder of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A tenant.
    Tenant(Uuid),
    /// Support staff.
    Support,
}

/// Error where no secret is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "api.jwt_secret is not set: there is nothing to sign a token with; set it (CNS_EVENTS__API__JWT_SECRET_FILE) to the secret that \
     `cns-events serve` verifies tokens with"
)]
pub struct NoSecret;

/// Signs a token that expires after `lifetime`, with the audience and the issuer of the configuration.
///
/// # Errors
/// No secret is configured.
pub fn sign(
    config: &config::Api,
    holder: Holder,
    subject: Option<&str>,
    lifetime: Duration,
) -> Result<String, NoSecret> {
    let secret = config.jwt_secret.expose();
    if secret.is_empty() {
        return Err(NoSecret);
    }
    let now = Utc::now().timestamp();
    let expires = now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
    let mut claims = json!({ "aud": config.jwt_audience, "iat": now, "exp": expires });
    match holder {
        Holder::Tenant(tenant) => claims["tenant_id"] = json!(tenant),
        Holder::Support => claims["app_metadata"] = json!({ ROLE_CLAIM: SUPPORT }),
    }
    if !config.jwt_issuer.is_empty() {
        claims["iss"] = json!(config.jwt_issuer);
    }
    if let Some(subject) = subject {
        claims["sub"] = json!(subject);
    }
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
