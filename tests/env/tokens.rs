//! Tokens as an issuer makes them, and as an attacker does; keys of this run's own, but for one of RSA.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use uuid::Uuid;

/// A key of 2048 bits, made for these tests: ring makes none.
const RSA: &[u8] = include_bytes!("rsa.pk8");

pub const SECRET: &str = "a secret of the tests, of 32 bytes and more";
pub const AUDIENCE: &str = "authenticated";

/// Somebody who signs.
pub struct Issuer {
    rsa: RsaKeyPair,
    pub ec: EcdsaKeyPair,
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub fn new() -> Issuer {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap();
        Issuer { rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(), ec }
    }

    /// Modulus and exponent of the RSA key.
    pub fn rsa_public(&self) -> (Vec<u8>, Vec<u8>) {
        let key: ring::rsa::PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        (key.n, key.e)
    }

    /// Its public keys: `rsa` and `ec`.
    pub fn jwks(&self) -> Value {
        let (n, e) = self.rsa_public();
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": b64(n), "e": b64(e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..])},
        ]})
    }

    /// A token with this header and these claims, signed as `how` says.
    pub fn sign(&self, how: How<'_>, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let message = signed.as_bytes();
        let signature = match how {
            How::Hmac(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::sign(&key, message).as_ref().to_vec()
            }
            How::Rsa => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            How::Ec => self.ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            How::Not => Vec::new(),
        };
        format!("{signed}.{}", b64(signature))
    }

    /// A good token, in each way there is.
    pub fn good(&self, algorithm: &str, claims: &Value) -> String {
        let (how, kid) = match algorithm {
            "HS256" => (How::Hmac(SECRET.as_bytes()), Value::Null),
            "RS256" => (How::Rsa, json!("rsa")),
            "ES256" => (How::Ec, json!("ec")),
            other => panic!("{other}"),
        };
        let mut header = json!({"alg": algorithm, "typ": "JWT"});
        if !kid.is_null() {
            header["kid"] = kid;
        }
        self.sign(how, &header, claims)
    }
}

#[derive(Clone, Copy)]
pub enum How<'a> {
    Hmac(&'a [u8]),
    Rsa,
    Ec,
    Not,
}

/// The claims of a good token.
pub fn claims(tenant: Uuid) -> Value {
    json!({"tenant_id": tenant, "aud": AUDIENCE, "exp": Utc::now().timestamp() + 600, "sub": "somebody", "role": "authenticated"})
}

/// A good token of a tenant, by the secret.
pub fn token(tenant: Uuid) -> String {
    Issuer::new().good("HS256", &claims(tenant))
}
