//! Signatures of tokens, checked by ring: the cryptography that TLS uses here too, so that there is one.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use signature::Verifier;

/// Tells the JWT library to use what is here; once is enough, more does no harm.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _: &EncodingKey| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        verifier_factory: |algorithm, key| Ok(Box::new(Checked::new(*algorithm, key)?)),
        key_utils: KeyUtils::new_unimplemented(),
    };
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = PROVIDER.install_default(); // somebody else in the process may have been first
    });
}

/// One of the algorithms that are accepted, with its key.
enum Checked {
    Hs256(ring::hmac::Key),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
    Es256(Vec<u8>),
}

impl Checked {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        match (algorithm, key.kind()) {
            _ if algorithm.family() != key.family() => Err(new_error(ErrorKind::InvalidAlgorithm)),
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                Ok(Checked::Hs256(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret)))
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                Ok(Checked::Rs256 { n: n.clone(), e: e.clone() })
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => Ok(Checked::Es256(point.clone())),
            _ => Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        }
    }
}

impl Verifier<Vec<u8>> for Checked {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match self {
            Checked::Hs256(key) => ring::hmac::verify(key, message, signature),
            Checked::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Checked::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Checked {
    fn algorithm(&self) -> Algorithm {
        match self {
            Checked::Hs256(_) => Algorithm::HS256,
            Checked::Rs256 { .. } => Algorithm::RS256,
            Checked::Es256(_) => Algorithm::ES256,
        }
    }
}
