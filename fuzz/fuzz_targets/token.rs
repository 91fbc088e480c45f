//! Any bytes as a token of the read API: as they are, and as claims that are signed with the right key. `make fuzz`.

#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cns_events::api::Tokens;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use serde_json::{Value, json};

const SECRET: &str = "a secret of at least thirty-two bytes";

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let config = json!({
        "listen": "127.0.0.1:0", "jwt_secret": SECRET, "jwks_file": "", "jwt_audience": "fuzz", "jwt_issuer": "",
        "rate_limit": 0, "request_timeout_ms": 1, "cors_origins": "",
    });
    Tokens::new(&serde_json::from_value(config).expect("a configuration")).expect("a key")
});

fn signed(claims: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fuzz_target!(|input: &[u8]| {
    if let Ok(token) = std::str::from_utf8(input) {
        assert!(TOKENS.verify(token).is_err(), "nothing is accepted that is not signed");
    }
    if let Ok(caller) = TOKENS.verify(&signed(input)) {
        let claims: Value = serde_json::from_slice(input).expect("claims are JSON");
        let metadata = &claims["app_metadata"];
        match caller.own_tenant() {
            Some(found) => {
                let own = claims.get("tenant_id").filter(|tenant| !tenant.is_null());
                let tenant = own.unwrap_or(&metadata["tenant_id"]).as_str().expect("a tenant is named");
                assert!(
                    tenant.eq_ignore_ascii_case(&found.to_string()),
                    "{tenant}: the tenant is the one that the token names"
                );
            }
            None => assert_eq!(metadata["cns_role"], "support", "only support staff has no tenant"),
        }
        assert!(claims["exp"].as_f64().is_some(), "a token expires");
    }
    // The header is any bytes too.
    let header = format!("{}.e30.", URL_SAFE_NO_PAD.encode(input));
    assert!(TOKENS.verify(&header).is_err());
});
