//! Arguments of a call as values of the contract.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use uuid::Uuid;

use cns_events::event::{Event, Source, fresh_id, schema, tenant_of};
use serde_json::value::RawValue;

use crate::json::{Unwritable, Writer, utf8};

/// Arguments of one call, as Python hands them over; `None` where the caller gave none.
pub(crate) struct Arguments<'py> {
    pub(crate) bom_id: Bound<'py, PyAny>,
    pub(crate) tenant_id: Option<Bound<'py, PyAny>>,
    pub(crate) organization_id: Option<Bound<'py, PyAny>>,
    pub(crate) project_id: Option<Bound<'py, PyAny>>,
    pub(crate) user_id: Option<Bound<'py, PyAny>>,
    pub(crate) source: Option<Bound<'py, PyAny>>,
    pub(crate) workflow_id: Option<Bound<'py, PyAny>>,
    pub(crate) event_id: Option<Bound<'py, PyAny>>,
    pub(crate) routing_key: Option<Bound<'py, PyAny>>,
    /// Microseconds since 1970.
    pub(crate) created_at: Option<i64>,
}

/// Text of an argument of any type.
fn text<'a>(value: &'a Bound<'_, PyAny>) -> Result<Cow<'a, str>, Unwritable> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(utf8(text)?.0),
        Err(_) => Ok(Cow::Owned(utf8(&value.str()?)?.0.into_owned())),
    }
}

/// Returns the number of Python's own UUID type, whose text is made by Python code.
fn number_of_uuid(value: &Bound<'_, PyAny>) -> PyResult<Option<u128>> {
    static UUID: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let uuid = UUID.import(value.py(), "uuid", "UUID")?;
    if !value.get_type().is(uuid) {
        return Ok(None);
    }
    value.getattr(intern!(value.py(), "int"))?.extract().map(Some)
}

fn uuid(field: &str, value: &Bound<'_, PyAny>) -> Result<Uuid, Unwritable> {
    if !value.is_instance_of::<PyString>()
        && let Some(number) = number_of_uuid(value)?
    {
        return Ok(Uuid::from_u128(number));
    }
    Uuid::try_parse(&text(value)?).map_err(|_| Unwritable::Value(format!("{field} is not a UUID")))
}

/// Returns the text of an argument that was given.
fn given<'a>(value: Option<&'a Bound<'_, PyAny>>) -> Result<Option<Cow<'a, str>>, Unwritable> {
    value.map(text).transpose()
}

/// Calls `act` with the event of a call.
///
/// `max_bytes` limits `payload` and `state`. Returns the result, and the number of values that were changed.
pub(crate) fn with_event<'py, T>(
    event_type: &Bound<'py, PyAny>,
    payload: Option<&Bound<'py, PyAny>>,
    state: Option<&Bound<'py, PyAny>>,
    of: &Arguments<'py>,
    writing: (usize, &Bound<'py, PyAny>),
    act: impl FnOnce(Event<'_, &RawValue>) -> T,
) -> Result<(T, u64), Unwritable> {
    let mut writer = Writer::new(writing.0, writing.1);
    let event_type = text(event_type)?;
    let payload = writer.object(payload).map_err(|error| error.of("payload"))?;
    let state = writer.object(state).map_err(|error| error.of("state"))?;
    let raw = |text| serde_json::from_str::<&RawValue>(text);
    // The writer writes JSON, so that only its size or depth can be too much for the parser.
    let refused = |_| Unwritable::Value("is not JSON that can be read".to_owned());
    let (payload, state) = (raw(&payload).map_err(refused)?, raw(&state).map_err(refused)?);
    let bom_id = uuid("bom_id", &of.bom_id)?;
    let optional =
        |field, value: Option<&Bound<'_, PyAny>>| value.map(|value| uuid(field, value)).transpose();
    let organization_id = given(of.organization_id.as_ref())?;
    let tenant_id = match (optional("tenant_id", of.tenant_id.as_ref())?, &organization_id) {
        (Some(tenant_id), _) => tenant_id,
        (None, Some(organization_id)) => tenant_of(organization_id),
        (None, None) => return Err(Unwritable::Value("organization_id and tenant_id are absent".to_owned())),
    };
    let source = given(of.source.as_ref())?.and_then(|name| Source::from_name(&name)).unwrap_or_default();
    let micros = of.created_at.unwrap_or_else(|| Utc::now().timestamp_micros());
    let created_at = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Unwritable::Value("created_at is out of range".to_owned()))?;
    let event = Event {
        event_id: given(of.event_id.as_ref())?.unwrap_or_else(|| fresh_id().into()),
        routing_key: match given(of.routing_key.as_ref())? {
            Some(routing_key) => routing_key,
            None => schema::routing_key(&event_type, payload.get()),
        },
        event_type,
        bom_id,
        tenant_id,
        organization_id,
        project_id: optional("project_id", of.project_id.as_ref())?,
        user_id: optional("user_id", of.user_id.as_ref())?,
        source,
        workflow_id: given(of.workflow_id.as_ref())?,
        state: Cow::Borrowed(state),
        payload,
        created_at,
    };
    Ok((act(event), writer.coerced))
}
