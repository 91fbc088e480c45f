//! Numbers of things in sentences.

/// Returns "1 event", "2 events": the number and the noun, which takes an s.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        let all = [0_u64, 1, 2].map(|count| counted(count, "dead letter"));
        assert_eq!(all, ["0 dead letters", "1 dead letter", "2 dead letters"]);
        assert_eq!(counted(1_usize, "row"), "1 row");
    }
}
