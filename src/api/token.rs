//! Bearer tokens: JWTs (RFC 7519), and the tenant that they name.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::caller::Caller;
use super::keys::{KeyError, Keys};
use super::signature;
use super::token_error::TokenError;
use crate::config;
use crate::store::read::AccessScope;

/// Accepted algorithms, if there is a key for them. `none` is never accepted.
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("HS256", Algorithm::HS256), ("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256)];

/// Leeway for an issuer's clock that is ahead, in seconds. Applies to `nbf` only; expired tokens get none.
const LEEWAY_SECONDS: u64 = 5;

/// Length of a hyphenated UUID, the only form that the row-level security policy reads.
const UUID_CHARS: usize = 36;

/// Claim within `app_metadata` that names support staff, and its value.
pub(super) const ROLE_CLAIM: &str = "cns_role";
pub(super) const SUPPORT: &str = "support";

/// Verifies tokens with keys that can be reloaded.
pub struct Tokens {
    config: config::Api,
    keys: RwLock<Arc<Keys>>,
}

impl Tokens {
    /// Reads the configured keys.
    ///
    /// # Errors
    /// Fails as [`Keys::load`].
    pub fn new(config: &config::Api) -> Result<Self, KeyError> {
        signature::install();
        let keys = RwLock::new(Arc::new(Keys::load(config)?));
        Ok(Tokens { config: config.clone(), keys })
    }

    /// Reads the keys again. Returns whether they have changed.
    ///
    /// # Errors
    /// Fails as [`Keys::load`]; the previous keys stay in use.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let Some(keys) = self.keys().reload(&self.config)? else { return Ok(false) };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(true)
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Verifies a token. Returns the caller that it names.
    ///
    /// # Errors
    /// The reason for which the token is refused.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let header = header(token).ok_or(TokenError::Malformed)?;
        // A critical extension must be understood (RFC 7515, section 4.1.11), and none is implemented.
        if header.contains_key("crit") {
            return Err(TokenError::Malformed);
        }
        let named = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Malformed)?;
        let accepted =
            ALGORITHMS.into_iter().find(|(name, _)| *name == named).ok_or(TokenError::Algorithm)?;
        let (algorithm, keys) = (accepted.1, self.keys());
        if !keys.supports(algorithm) {
            return Err(TokenError::Algorithm);
        }
        let validation = self.validation(algorithm);
        let mut refused = TokenError::Signature;
        for key in keys.candidates(algorithm, header.get("kid").and_then(Value::as_str)) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
                Ok(token) => return caller(&token.claims),
                Err(error) => refused = reason(error.kind()),
            }
            if refused != TokenError::Signature {
                break; // the signature matched this key
            }
        }
        Err(refused)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.config.jwt_audience]);
        let mut required = vec!["exp", "aud"];
        if !self.config.jwt_issuer.is_empty() {
            validation.set_issuer(&[&self.config.jwt_issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// Returns the header of a token. Nothing in it is verified yet.
fn header(token: &str) -> Option<Map<String, Value>> {
    let (header, _) = token.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn reason(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYet,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenError::Incomplete,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

fn caller(claims: &Map<String, Value>) -> Result<Caller, TokenError> {
    let now = Utc::now().timestamp_micros() as f64 / 1e6;
    // The library applies its leeway to `exp` too.
    let exp =
        claims.get("exp").and_then(Value::as_f64).filter(|exp| *exp > now).ok_or(TokenError::Expired)?;
    let expires_at =
        DateTime::from_timestamp_millis((exp * 1000.0) as i64).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let subject = claims.get("sub").and_then(Value::as_str);
    if is_support(claims) {
        return Ok(Caller::support(subject, expires_at));
    }
    let tenant = tenant(claims).ok_or(TokenError::NoTenant)?;
    let scope = match subject {
        Some(subject) => AccessScope::user(tenant, subject).map_err(|_| TokenError::Subject)?,
        None => AccessScope::tenant(tenant),
    };
    Ok(Caller::tenant(tenant, scope, expires_at))
}

/// Returns whether the token is one of support staff. Users cannot write `app_metadata`.
fn is_support(claims: &Map<String, Value>) -> bool {
    claims.get("app_metadata").and_then(|metadata| metadata.get(ROLE_CLAIM)?.as_str()) == Some(SUPPORT)
}

/// Returns the tenant as the policy of the table reads it: `tenant_id`, else `app_metadata.tenant_id`; null counts as absent.
fn tenant(claims: &Map<String, Value>) -> Option<Uuid> {
    let own = claims.get("tenant_id").filter(|tenant| !tenant.is_null());
    let tenant = own.or_else(|| claims.get("app_metadata")?.get("tenant_id"))?.as_str()?;
    if tenant.len() == UUID_CHARS { Uuid::try_parse(tenant).ok() } else { None }
}
