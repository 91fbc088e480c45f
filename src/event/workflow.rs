//! What every event of a workflow has in common.

use std::borrow::Cow;

use chrono::Utc;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Event, Payload, Source, tenant_of};

/// A workflow as a producer knows it: set once, and then left out of every event.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The BOM it works on.
    pub bom_id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// The organization as the producer names it.
    pub organization_id: String,
    /// The workflow's own id.
    pub workflow_id: String,
    /// The project, where there is one.
    pub project_id: Option<Uuid>,
    /// Who started it, where somebody did.
    pub user_id: Option<Uuid>,
    /// Who caused it.
    pub source: Source,
}

impl Workflow {
    /// A workflow of an organization, whose tenant follows from its id ([`tenant_of`]).
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

    /// An event of this workflow, with an id of its own and the time of now.
    #[must_use]
    pub fn event<'w, P: Payload>(&'w self, payload: P, state: &'w RawValue) -> Event<'w, P> {
        let (event_type, routing_key) = (Cow::Borrowed(payload.kind().name()), payload.routing_key());
        self.event_of_type(event_type, routing_key, payload, state)
    }

    /// An event of any type, known or not, under a key of the caller's.
    #[must_use]
    pub fn event_of_type<'w, P>(
        &'w self,
        event_type: Cow<'w, str>,
        routing_key: Cow<'w, str>,
        payload: P,
        state: &'w RawValue,
    ) -> Event<'w, P> {
        Event {
            event_id: Cow::Owned(Uuid::now_v7().to_string()),
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
