//! New event ids.

use chrono::Utc;
use uuid::{Builder, Uuid};

/// Returns a new `event_id`: a `UUIDv7` whose random bits come from the kernel.
///
/// A generator in the process would be copied by a fork, and parent and child would create the same ids.
#[must_use]
pub fn fresh_id() -> String {
    let millis = u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default();
    let mut random = [0; 10];
    let id = match getrandom::fill(&mut random) {
        Ok(()) => Builder::from_unix_timestamp_millis(millis, &random).into_uuid(),
        Err(_) => Uuid::now_v7(), // a kernel without random numbers
    };
    id.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_of_version_7() {
        let ids: HashSet<String> = (0..1000).map(|_| fresh_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| Uuid::try_parse(id).unwrap().get_version_num() == 7));
    }
}
