//! The tenant of an event that names only an organization.

use uuid::Uuid;

/// Namespace in which an organization's tenant id is derived: `UUIDv5(NAMESPACE, organization_id)`.
///
/// The namespace is itself `UUIDv5(NAMESPACE_DNS, "organization.cns-events")`. It never changes: another value would give every
/// organization another tenant.
pub const TENANT_NAMESPACE: Uuid = Uuid::from_u128(0xc237_4d75_f6f3_5b2e_9b8f_2eac_53d9_11bc);

/// Returns the tenant of an organization: the id itself if it is a UUID, else a `UUIDv5` in [`TENANT_NAMESPACE`].
#[must_use]
pub fn tenant_of(organization_id: &str) -> Uuid {
    Uuid::try_parse(organization_id)
        .unwrap_or_else(|_| Uuid::new_v5(&TENANT_NAMESPACE, organization_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_derived_as_documented() {
        assert_eq!(TENANT_NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"organization.cns-events"));
    }

    #[test]
    fn an_organization_id_that_is_a_uuid_is_the_tenant() {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(tenant_of(id).to_string(), id);
        assert_eq!(tenant_of("org-123"), tenant_of("org-123"));
        assert_ne!(tenant_of("org-123"), tenant_of("org-124"));
    }
}
