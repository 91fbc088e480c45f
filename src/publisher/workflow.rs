//! The events of one workflow, by the names that its developers know.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Publisher;
use super::entry::{Entry, milliseconds, object};
use crate::event::payload::{
    ApiCallMade, CacheHit, CacheMiss, ComponentMatched, EnrichmentProgress, ErrorRaised, MatchStatus,
    ProcessingStarted, RiskAlert, RiskScore, StageCompleted, StageStarted, WorkflowPaused, WorkflowResumed,
};
use crate::event::{Payload, Source, Workflow, empty_object, schema};

/// A publisher that knows the workflow: tenant, BOM, workflow, project, user and source are left out of every call.
///
/// Cheap to clone. Each `log_…` takes what its event type requires, and returns an [`Entry`] for what it may have besides;
/// the event is logged at the end of the statement.
#[derive(Clone, Debug)]
pub struct WorkflowPublisher {
    publisher: Publisher,
    workflow: Arc<Workflow>,
    state: Option<Arc<RawValue>>,
}

impl WorkflowPublisher {
    pub(super) fn new(publisher: Publisher, workflow: Workflow) -> Self {
        WorkflowPublisher { publisher, workflow: Arc::new(workflow), state: None }
    }

    fn change(mut self, change: impl FnOnce(&mut Workflow)) -> Self {
        change(Arc::make_mut(&mut self.workflow));
        self
    }

    /// The tenant, where it does not follow from the organization ([`tenant_of`](crate::event::tenant_of)).
    #[must_use]
    pub fn tenant(self, tenant_id: Uuid) -> Self {
        self.change(|workflow| workflow.tenant_id = tenant_id)
    }

    /// The project.
    #[must_use]
    pub fn project(self, project_id: Uuid) -> Self {
        self.change(|workflow| workflow.project_id = Some(project_id))
    }

    /// Who started the workflow. Who pauses or resumes it may be somebody else: [`Entry::user`].
    #[must_use]
    pub fn user(self, user_id: Uuid) -> Self {
        self.change(|workflow| workflow.user_id = Some(user_id))
    }

    /// Who caused it: the customer unless set.
    #[must_use]
    pub fn source(self, source: Source) -> Self {
        self.change(|workflow| workflow.source = source)
    }

    /// The state that goes with every event from here on: a [`WorkflowState`](crate::event::WorkflowState), or anything else
    /// that serializes to a JSON object. What does not is counted as invalid, and the state stays as it was.
    pub fn set_state(&mut self, state: &impl Serialize) {
        match object("state", state) {
            Ok(state) => self.state = Some(Arc::from(state)),
            Err(rejection) => self.publisher.refuse("state", self.workflow.bom_id, &rejection),
        }
    }

    /// The publisher behind it.
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

    /// `processing_started`: a BOM with that many lines.
    pub fn log_processing_started(&self, total_items: u64) -> Entry<'_, ProcessingStarted<'_>> {
        self.entry(ProcessingStarted { total_items, message: None })
    }

    /// `stage_started`: `parsing`, `enrichment`, `risk_analysis` or another word.
    pub fn log_stage_started<'w>(&'w self, stage: impl Into<Cow<'w, str>>) -> Entry<'w, StageStarted<'w>> {
        self.entry(StageStarted { stage: stage.into() })
    }

    /// `stage_completed`: the word that the stage was started with, and how long it took.
    pub fn log_stage_completed<'w>(
        &'w self,
        stage: impl Into<Cow<'w, str>>,
        duration: Duration,
    ) -> Entry<'w, StageCompleted<'w>> {
        self.entry(StageCompleted { stage: stage.into(), duration_ms: milliseconds(duration), metrics: None })
    }

    /// `enrichment_progress`: one line of the BOM, by its manufacturer's part number.
    pub fn log_enrichment_progress<'w>(
        &'w self,
        mpn: impl Into<Cow<'w, str>>,
        status: MatchStatus,
    ) -> Entry<'w, EnrichmentProgress<'w>> {
        let mpn = mpn.into();
        self.entry(EnrichmentProgress { mpn, status, confidence: None, supplier: None, match_details: None })
    }

    /// `risk_alert`: a component and its score, 0-100, from which the severity follows: critical from 80, high from 60,
    /// else medium.
    pub fn log_risk_alert<'w>(
        &'w self,
        component_id: impl Into<Cow<'w, str>>,
        risk_score: f64,
    ) -> Entry<'w, RiskAlert<'w>> {
        let (value, sure) = (risk_score, RiskScore::try_from(risk_score).is_ok());
        let risk_score = RiskScore::unchecked(value);
        let (component_id, severity) = (component_id.into(), risk_score.severity());
        let entry = self.entry(RiskAlert { component_id, risk_score, severity, risk_factors: None });
        entry.number("risk_score", value, sure)
    }

    /// `workflow_paused`: why; who is [`Entry::user`].
    pub fn log_workflow_paused<'w>(
        &'w self,
        reason: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, WorkflowPaused<'w>> {
        self.entry(WorkflowPaused { reason: reason.into() })
    }

    /// `workflow_resumed`: why; who is [`Entry::user`].
    pub fn log_workflow_resumed<'w>(
        &'w self,
        reason: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, WorkflowResumed<'w>> {
        self.entry(WorkflowResumed { reason: reason.into() })
    }

    /// `error`: what went wrong.
    pub fn log_error<'w>(&'w self, error_message: impl Into<Cow<'w, str>>) -> Entry<'w, ErrorRaised<'w>> {
        let error_message = error_message.into();
        self.entry(ErrorRaised { error_message, error_code: None, error_details: None })
    }

    /// `component_matched`: the part number as the BOM has it, and as the supplier has it.
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

    /// `api_call_made`: whose API, and which call.
    pub fn log_api_call<'w>(
        &'w self,
        supplier: impl Into<Cow<'w, str>>,
        endpoint: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, ApiCallMade<'w>> {
        let (supplier, endpoint) = (supplier.into(), endpoint.into());
        self.entry(ApiCallMade { supplier, endpoint, status_code: None, duration_ms: None })
    }

    /// `cache_hit`: which cache, and which key.
    pub fn log_cache_hit<'w>(
        &'w self,
        cache: impl Into<Cow<'w, str>>,
        key: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, CacheHit<'w>> {
        self.entry(CacheHit { cache: cache.into(), key: key.into() })
    }

    /// `cache_miss`: which cache, and which key.
    pub fn log_cache_miss<'w>(
        &'w self,
        cache: impl Into<Cow<'w, str>>,
        key: impl Into<Cow<'w, str>>,
    ) -> Entry<'w, CacheMiss<'w>> {
        self.entry(CacheMiss { cache: cache.into(), key: key.into() })
    }

    /// An event of any type, known or not: a new type needs no release. `payload` is anything that serializes to a JSON
    /// object. The routing key is that of a known type, and for another the type's words under `cns.`, unless
    /// [given](Entry::routing_key).
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
