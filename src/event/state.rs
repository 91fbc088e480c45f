//! A workflow's state as its producer knows it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `state` of an event, in the words that the contract has for it. Any other JSON object is a state too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkflowState<'a> {
    /// How the workflow stands: `running`, `paused`, `completed`, `failed` or another word.
    pub status: Cow<'a, str>,
    /// The stage it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_stage: Option<Cow<'a, str>>,
    /// Lines of the BOM.
    pub total_items: u64,
    /// Lines that are done.
    pub completed_items: u64,
    /// Lines that failed.
    pub failed_items: u64,
    /// How much of it is done, 0-100.
    pub percent: u8,
}

impl WorkflowState<'_> {
    /// A state with that many lines, of which some are done and some failed; the percentage follows.
    #[must_use]
    pub fn running(total_items: u64, completed_items: u64, failed_items: u64) -> Self {
        let done = completed_items.saturating_add(failed_items).min(total_items);
        let percent = (u128::from(done) * 100 / u128::from(total_items.max(1))) as u8;
        let status = Cow::Borrowed("running");
        WorkflowState { status, current_stage: None, total_items, completed_items, failed_items, percent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_follows_and_stays_within_bounds() {
        assert_eq!(WorkflowState::running(66, 30, 3).percent, 50);
        assert_eq!(WorkflowState::running(0, 0, 0).percent, 0);
        assert_eq!(WorkflowState::running(2, u64::MAX, u64::MAX).percent, 100);
    }
}
