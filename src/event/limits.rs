//! Lengths that the table limits.

/// Maximum length of an `event_id`, a `workflow_id` and a routing key, in characters.
pub const MAX_ID_CHARS: usize = 255;

/// Maximum length of an `event_type`, in characters.
pub const MAX_TYPE_CHARS: usize = 100;
