//! Verification of token signatures with ring, which TLS uses too: the binary has one cryptographic library.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use signature::Verifier;

/// Installs this verification in the JWT library. Further calls have no effect.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _: &EncodingKey| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        verifier_factory: |algorithm, key| Ok(Box::new(KeyedVerifier::new(*algorithm, key)?)),
        key_utils: KeyUtils::new_unimplemented(),
    };
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = PROVIDER.install_default(); // fails only if the process has already installed a provider
    });
}

/// A verifier for one accepted algorithm, with its key.
enum KeyedVerifier {
    Hs256(ring::hmac::Key),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
    Es256(Vec<u8>),
}

impl KeyedVerifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        match (algorithm, key.kind()) {
            _ if algorithm.family() != key.family() => Err(new_error(ErrorKind::InvalidAlgorithm)),
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                Ok(KeyedVerifier::Hs256(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret)))
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Ok(KeyedVerifier::Rs256 { n: n.clone(), e: e.clone() })
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                Ok(KeyedVerifier::Es256(point.clone()))
            }
            _ => Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        }
    }
}

impl Verifier<Vec<u8>> for KeyedVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match self {
            KeyedVerifier::Hs256(key) => ring::hmac::verify(key, message, signature),
            KeyedVerifier::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            KeyedVerifier::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for KeyedVerifier {
    fn algorithm(&self) -> Algorithm {
        match self {
            KeyedVerifier::Hs256(_) => Algorithm::HS256,
            KeyedVerifier::Rs256 { .. } => Algorithm::RS256,
            KeyedVerifier::Es256(_) => Algorithm::ES256,
        }
    }
}
