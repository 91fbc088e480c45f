//! A stored event as the API returns it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::read::StoredEvent;

/// One stored event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub(super) struct EventBody {
    /// Id of the row.
    id: Uuid,
    /// Deduplication key, chosen by the producer.
    #[schema(max_length = 255)]
    event_id: String,
    /// Type of the event.
    #[schema(max_length = 100, example = "enrichment_progress")]
    event_type: String,
    /// Routing key that the message was published under.
    #[schema(required, max_length = 255, example = "cns.enrichment.progress")]
    routing_key: Option<String>,
    /// BOM that the event is about.
    bom_id: Uuid,
    /// Tenant that owns the event.
    tenant_id: Uuid,
    /// Organization, as the producer names it.
    #[schema(required)]
    organization_id: Option<String>,
    /// Project of the BOM.
    #[schema(required)]
    project_id: Option<Uuid>,
    /// User who acted.
    #[schema(required)]
    user_id: Option<Uuid>,
    /// Source of the event: `customer` or `staff`.
    #[schema(max_length = 20, example = "customer")]
    source: String,
    /// Workflow that the event belongs to.
    #[schema(required, max_length = 255)]
    workflow_id: Option<String>,
    /// State of the workflow, as the producer knew it.
    #[schema(value_type = Object)]
    state: Box<RawValue>,
    /// Data of the event.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// Time of the event.
    created_at: DateTime<Utc>,
}

impl From<StoredEvent> for EventBody {
    fn from(event: StoredEvent) -> Self {
        EventBody {
            id: event.id,
            event_id: event.event_id,
            event_type: event.event_type,
            routing_key: event.routing_key,
            bom_id: event.bom_id,
            tenant_id: event.tenant_id,
            organization_id: event.organization_id,
            project_id: event.project_id,
            user_id: event.user_id,
            source: event.source,
            workflow_id: event.workflow_id,
            state: event.state,
            payload: event.payload,
            created_at: event.created_at,
        }
    }
}

/// The name of an event type, known or unknown; only for the document.
#[derive(utoipa::ToSchema)]
#[schema(as = EventType, value_type = String, min_length = 1, max_length = 100, pattern = "^[^,\\u0000]+$")]
#[allow(dead_code)] // the derived schema is used, the value is not
pub(super) struct EventTypeName(String);
