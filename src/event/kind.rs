//! The known event types: names, routing keys and priorities (section 3 of the contract).

use std::fmt;

/// A known event type.
///
/// A type outside this list is stored all the same; it has no payload schema, and metrics count it as `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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

impl Kind {
    /// Every known type, in the order of the contract's table.
    pub const ALL: [Kind; 12] = [
        Kind::ProcessingStarted,
        Kind::StageStarted,
        Kind::StageCompleted,
        Kind::EnrichmentProgress,
        Kind::RiskAlert,
        Kind::WorkflowPaused,
        Kind::WorkflowResumed,
        Kind::Error,
        Kind::ComponentMatched,
        Kind::ApiCallMade,
        Kind::CacheHit,
        Kind::CacheMiss,
    ];

    /// The name that stands in `event_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ProcessingStarted => "processing_started",
            Kind::StageStarted => "stage_started",
            Kind::StageCompleted => "stage_completed",
            Kind::EnrichmentProgress => "enrichment_progress",
            Kind::RiskAlert => "risk_alert",
            Kind::WorkflowPaused => "workflow_paused",
            Kind::WorkflowResumed => "workflow_resumed",
            Kind::Error => "error",
            Kind::ComponentMatched => "component_matched",
            Kind::ApiCallMade => "api_call_made",
            Kind::CacheHit => "cache_hit",
            Kind::CacheMiss => "cache_miss",
        }
    }

    /// The AMQP priority, 0-9. Of a risk alert the routing key tells the severity.
    #[must_use]
    pub fn priority(self, routing_key: &str) -> u8 {
        match self {
            Kind::WorkflowPaused | Kind::WorkflowResumed => 9,
            Kind::Error => 8,
            Kind::RiskAlert if routing_key.ends_with(".critical") => 8,
            Kind::RiskAlert | Kind::ProcessingStarted => 7,
            Kind::StageStarted | Kind::StageCompleted => 6,
            Kind::EnrichmentProgress | Kind::ComponentMatched => 4,
            Kind::ApiCallMade => 3,
            Kind::CacheHit | Kind::CacheMiss => 2,
        }
    }

    /// The type of that name, where it is a known one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("Processing_Started"), None);
    }
}
