//! The keys that tokens are signed with: an HS256 secret, or public keys from a JWKS file (RFC 7517).

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::config;

/// RFC 7518, section 3.2: a key for HS256 has as many bits as its hash.
const SECRET_BYTES: usize = 32;

/// RFC 7518, section 3.3: an RSA key has 2048 bits or more.
const RSA_BYTES: usize = 256;

/// The keys of one moment.
pub struct Keys {
    keys: Vec<Key>,
    /// What the JWKS file held.
    file: Option<Vec<u8>>,
}

/// A key, pinned to one algorithm: whatever a token says of itself, it cannot be checked by this key with another.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There are none.
    #[error(
        "api.jwt_secret, api.jwks_file: neither is set, so that no token could be verified; set one of them"
    )]
    None,
    /// The file cannot be read.
    #[error("api.jwks_file = {}: cannot be read: {error}", path.display())]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file holds no key set.
    #[error("api.jwks_file = {}: is no JSON Web Key Set: {problem}", path.display())]
    NoKeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file holds no key that can be used.
    #[error("api.jwks_file = {}: has no key for RS256 or ES256{left_out}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Those that it has, and why they cannot be used.
        left_out: String,
    },
}

impl Keys {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// Where there are none, or the file is no key set.
    pub fn load(config: &config::Api) -> Result<Self, KeyError> {
        Keys::of(config, Keys::file(config)?)
    }

    /// The keys that the file holds now, where it is not as it was.
    pub(super) fn again(&self, config: &config::Api) -> Result<Option<Self>, KeyError> {
        let file = Keys::file(config)?;
        if file == self.file { Ok(None) } else { Keys::of(config, file).map(Some) }
    }

    fn file(config: &config::Api) -> Result<Option<Vec<u8>>, KeyError> {
        if config.jwks_file.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(&config.jwks_file);
        std::fs::read(&path).map(Some).map_err(|error| KeyError::Unreadable { path, error })
    }

    fn of(config: &config::Api, file: Option<Vec<u8>>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        let secret = config.jwt_secret.expose();
        if !secret.is_empty() {
            let key = DecodingKey::from_secret(secret.as_bytes());
            keys.push(Key { id: None, algorithm: Algorithm::HS256, key });
        }
        if let Some(text) = &file {
            keys.extend(public(text, Path::new(&config.jwks_file))?);
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Keys { keys, file }) }
    }

    /// Whether the secret is shorter than it should be, and could be guessed from a token.
    #[must_use]
    pub fn weak_secret(config: &config::Api) -> bool {
        (1..SECRET_BYTES).contains(&config.jwt_secret.expose().len())
    }

    /// The keys that a token with this algorithm and key id may have been signed with.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let may = move |key: &&Key| {
            // A secret has no id, whatever its tokens say.
            key.algorithm == algorithm && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        self.keys.iter().filter(may).map(|key| &key.key)
    }

    /// Whether there is any key for this algorithm.
    pub(super) fn know(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm == algorithm)
    }
}

fn public(text: &[u8], path: &Path) -> Result<Vec<Key>, KeyError> {
    let no_key_set = |problem: String| KeyError::NoKeySet { path: path.to_owned(), problem };
    let set: Value = serde_json::from_slice(text).map_err(|error| no_key_set(error.to_string()))?;
    let listed = set["keys"].as_array().ok_or_else(|| no_key_set("it has no list `keys`".into()))?;
    let (mut keys, mut left_out) = (Vec::new(), String::new());
    for (number, value) in listed.iter().enumerate() {
        // One key that cannot be used does not cost the others.
        match usable(value) {
            Ok(key) => keys.push(key),
            Err(why) => left_out.push_str(&format!("; key {} {why}", number + 1)),
        }
    }
    if keys.is_empty() {
        return Err(KeyError::NoKey { path: path.to_owned(), left_out });
    }
    if !left_out.is_empty() {
        tracing::warn!(file = %path.display(), "keys that are not used{left_out}");
    }
    Ok(keys)
}

fn usable(value: &Value) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "is no JSON Web Key")?;
    if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return Err("is not for signatures");
    }
    if value.get("d").is_some() {
        return Err("is a private key, which has no place here");
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKey(_) => return Err("is a secret, which belongs into api.jwt_secret"),
        _ => return Err("is neither RSA nor P-256"),
    };
    if jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
        return Err("is for another algorithm than RS256 and ES256");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "is not well formed")?;
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } if n.len() < RSA_BYTES => {
            Err("is an RSA key of less than 2048 bits")
        }
        // 0x04 and both coordinates.
        jsonwebtoken::DecodingKeyKind::SecretOrDer(point) if point.len() != 65 => Err("is not well formed"),
        _ => Ok(Key { id: jwk.common.key_id, algorithm, key }),
    }
}
