//! The fields that all events of a workflow share.

use std::borrow::Cow;

use chrono::Utc;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::envelope::Event;
use super::event_type::Payload;
use super::fresh_id::fresh_id;
use super::source::Source;
use super::tenant::tenant_of;

/// A workflow, as a producer knows it: the fields that all of its events share.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// BOM that the workflow processes.
    pub bom_id: Uuid,
    /// Tenant that owns the workflow.
    pub tenant_id: Uuid,
    /// Organization, as the producer names it.
    pub organization_id: String,
    /// Id of the workflow.
    pub workflow_id: String,
    /// Project of the BOM.
    pub project_id: Option<Uuid>,
    /// User who started the workflow.
    pub user_id: Option<Uuid>,
    /// Source of the events.
    pub source: Source,
}

impl Workflow {
    /// Returns a workflow of an organization; the organization's id determines the tenant ([`tenant_of`]).
    #[must_use]
    pub fn new(bom_id: Uuid, organization_id: impl Into<String>, workflow_id: impl Into<String>) -> Self {
        let organization_id = organization_id.into();
        Workflow {
            bom_id,
            tenant_id: tenant_of(&organization_id),
            organization_id,
            workflow_id: workflow_id.into(),
            project_id: None,
            user_id: None,
            source: Source::default(),
        }
    }

    /// Returns an event of this workflow, with a new id and the current time.
    #[must_use]
    pub fn event<'w, P: Payload>(&'w self, payload: P, state: &'w RawValue) -> Event<'w, P> {
        let (event_type, routing_key) = (Cow::Borrowed(payload.event_type().name()), payload.routing_key());
        self.event_of_type(event_type, routing_key, payload, state)
    }

    /// Returns an event of any type, known or unknown, with the caller's routing key.
    #[must_use]
    pub fn event_of_type<'w, P>(
        &'w self,
        event_type: Cow<'w, str>,
        routing_key: Cow<'w, str>,
        payload: P,
        state: &'w RawValue,
    ) -> Event<'w, P> {
        Event {
            event_id: Cow::Owned(fresh_id()),
            event_type,
            routing_key,
            bom_id: self.bom_id,
            tenant_id: self.tenant_id,
            organization_id: Some(Cow::Borrowed(&self.organization_id)),
            project_id: self.project_id,
            user_id: self.user_id,
            source: self.source,
            workflow_id: Some(Cow::Borrowed(&self.workflow_id)),
            state: Cow::Borrowed(state),
            payload,
            created_at: Utc::now(),
        }
    }
}
