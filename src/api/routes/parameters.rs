//! Query parameters: their descriptions, with the limits of [`Limits`], and the error for one that cannot be read.

use axum::extract::rejection::QueryRejection;
use chrono::{DateTime, Utc};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ArrayBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, ObjectBuilder, Ref, Required, SchemaFormat, Type};

use crate::api::caller::TENANT;
use crate::api::problem::{Problem, ProblemType};
use crate::store::read::{Limits, QueryError, summaries};

/// Length of the description of a parameter that cannot be read, in characters: it may quote the parameter.
const MAX_DETAIL_CHARS: usize = 200;

fn parameter(name: &str, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
}

fn number(default: u64, max: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .minimum(Some(1))
        .maximum(Some(max))
        .default(Some(default.into()))
}

/// `limit`: the number of rows.
pub(super) fn limit(default: usize, rows: &str) -> Parameter {
    let schema = number(default as u64, Limits::MAX_EVENTS as u64);
    parameter("limit", &format!("Maximum number of {rows}.")).schema(Some(schema)).build()
}

/// `bom_id`: the BOM.
pub(super) fn bom_id() -> Parameter {
    uuid("bom_id", "Only events of this BOM.")
}

/// `workflow_id`: the workflow.
pub(super) fn workflow_id() -> Parameter {
    let schema = string().max_length(Some(255)).pattern(Some("^[^\\u0000]*$"));
    parameter("workflow_id", "Only events of this workflow.").schema(Some(schema)).build()
}

/// `after`: the position in the journal.
pub(super) fn after() -> Parameter {
    let description = "Position to go on after: the id of an event of the stream, or a `stream_cursor`. The header `Last-Event-ID` has \
        precedence.";
    parameter("after", description).schema(Some(string().max_length(Some(8192)))).build()
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}

/// `cursor`: the position in the list of events.
pub(super) fn cursor() -> Parameter {
    cursor_like("^[A-Za-z0-9_-]{32}$")
}

/// `cursor`: the position in the list of workflows.
pub(super) fn workflow_cursor() -> Parameter {
    cursor_like("^([A-Za-z0-9_-]{4}){14,354}$")
}

fn cursor_like(pattern: &str) -> Parameter {
    let description = "The `next_cursor` of the previous page.";
    parameter("cursor", description).schema(Some(string().pattern(Some(pattern)))).build()
}

/// A text to look for.
pub(super) fn text(name: &str, description: &str, max_chars: usize) -> Parameter {
    let schema = string().min_length(Some(1)).max_length(Some(max_chars)).pattern(Some("^[^\\u0000]+$"));
    parameter(name, description).schema(Some(schema)).build()
}

/// One of some words.
pub(super) fn word(
    name: &str,
    description: &str,
    words: &[&'static str],
    default: Option<&str>,
) -> Parameter {
    let schema = string().enum_values(Some(words.iter().copied())).default(default.map(Into::into));
    parameter(name, description).schema(Some(schema)).build()
}

/// A time.
pub(super) fn time(name: &str, description: &str) -> Parameter {
    let schema = string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    parameter(name, description).schema(Some(schema)).build()
}

/// A UUID.
pub(super) fn uuid(name: &str, description: &str) -> Parameter {
    let schema = string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    parameter(name, description).schema(Some(schema)).build()
}

/// `tenant`: the tenant that support staff reads as. Authentication takes it from every request.
pub(super) fn tenant() -> Parameter {
    let description =
        "With a token of support staff: the tenant to read as. With any other token it is refused.";
    uuid(TENANT, description)
}

/// Reads a time.
pub(super) fn read_time(
    name: &'static str,
    given: Option<&str>,
) -> Result<Option<DateTime<Utc>>, QueryError> {
    given.map(|text| summaries::time(name, text)).transpose()
}

/// Reads one of some words.
pub(super) fn read_word<T>(
    name: &'static str,
    given: Option<&str>,
    from_name: impl Fn(&str) -> Option<T>,
    words: &[&str],
) -> Result<Option<T>, QueryError> {
    let read = |word| {
        from_name(word).ok_or_else(|| QueryError::new(name, format!("is not one of {}", words.join(", "))))
    };
    given.map(read).transpose()
}

/// `type`: the event types.
pub(super) fn types() -> Parameter {
    let schema = ArrayBuilder::new()
        .items(Ref::from_schema_name("EventType"))
        .min_items(Some(1))
        .max_items(Some(Limits::MAX_TYPES));
    parameter("type", "Event types to return, separated by commas.")
        .schema(Some(schema))
        .style(Some(ParameterStyle::Form))
        .explode(Some(false))
        .build()
}

/// `hours`: the age of the oldest event.
pub(super) fn hours() -> Parameter {
    let schema = number(Limits::DEFAULT_HOURS.into(), Limits::MAX_HOURS.into());
    parameter("hours", "Maximum age of the events, in hours.").schema(Some(schema)).build()
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        // "Failed to deserialize query string: limit: invalid digit found in string". The tests of the API fail if axum changes
        // the prefix.
        let text = rejection.body_text();
        let detail = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, detail)| detail);
        let detail: String = detail.chars().take(MAX_DETAIL_CHARS).collect();
        Problem::new(ProblemType::InvalidParameter, format!("{detail}; see /openapi.json for the parameters"))
    }
}
