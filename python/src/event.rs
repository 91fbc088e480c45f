//! An accepted event, as the caller gets it back.

use std::sync::Arc;

use cns_events::message::EncodedEvent;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

/// Event that was accepted. It has the attributes of the table's row; `id` is made by the worker that stores it.
#[pyclass(frozen, module = "cns_events")]
pub(crate) struct Event {
    pub(crate) message: Arc<EncodedEvent>,
    fields: PyOnceLock<Py<PyDict>>,
}

impl Event {
    pub(crate) fn new(message: Arc<EncodedEvent>) -> Self {
        Event { message, fields: PyOnceLock::new() }
    }

    /// Returns a field of the body, which is parsed at the first use.
    fn field<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let fields = self.fields.get_or_try_init(py, || {
            let parsed = py.import("json")?.call_method1("loads", (PyBytes::new(py, &self.message.body),))?;
            Ok::<_, PyErr>(parsed.cast_into::<PyDict>()?.unbind())
        })?;
        fields.bind(py).get_item(name)
    }

    fn uuid<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let uuid = py.import("uuid")?.getattr("UUID")?;
        self.field(py, name)?.map(|text| uuid.call1((text,))).transpose()
    }
}

#[pymethods]
impl Event {
    #[getter]
    fn event_id(&self) -> &str {
        &self.message.event_id
    }

    #[getter]
    fn event_type(&self) -> &str {
        &self.message.event_type
    }

    #[getter]
    fn routing_key(&self) -> &str {
        &self.message.routing_key
    }

    #[getter]
    fn priority(&self) -> u8 {
        self.message.priority
    }

    #[getter]
    fn traceparent(&self) -> Option<&str> {
        self.message.traceparent.as_deref()
    }

    /// Body of the message: one JSON object.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.message.body)
    }

    #[getter]
    fn id(&self) -> Option<u8> {
        None
    }

    #[getter]
    fn bom_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.uuid(py, "bom_id")
    }

    #[getter]
    fn tenant_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.uuid(py, "tenant_id")
    }

    #[getter]
    fn organization_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.field(py, "organization_id")
    }

    #[getter]
    fn project_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.uuid(py, "project_id")
    }

    #[getter]
    fn user_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.uuid(py, "user_id")
    }

    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.field(py, "source")
    }

    #[getter]
    fn workflow_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.field(py, "workflow_id")
    }

    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.field(py, "state")
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.field(py, "payload")
    }

    #[getter]
    fn created_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let datetime = py.import("datetime")?.getattr("datetime")?;
        let Some(text) = self.field(py, "created_at")? else { return Ok(None) };
        // Python 3.10 does not read the letter for UTC.
        let text = text.call_method1("replace", ("Z", "+00:00"))?;
        datetime.call_method1("fromisoformat", (text,)).map(Some)
    }

    fn __str__(&self) -> &str {
        &self.message.event_id
    }

    fn __repr__(&self) -> String {
        format!("Event({:?}, event_id={:?})", self.message.event_type, self.message.event_id)
    }
}
