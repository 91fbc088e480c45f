//! Limits and defaults of a query.

/// Limits and defaults of a query, the same for the library, the command line and the API. The defaults are those of the Python
/// event logger.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Maximum rows of a page: events, workflows or risks.
    pub const MAX_EVENTS: usize = 1000;
    /// Default rows of a page.
    pub const DEFAULT_EVENTS: usize = 100;
    /// Default events of a page of errors.
    pub const DEFAULT_ERRORS: usize = 50;
    /// Default maximum age of errors, in hours.
    pub const DEFAULT_HOURS: u32 = 24;
    /// Maximum age of errors, in hours: a year.
    pub const MAX_HOURS: u32 = 8760;
    /// Maximum event types of a query.
    pub const MAX_TYPES: usize = 50;
}
