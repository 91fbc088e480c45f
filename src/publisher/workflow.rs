//! The events of one workflow, one method for each type.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::entry::{Entry, milliseconds, object};
use super::handle::Publisher;
use crate::event::payload::{
    ApiCallMade, CacheHit, CacheMiss, ComponentMatched, EnrichmentProgress, ErrorRaised, MatchStatus,
    ProcessingStarted, RiskAlert, RiskScore, StageCompleted, StageStarted, WorkflowPaused, WorkflowResumed,
};
use crate::event::{Payload, Source, Workflow, empty_object, schema};

/// A publisher for one workflow, which sets tenant, BOM, workflow, project, user and source of every event.
///
/// Cheap to clone. Each `log_…` takes the required values of its event type, and returns an [`Entry`] for the optional
/// ones; the event is logged at the end of the statement.
#[derive(Clone, Debug)]
pub struct WorkflowPublisher {
    publisher: Publisher,
    workflow: Arc<Workflow>,
    state: Option<Arc<RawValue>>,
}

impl Publisher {
    /// Returns a publisher for one workflow, which sets the values that its events share. The tenant follows from the organization
    /// unless it is [set](WorkflowPublisher::tenant).
    #[must_use]
    pub fn workflow(
        &self,
        bom_id: Uuid,
        organization_id: impl Into<String>,
        workflow_id: impl Into<String>,
    ) -> WorkflowPublisher {
        WorkflowPublisher::new(self.clone(), Workflow::new(bom_id, organization_id, workflow_id))
    }
}

impl WorkflowPublisher {
    fn new(publisher: Publisher, workflow: Workflow) -> Self {
        WorkflowPublisher { publisher, workflow: Arc::new(workflow), state: None }
    }

    fn change(mut self, change: impl FnOnce(&mut Workflow)) -> Self {
        change(Arc::make_mut(&mut self.workflow));
        self
    }

    /// Sets the tenant, where it does not follow from the organization ([`tenant_of`](crate::event::tenant_of)).
    #[must_use]
    pub fn tenant(self, tenant_id: Uuid) -> Self {
        self.change(|workflow| workflow.tenant_id = tenant_id)
    }

    /// Sets the project.
    #[must_use]
    pub fn project(self, project_id: Uuid) -> Self {
        self.change(|workflow| workflow.project_id = Some(project_id))
    }

    /// Sets the user who started the workflow. [`Entry::user`] sets another user for one event.
    #[must_use]
    pub fn user(self, user_id: Uuid) -> Self {
        self.change(|workflow| workflow.user_id = Some(user_id))
    }

    /// Sets the source (default the customer).
    #[must_use]
    pub fn source(self, source: Source) -> Self {
        self.change(|workflow| workflow.source = source)
    }

    /// Sets the state of all events from now on: a [`WorkflowState`](crate::event::WorkflowState), or another value that serializes
    /// to a JSON object. Any other value is counted as invalid, and the state is not changed.
    pub fn set_state(&mut self, state: &impl Serialize) {
        match object("state", state) {
            Ok(state) => self.state = Some(Arc::from(state)),
            Err(rejection) => self.publisher.refuse("state", self.workflow.bom_id, &rejection),
        }
    }

