//! The known event types: names, routing keys and priorities (section 3 of the contract).

use std::fmt;

/// A known event type.
///
/// A type outside this list is stored all the same; it has no payload schema, and metrics count it as `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// A workflow has begun to process a BOM.
    ProcessingStarted,
    /// A stage of the workflow has begun.
    StageStarted,
    /// A stage of the workflow is done.
    StageCompleted,
    /// One line of the BOM went through enrichment.
    EnrichmentProgress,
    /// A component carries a risk worth a person's attention.
    RiskAlert,
    /// A person paused the workflow.
    WorkflowPaused,
    /// A person resumed the workflow.
    WorkflowResumed,
    /// Something failed.
    Error,
    /// A component was matched with a supplier's part.
    ComponentMatched,
    /// A supplier's API was called.
    ApiCallMade,
    /// A lookup was answered from the cache.
    CacheHit,
    /// A lookup was not in the cache.
    CacheMiss,
}

impl EventType {
    /// Every known type, in the order of the contract's table.
    pub const ALL: [EventType; 12] = [
        EventType::ProcessingStarted,
        EventType::StageStarted,
        EventType::StageCompleted,
        EventType::EnrichmentProgress,
        EventType::RiskAlert,
        EventType::WorkflowPaused,
        EventType::WorkflowResumed,
        EventType::Error,
        EventType::ComponentMatched,
        EventType::ApiCallMade,
        EventType::CacheHit,
        EventType::CacheMiss,
    ];

    /// The name that stands in `event_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventType::ProcessingStarted => "processing_started",
            EventType::StageStarted => "stage_started",
            EventType::StageCompleted => "stage_completed",
            EventType::EnrichmentProgress => "enrichment_progress",
            EventType::RiskAlert => "risk_alert",
            EventType::WorkflowPaused => "workflow_paused",
            EventType::WorkflowResumed => "workflow_resumed",
            EventType::Error => "error",
            EventType::ComponentMatched => "component_matched",
            EventType::ApiCallMade => "api_call_made",
            EventType::CacheHit => "cache_hit",
            EventType::CacheMiss => "cache_miss",
        }
    }

    /// The AMQP priority, 0-9. Of a risk alert the routing key tells the severity.
    #[must_use]
    pub fn priority(self, routing_key: &str) -> u8 {
        match self {
            EventType::WorkflowPaused | EventType::WorkflowResumed => 9,
            EventType::Error => 8,
            EventType::RiskAlert if routing_key.ends_with(".critical") => 8,
            EventType::RiskAlert | EventType::ProcessingStarted => 7,
            EventType::StageStarted | EventType::StageCompleted => 6,
            EventType::EnrichmentProgress | EventType::ComponentMatched => 4,
            EventType::ApiCallMade => 3,
            EventType::CacheHit | EventType::CacheMiss => 2,
        }
    }

    /// The type of that name, where it is a known one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<EventType> {
        EventType::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in EventType::ALL {
            assert_eq!(EventType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(EventType::from_name("Processing_Started"), None);
    }
}
