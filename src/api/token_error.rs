//! Reasons why a token is refused.

use crate::named::named_enum;

named_enum! {
    /// The reason why a token is refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum TokenError {
        /// The request has no token.
        #[error("an Authorization header with a Bearer token is required")]
        Missing = "missing",
        /// The token is not a JWT.
        #[error("the token is not a readable JWT")]
        Malformed = "malformed",
        /// The token is signed with an algorithm that is not accepted.
        #[error("the token's algorithm is not accepted")]
        Algorithm = "algorithm",
        /// The signature is by another key, or over other claims.
        #[error("the token's signature is not valid")]
        Signature = "signature",
        /// `exp` has passed.
        #[error("the token has expired")]
        Expired = "expired",
        /// `nbf` has not been reached.
        #[error("the token is not valid yet")]
        NotYet = "not_yet",
        /// `aud` names another audience.
        #[error("the token is for another audience")]
        Audience = "audience",
        /// `iss` names another issuer.
        #[error("the token is from another issuer")]
        Issuer = "issuer",
        /// A required claim is missing, or a claim has the wrong type.
        #[error("a claim of the token is missing or has the wrong type: exp, aud, nbf, or iss if an issuer is configured")]
        Incomplete = "incomplete",
        /// Neither `tenant_id` nor `app_metadata.tenant_id` is a UUID.
        #[error("the token names no tenant: neither tenant_id nor app_metadata.tenant_id is a UUID")]
        NoTenant = "no_tenant",
        /// `sub` has a character that cannot be passed to the database.
        #[error("the token's sub has a character that cannot be used, such as NUL")]
        Subject = "subject",
    }
}