    /// Returns the publisher.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    fn entry<'w, P: Payload>(&'w self, payload: P) -> Entry<'w, P> {
        Entry::new(&self.publisher, self.workflow.event(payload, self.current_state()))
    }

    fn current_state(&self) -> &RawValue {
        self.state.as_deref().unwrap_or_else(|| empty_object())
    }

    /// Logs `processing_started`: a BOM with this many lines.
    pub fn log_processing_started(&self, total_items: u64) -> Entry<'_, ProcessingStarted<'_>> {
        self.entry(ProcessingStarted { total_items, message: None })
    }

    /// Logs `stage_started`: `parsing`, `enrichment`, `risk_analysis` or another stage.
    pub fn log_stage_started<'w>(&'w self, stage: impl Into<Cow<'w, str>>) -> Entry<'w, StageStarted<'w>> {
        self.entry(StageStarted { stage: stage.into() })
    }

    /// Logs `stage_completed`: the stage, and its duration.
    pub fn log_stage_completed<'w>(
        &'w self,
        stage: impl Into<Cow<'w, str>>,
        duration: Duration,
    ) -> Entry<'w, StageCompleted<'w>> {
        self.entry(StageCompleted { stage: stage.into(), duration_ms: milliseconds(duration), metrics: None })
    }

    /// Logs `enrichment_progress`: one line of the BOM, by its manufacturer part number.
    pub fn log_enrichment_progress<'w>(
        &'w self,
        mpn: impl Into<Cow<'w, str>>,
        status: MatchStatus,
    ) -> Entry<'w, EnrichmentProgress<'w>> {
        let mpn = mpn.into();
        self.entry(EnrichmentProgress { mpn, status, confidence: None, supplier: None, match_details: None })
    }

    /// Logs `risk_alert`: a component and its score, 0-100, which decides the severity: critical from 80, high from 60, else
    /// medium.
    pub fn log_risk_alert<'w>(
        &'w self,
        component_id: impl Into<Cow<'w, str>>,
        risk_score: f64,
    ) -> Entry<'w, RiskAlert<'w>> {
        let (value, valid) = (risk_score, RiskScore::try_from(risk_score).is_ok());
        let risk_score = RiskScore::unchecked(value);
        let (component_id, severity) = (component_id.into(), risk_score.severity());
        let entry = self.entry(RiskAlert { component_id, risk_score, severity, risk_factors: None });
        entry.number("risk_score", value, valid)
    }

    /// Logs `workflow_paused`: the reason; [`Entry::user`] sets the user.
    pub fn log_workflow_paused<'w>(
        &'w self,
        reason: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, WorkflowPaused<'w>> {
        self.entry(WorkflowPaused { reason: reason.into() })
    }

    /// Logs `workflow_resumed`: the reason; [`Entry::user`] sets the user.
    pub fn log_workflow_resumed<'w>(
        &'w self,
        reason: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, WorkflowResumed<'w>> {
        self.entry(WorkflowResumed { reason: reason.into() })
    }

    /// Logs `error`: the error's message.
    pub fn log_error<'w>(&'w self, error_message: impl Into<Cow<'w, str>>) -> Entry<'w, ErrorRaised<'w>> {
        let error_message = error_message.into();
        self.entry(ErrorRaised { error_message, error_code: None, error_details: None })
    }

    /// Logs `component_matched`: the part number in the BOM, and the supplier's part number.
    pub fn log_component_matched<'w>(
        &'w self,
        mpn: impl Into<Cow<'w, str>>,
        matched_mpn: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, ComponentMatched<'w>> {
        let (mpn, matched_mpn) = (mpn.into(), matched_mpn.into());
        self.entry(ComponentMatched {
            mpn,
            matched_mpn,
            manufacturer: None,
            confidence: None,
            supplier: None,
        })
    }

    /// Logs `api_call_made`: the supplier, and the endpoint.
    pub fn log_api_call<'w>(
        &'w self,
        supplier: impl Into<Cow<'w, str>>,
        endpoint: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, ApiCallMade<'w>> {
        let (supplier, endpoint) = (supplier.into(), endpoint.into());
        self.entry(ApiCallMade { supplier, endpoint, status_code: None, duration_ms: None })
    }

    /// Logs `cache_hit`: the cache, and the key.
    pub fn log_cache_hit<'w>(
        &'w self,
        cache: impl Into<Cow<'w, str>>,
        key: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, CacheHit<'w>> {
        self.entry(CacheHit { cache: cache.into(), key: key.into() })
    }

    /// Logs `cache_miss`: the cache, and the key.
    pub fn log_cache_miss<'w>(
        &'w self,
        cache: impl Into<Cow<'w, str>>,
        key: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, CacheMiss<'w>> {
        self.entry(CacheMiss { cache: cache.into(), key: key.into() })
    }

    /// Logs an event of any type, also one that this version does not know. `payload` is any value that serializes to a JSON
    /// object. The routing key is that of the type; for an unknown type it is the type's words under `cns.`.
    /// [`Entry::routing_key`] sets another.
    pub fn log<'w>(
        &'w self,
        event_type: impl Into<Cow<'w, str>>,
        payload: &impl Serialize,
    ) -> Entry<'w, Cow<'w, RawValue>> {
        let event_type = event_type.into();
        let (payload, rejection) = match object("payload", payload) {
            Ok(payload) => (Cow::Owned(payload), None),
            Err(rejection) => (Cow::Borrowed(empty_object()), Some(rejection)),
        };
        let routing_key = schema::routing_key(&event_type, payload.get());
        let event = self.workflow.event_of_type(event_type, routing_key, payload, self.current_state());
        let entry = Entry::new(&self.publisher, event).unsure();
        match rejection {
            Some(rejection) => entry.refuse(rejection),
            None => entry,
        }
    }
}
