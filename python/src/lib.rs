//! The native module of the Python package: binds the publisher.
//!
//! Python builds payloads and reads rows; everything between a call and the broker is the crate's publisher. No lock is held while
//! Python code runs, and no thread of this module ever takes the interpreter's lock.

mod arguments;
mod event;
mod json;
mod notices;
mod publisher;
mod running;

use pyo3::prelude::*;

/// Native parts of `cns_events`.
#[pymodule]
mod _native {
    use super::{PyModule, PyResult, pyfunction};
    use pyo3::Bound;

    #[pymodule_export]
    use super::event::Event;
    #[pymodule_export]
    use super::publisher::Publisher;

    /// Returns the tenant of an organization.
    #[pyfunction]
    fn tenant_of(organization_id: &str) -> String {
        cns_events::event::tenant_of(organization_id).to_string()
    }

    /// Returns the severity of a risk score.
    #[pyfunction]
    fn severity_of(risk_score: f64) -> String {
        use cns_events::event::payload::RiskScore;
        let score = RiskScore::try_from(risk_score.clamp(0.0, 100.0));
        score.map_or("medium".to_owned(), |score| score.severity().as_ref().to_owned())
    }

    /// Takes the log lines of this process, each with its level.
    #[pyfunction]
    fn notices() -> Vec<(u8, String)> {
        super::notices::take()
    }

    /// Returns the version of the package.
    #[pyfunction]
    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::notices::collect();
        Ok(())
    }
}
