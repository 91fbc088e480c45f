//! The keys that tokens are signed with: an HS256 secret, or public keys from a JWKS file (RFC 7517).

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::agreement;
use serde_json::Value;

use crate::config;

/// Lengths of an RSA modulus in bits: at least 2048 (RFC 7518, section 3.3), at most what the verifier takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys as of one reading of the configuration and the JWKS file.
pub struct Keys {
    keys: Vec<Key>,
    /// Content of the JWKS file.
    file: Option<Vec<u8>>,
}

/// A key for one algorithm. A token's header cannot select another algorithm for this key.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The reason why the configured keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key is configured.
    #[error(
        "api.jwt_secret, api.jwks_file: neither is set, but one of them is needed to verify tokens; set one"
    )]
    None,
    /// The file cannot be read.
    #[error("api.jwks_file = {}: cannot read the file: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("api.jwks_file = {}: is not a JSON Web Key Set: {source}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The file has no list of keys.
    #[error("api.jwks_file = {}: is not a JSON Web Key Set: it has no list `keys`", path.display())]
    NoList {
        /// The file.
        path: PathBuf,
    },
    /// The file has no usable key.
    #[error("api.jwks_file = {}: has no key for RS256 or ES256{unusable}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The keys of the file, each with the reason why it cannot be used.
        unusable: String,
    },
}

impl Keys {
    /// Reads the configured keys.
    ///
    /// # Errors
    /// Fails if no key is configured, or the file is not a key set with a usable key.
    pub fn load(config: &config::Api) -> Result<Self, KeyError> {
        Keys::of(config, Keys::file(config)?)
    }

    /// Reads the file again. Returns the new keys if its content has changed.
    pub(super) fn reload(&self, config: &config::Api) -> Result<Option<Self>, KeyError> {
        let file = Keys::file(config)?;
        if file == self.file { Ok(None) } else { Keys::of(config, file).map(Some) }
    }

    fn file(config: &config::Api) -> Result<Option<Vec<u8>>, KeyError> {
        if config.jwks_file.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(&config.jwks_file);
        std::fs::read(&path).map(Some).map_err(|source| KeyError::Unreadable { path, source })
    }

    fn of(config: &config::Api, file: Option<Vec<u8>>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        let secret = config.jwt_secret.expose();
        if !secret.is_empty() {
            let key = DecodingKey::from_secret(secret.as_bytes());
            keys.push(Key { id: None, algorithm: Algorithm::HS256, key });
        }
        if let Some(text) = &file {
            keys.extend(public_keys(text, Path::new(&config.jwks_file))?);
        }
        // An empty set is a set: its provider may add a key later.
        if keys.is_empty() && file.is_none() { Err(KeyError::None) } else { Ok(Keys { keys, file }) }
    }

    /// Returns the keys with which a token of this algorithm and key id may be signed.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let may_fit = move |key: &&Key| {
            // The configured secret has no id, even if its tokens name one.
            key.algorithm == algorithm && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        self.keys.iter().filter(may_fit).map(|key| &key.key)
    }

    /// Returns whether there is a key for this algorithm.
    pub(super) fn supports(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm == algorithm)
    }
}

/// Returns the usable keys of a JSON Web Key Set.
fn public_keys(text: &[u8], path: &Path) -> Result<Vec<Key>, KeyError> {
    let set: Value =
        serde_json::from_slice(text).map_err(|source| KeyError::NotJson { path: path.to_owned(), source })?;
    let listed = set["keys"].as_array().ok_or_else(|| KeyError::NoList { path: path.to_owned() })?;
    let (mut keys, mut unusable) = (Vec::new(), String::new());
    for (number, value) in listed.iter().enumerate() {
        // An unusable key does not prevent the use of the others.
        match usable(value) {
            Ok(key) => keys.push(key),
            Err(problem) => unusable.push_str(&format!("; key {} {problem}", number + 1)),
        }
    }
    if listed.is_empty() {
        tracing::warn!(file = %path.display(), "{} is an empty key set: no token is accepted until it has a key", path.display());
    } else if keys.is_empty() {
        return Err(KeyError::NoKey { path: path.to_owned(), unusable });
    }
    if !unusable.is_empty() {
        tracing::warn!(file = %path.display(), "unusable keys in {}{unusable}", path.display());
    }
    Ok(keys)
}

/// Returns a key of the set, or the reason why it cannot be used.
fn usable(value: &Value) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "is not a JSON Web Key")?;
    if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return Err("is not for signatures");
    }
    if value.get("d").is_some() {
        return Err("is a private key; the file must have public keys only");
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKey(_) => return Err("is a secret; set it as api.jwt_secret"),
        _ => return Err("is neither RSA nor P-256"),
    };
    if jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
        return Err("is for an algorithm other than RS256 and ES256");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "is malformed")?;
    let key = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => rsa_key(n, e)?,
        DecodingKeyKind::SecretOrDer(point) => {
            is_on_curve(point).then_some(()).ok_or("is no point of the curve P-256")?;
            key
        }
    };
    Ok(Key { id: jwk.common.key_id, algorithm, key })
}

/// Returns an RSA key whose numbers have no leading zeros, which some providers write and no verifier accepts.
fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Result<DecodingKey, &'static str> {
    let [modulus, exponent] = [modulus, exponent].map(|number| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        &number[zeros..]
    });
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err("is an RSA key with fewer than 2048 or more than 8192 bits");
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    // 3 to 2^33 - 1, the limits of the verifier.
    let exponent_fits = match exponent {
        [] | [1] => false,
        [first, _, _, _, _] => *first == 1,
        other => other.len() < 5,
    };
    if !is_odd(modulus) || !is_odd(exponent) || !exponent_fits {
        return Err("is an RSA key that cannot verify anything");
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// Returns whether bytes are an uncompressed point of P-256: a key agreement with it is refused otherwise.
fn is_on_curve(point: &[u8]) -> bool {
    let random = ring::rand::SystemRandom::new();
    let Ok(private) = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random) else {
        return true; // without randomness nothing is known
    };
    let public = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    agreement::agree_ephemeral(private, &public, |_| ()).is_ok()
}
