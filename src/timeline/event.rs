//! An event as the fold takes it, whatever it was read from.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::register::Moment;

/// Event as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Id of the row: orders events of the same time.
    pub id: Uuid,
    /// Type, known or not.
    pub event_type: &'a str,
    /// BOM.
    pub bom_id: Uuid,
    /// Workflow, where it has one.
    pub workflow_id: Option<&'a str>,
    /// Organization as the producer names it.
    pub organization_id: Option<&'a str>,
    /// Time at which it happened.
    pub created_at: DateTime<Utc>,
    /// State of the workflow as the producer knew it: a JSON object.
    pub state: &'a RawValue,
    /// Payload: a JSON object.
    pub payload: &'a RawValue,
}

impl Event<'_> {
    /// Returns the place of the event in the order of its workflow.
    pub(super) fn moment(&self) -> Moment {
        (self.created_at, self.id)
    }
}
