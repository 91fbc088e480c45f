//! The state of a workflow, as its producer knows it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `state` of an event, with the fields that the contract names. Any other JSON object is accepted as a state too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkflowState<'a> {
    /// Status of the workflow: `running`, `paused`, `completed`, `failed` or another word.
    pub status: Cow<'a, str>,
    /// Current stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_stage: Option<Cow<'a, str>>,
    /// Number of lines of the BOM.
    pub total_items: u64,
    /// Number of completed lines.
    pub completed_items: u64,
    /// Number of failed lines.
    pub failed_items: u64,
    /// Progress in percent, 0-100.
    pub percent: u8,
}

impl WorkflowState<'_> {
    /// Returns the state of a running workflow; the percentage is computed from the numbers of lines.
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
