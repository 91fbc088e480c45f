//! Bearer tokens: JWT (RFC 7519), and the tenant that they name.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::keys::{KeyError, Keys};
use super::signature;
use crate::config;
use crate::store::read::AccessScope;

/// The algorithms that are accepted, where there is a key for them. Not `none`, and none by a key of another.
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("HS256", Algorithm::HS256), ("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256)];

/// How far the issuer's clock may be ahead, in seconds. A token that has expired gets nothing on top.
const LEEWAY_SECONDS: u64 = 5;

/// A UUID as row-level security reads it: hyphenated.
const UUID_CHARS: usize = 36;

/// Whoever a valid token speaks for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant, for the rate limit.
    pub tenant: Uuid,
    /// What the database is told.
    pub scope: AccessScope,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("an Authorization header with a Bearer token is needed")]
    Missing,
    /// It is no JWT.
    #[error("the token is no JWT that can be read")]
    Malformed,
    /// It is signed in a way that is not accepted here.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The signature is of another key, or of other claims.
    #[error("the token's signature is not valid")]
    Signature,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `aud` names somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// `iss` is somebody else.
    #[error("the token is of another issuer")]
    Issuer,
    /// A claim that has to be there is not, or is not of its type.
    #[error(
        "the token lacks a claim, or has one that is not of its type: exp, aud, nbf, and iss where an issuer is asked for"
    )]
    Incomplete,
    /// Neither `tenant_id` nor `app_metadata.tenant_id` is a UUID.
    #[error("the token names no tenant: neither tenant_id nor app_metadata.tenant_id is a UUID")]
    NoTenant,
    /// The database could not hold `sub`.
    #[error("the token's sub holds what cannot be passed on, like a NUL")]
    Subject,
}

impl TokenError {
    /// All of them.
    pub const ALL: [TokenError; 11] = [
        TokenError::Missing,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Signature,
        TokenError::Expired,
        TokenError::NotYet,
        TokenError::Audience,
        TokenError::Issuer,
        TokenError::Incomplete,
        TokenError::NoTenant,
        TokenError::Subject,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TokenError::Missing => "missing",
            TokenError::Malformed => "malformed",
            TokenError::Algorithm => "algorithm",
            TokenError::Signature => "signature",
            TokenError::Expired => "expired",
            TokenError::NotYet => "not_yet",
            TokenError::Audience => "audience",
            TokenError::Issuer => "issuer",
            TokenError::Incomplete => "incomplete",
            TokenError::NoTenant => "no_tenant",
            TokenError::Subject => "subject",
        }
    }
}

/// Verifies tokens, by keys that may change.
pub struct Tokens {
    config: config::Api,
    keys: RwLock<Arc<Keys>>,
}

impl Tokens {
    /// With the keys that there are now.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn new(config: &config::Api) -> Result<Self, KeyError> {
        signature::install();
        let keys = RwLock::new(Arc::new(Keys::load(config)?));
        Ok(Tokens { config: config.clone(), keys })
    }

    /// Reads the keys again; returns whether they are others now.
    ///
    /// # Errors
    /// As [`Keys::load`]; the keys stay as they were.
    pub fn reload(&self) -> Result<bool, KeyError> {
        let Some(keys) = self.keys().again(&self.config)? else { return Ok(false) };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(true)
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom a token speaks for.
    ///
    /// # Errors
    /// Why it speaks for nobody.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let header = header(token).ok_or(TokenError::Malformed)?;
        // What a token calls critical has to be understood (RFC 7515, section 4.1.11), and nothing of it is here.
        if header.contains_key("crit") {
            return Err(TokenError::Malformed);
        }
        let named = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Malformed)?;
        let accepted =
            ALGORITHMS.into_iter().find(|(name, _)| *name == named).ok_or(TokenError::Algorithm)?;
        let (algorithm, keys) = (accepted.1, self.keys());
        if !keys.know(algorithm) {
            return Err(TokenError::Algorithm);
        }
        let validation = self.validation(algorithm);
        let mut refusal = TokenError::Signature;
        for key in keys.candidates(algorithm, header.get("kid").and_then(Value::as_str)) {
            match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
                Ok(token) => return caller(&token.claims),
                Err(error) => refusal = refused(error.kind()),
            }
            if refusal != TokenError::Signature {
                break; // it was the right key
            }
        }
        Err(refusal)
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

/// What a token says of itself, before anything of it is believed.
fn header(token: &str) -> Option<Map<String, Value>> {
    let (header, _) = token.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn refused(error: &ErrorKind) -> TokenError {
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
    // The leeway is for clocks that are ahead, not for tokens that are over.
    if claims.get("exp").and_then(Value::as_f64).is_none_or(|exp| exp <= now) {
        return Err(TokenError::Expired);
    }
    let tenant = tenant(claims).ok_or(TokenError::NoTenant)?;
    let scope = match claims.get("sub").and_then(Value::as_str) {
        Some(subject) => AccessScope::user(tenant, subject).map_err(|_| TokenError::Subject)?,
        None => AccessScope::tenant(tenant),
    };
    Ok(Caller { tenant, scope })
}

/// As the policy of the table reads it: `tenant_id`, else `app_metadata.tenant_id`; a null is none.
fn tenant(claims: &Map<String, Value>) -> Option<Uuid> {
    let own = claims.get("tenant_id").filter(|tenant| !tenant.is_null());
    let tenant = own.or_else(|| claims.get("app_metadata")?.get("tenant_id"))?.as_str()?;
    if tenant.len() == UUID_CHARS { Uuid::try_parse(tenant).ok() } else { None }
}
