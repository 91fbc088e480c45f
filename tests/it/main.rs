//! Tests against the real servers; they follow.
