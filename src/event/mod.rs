//! The contract as types: the event, its decoding and encoding, and the reasons for a rejection. No I/O.

pub mod contract;
mod decode;
mod envelope;
mod event_type;
mod fields;
mod fresh_id;
pub mod headers;
mod limits;
pub mod payload;
mod rejection;
mod rules;
pub mod schema;
mod source;
mod state;
mod storable;
mod tenant;
mod values;
mod workflow;

pub use decode::{Decoded, ReceivedMessage, decode};
pub use envelope::Event;
pub use event_type::{DEFAULT_PRIORITY, EventType, Payload};
pub use fresh_id::fresh_id;
pub use limits::{MAX_ID_CHARS, MAX_TYPE_CHARS};
pub use rejection::{Reason, Rejection};
pub use rules::{PayloadPolicy, Rules};
pub use source::Source;
pub use state::WorkflowState;
pub use storable::{MAX_NESTING, storable};
pub use tenant::{TENANT_NAMESPACE, tenant_of};
pub use values::empty_object;
pub use workflow::Workflow;
