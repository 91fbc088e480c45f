//! The publisher as Python holds it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cns_events::broker::BrokerEndpoint;
use cns_events::event::{PayloadPolicy, Rules};
use cns_events::message::EncodedEvent;
use cns_events::publisher::{LogError, PublisherConfig, SpoolWhen};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::value::RawValue;

use crate::arguments::{Arguments, with_event};
use crate::event::Event;
use crate::json::Unwritable;
use crate::running::Running;

/// Reason why an event was not accepted, as Python reads it.
#[derive(Clone, Copy)]
enum NotAccepted {
    Invalid = 1,
    NoRoom = 2,
    Closed = 3,
    NotStarted = 4,
    /// A bug of this module.
    Panicked = 5,
}

impl From<LogError> for NotAccepted {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NoRoom => NotAccepted::NoRoom,
            LogError::Closed => NotAccepted::Closed,
            _ => NotAccepted::Invalid,
        }
    }
}

/// Destination of events.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Send,
    /// Check them and keep them, for tests.
    Capture,
    /// Check them.
    Discard,
}

/// Event that was captured, and the problem of a payload that does not match its schema.
type Captured = (Arc<EncodedEvent>, Option<String>);

/// Configuration of a publisher, which is started at the first event of each process.
#[pyclass(frozen, module = "cns_events._native")]
pub(crate) struct Publisher {
    config: PublisherConfig,
    rules: Rules,
    mode: Mode,
    /// Python function: a plain value for one of another type.
    plain: Py<PyAny>,
    /// Python function that is called when a process has started its publisher.
    on_start: Option<Py<PyAny>>,
    /// Python function that is called in a call that finds log lines.
    on_notices: Option<Py<PyAny>>,
    running: Mutex<Running>,
    captured: Mutex<Vec<Captured>>,
}

impl Publisher {
    /// Takes the lock of this process's state. It is taken and released under the interpreter's lock, and no Python code runs
    /// meanwhile: a fork never copies it locked.
    fn running(&self) -> MutexGuard<'_, Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.here();
        running
    }

    /// Checks an event as a publisher does, for a process that sends none.
    fn check(
        &self,
        event: cns_events::event::Event<'_, &RawValue>,
        traceparent: Option<String>,
    ) -> Result<Arc<EncodedEvent>, NotAccepted> {
        match EncodedEvent::write(event, traceparent, false, &self.rules) {
            Ok((message, violation)) => {
                let message = Arc::new(message);
                if self.mode == Mode::Capture {
                    let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
                    captured.push((message.clone(), violation));
                }
                Ok(message)
            }
            Err(rejection) => {
                self.running().refuse(&rejection.to_string());
                Err(NotAccepted::Invalid)
            }
        }
    }
}

#[pymethods]
impl Publisher {
    #[new]
    #[pyo3(signature = (uri, app_id, plain, on_start=None, on_notices=None, *, exchange=None, buffer_events=None, buffer_bytes=None,
        max_message_bytes=None, spool=None, spool_when=None, spool_bytes=None, require_tls=false,
        mode="send"))]
    #[allow(clippy::too_many_arguments)] // the signature is Python's
    fn new(
        uri: &str,
        app_id: &str,
        plain: Py<PyAny>,
        on_start: Option<Py<PyAny>>,
        on_notices: Option<Py<PyAny>>,
        exchange: Option<&str>,
        buffer_events: Option<usize>,
        buffer_bytes: Option<usize>,
        max_message_bytes: Option<usize>,
        spool: Option<PathBuf>,
        spool_when: Option<&str>,
        spool_bytes: Option<u64>,
        require_tls: bool,
        mode: &str,
    ) -> PyResult<Self> {
        let max_message_bytes = max_message_bytes.unwrap_or(1024 * 1024);
        let mut config = PublisherConfig::new(uri, app_id)
            .exchange(exchange.unwrap_or("cns.events"))
            .buffer(buffer_events.unwrap_or(100_000), buffer_bytes.unwrap_or(128 * 1024 * 1024))
            .max_message_bytes(max_message_bytes)
            .open_spool_later();
        if let Some(folder) = spool {
            config = config.spool(folder);
        }
        if let Some(name) = spool_when {
            let when = SpoolWhen::from_name(name);
            let unknown = || PyValueError::new_err("spool_when is not one of always, outage, buffer_full");
            config = config.spool_when(when.ok_or_else(unknown)?);
        }
        if let Some(bytes) = spool_bytes {
            config = config.spool_bytes(bytes);
        }
        let mode = match mode {
            "capture" => Mode::Capture,
            "discard" => Mode::Discard,
            _ => Mode::Send,
        };
        config.check().map_err(|error| PyValueError::new_err(error.to_string()))?;
        if require_tls && BrokerEndpoint::new(uri, app_id).is_ok_and(|broker| broker.is_plain()) {
            let problem = "the broker's URI is not encrypted, which amqp.require_tls refuses; use amqps://";
            return Err(PyValueError::new_err(problem));
        }
        Ok(Publisher {
            config,
            rules: Rules { max_message_bytes, payload: PayloadPolicy::Warn },
            mode,
            plain,
            on_start,
            on_notices,
            running: Mutex::new(Running::new()),
            captured: Mutex::default(),
        })
    }

    /// Logs an event. Returns it, or the number of the reason why it was not accepted. With `hold` it is only encoded, and
    /// `send` sends it.
    #[allow(clippy::too_many_arguments)] // the signature is Python's
    fn log<'py>(
        &self,
        py: Python<'py>,
        event_type: &Bound<'py, PyAny>,
        payload: Option<&Bound<'py, PyAny>>,
        state: Option<&Bound<'py, PyAny>>,
        bom_id: Bound<'py, PyAny>,
        tenant_id: Option<Bound<'py, PyAny>>,
        organization_id: Option<Bound<'py, PyAny>>,
        project_id: Option<Bound<'py, PyAny>>,
        user_id: Option<Bound<'py, PyAny>>,
        source: Option<Bound<'py, PyAny>>,
        workflow_id: Option<Bound<'py, PyAny>>,
        event_id: Option<Bound<'py, PyAny>>,
        routing_key: Option<Bound<'py, PyAny>>,
        created_at: Option<i64>,
        traceparent: Option<String>,
        hold: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let of = Arguments {
            bom_id,
            tenant_id,
            organization_id,
            project_id,
            user_id,
            source,
            workflow_id,
            event_id,
            routing_key,
            created_at,
        };
        let plain = self.plain.bind(py);
        let call = || {
            let mut started_now = false;
            let publish = |event: cns_events::event::Event<'_, &RawValue>| {
                if self.mode != Mode::Send {
                    return self.check(event, traceparent);
                }
                let (publisher, now) = self.running().started(&self.config).ok_or(NotAccepted::NotStarted)?;
                started_now = now;
                let message = publisher.encode(event, traceparent).map_err(|_| NotAccepted::Invalid)?;
                if !hold {
                    publisher.try_send(message.clone())?;
                }
                Ok(message)
            };
            let limit = self.rules.max_message_bytes;
            let done = with_event(event_type, payload, state, &of, (limit, plain), publish);
            (done, started_now)
        };
        let (done, started_now) = match catch_unwind(AssertUnwindSafe(call)) {
            Ok(done) => done,
            Err(_) => (Ok((Err(NotAccepted::Panicked), 0)), false),
        };
        let accepted = match done {
            Ok((accepted, coerced)) => {
                if coerced > 0 {
                    self.running().coerce(coerced);
                }
                accepted
            }
            Err(Unwritable::Value(problem)) => {
                self.running().refuse(&problem);
                Err(NotAccepted::Invalid)
            }
            Err(Unwritable::Interrupt(error)) => return Err(error),
        };
        if started_now && let Some(on_start) = &self.on_start {
            on_start.call0(py)?;
        }
        if let Some(on_notices) = &self.on_notices
            && crate::notices::any()
        {
            on_notices.call0(py)?;
        }
        match accepted {
            Ok(message) => Ok(Bound::new(py, Event::new(message))?.into_any()),
            Err(reason) => Ok((reason as u8).into_pyobject(py)?.into_any()),
        }
    }

    /// Sends an event that was held. Returns 0, or the number of the reason why it was not accepted.
    fn send(&self, event: &Event) -> u8 {
        if self.mode != Mode::Send {
            return 0;
        }
        let Some((publisher, _)) = self.running().started(&self.config) else {
            return NotAccepted::NotStarted as u8;
        };
        publisher.try_send(event.message.clone()).map_or_else(|error| NotAccepted::from(error) as u8, |()| 0)
    }

    /// Counts and logs a call that is no event.
    fn refuse(&self, problem: &str) {
        self.running().refuse(problem);
    }

    /// Returns the counts of this process.
    fn stats(&self) -> BTreeMap<&'static str, u64> {
        self.running().counts()
    }

    /// Returns the reason why nothing can be sent. `None` while the broker takes events, and before the first event.
    fn outage(&self) -> Option<String> {
        self.running().publisher().and_then(cns_events::publisher::Publisher::outage)
    }

    /// Returns whether this process has a publisher.
    fn is_started(&self) -> bool {
        self.running().publisher().is_some()
    }

    /// Ends the publisher of this process. Returns the numbers of confirmed and left events, those in the spool, and the
    /// `event_id`s of the lost ones. Waits without the interpreter's lock.
    fn close(&self, py: Python<'_>, timeout: f64) -> (u64, u64, u64, Vec<String>) {
        let Some(publisher) = self.running().take() else { return (0, 0, 0, Vec::new()) };
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        let closed = py.detach(|| publisher.close_blocking(timeout));
        self.running().add_closed(&publisher.stats());
        (closed.confirmed, closed.left, closed.in_spool, closed.lost)
    }

    /// Takes the captured events, each with the problem of a payload that does not match its schema.
    fn captured(&self) -> Vec<(Event, Option<String>)> {
        let captured = std::mem::take(&mut *self.captured.lock().unwrap_or_else(PoisonError::into_inner));
        captured.into_iter().map(|(message, violation)| (Event::new(message), violation)).collect()
    }
}
