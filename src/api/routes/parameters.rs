//! Query parameters: their descriptions, with the limits of [`Limits`], and the error for one that cannot be read.

use axum::extract::rejection::QueryRejection;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ArrayBuilder, SchemaType};
use utoipa::openapi::{KnownFormat, ObjectBuilder, Ref, Required, SchemaFormat, Type};

use crate::api::problem::{Problem, ProblemType};
use crate::store::read::Limits;

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

/// `limit`: the number of events.
pub(super) fn limit(default: usize) -> Parameter {
    let schema = number(default as u64, Limits::MAX_EVENTS as u64);
    parameter("limit", "Maximum number of events.").schema(Some(schema)).build()
}

/// `bom_id`: the BOM.
pub(super) fn bom_id() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    parameter("bom_id", "Only events of this BOM.").schema(Some(schema)).build()
}

/// `workflow_id`: the workflow.
pub(super) fn workflow_id() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .max_length(Some(255))
        .pattern(Some("^[^\\u0000]*$"));
    parameter("workflow_id", "Only events of this workflow.").schema(Some(schema)).build()
}

/// `after`: the position in the journal.
pub(super) fn after() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).max_length(Some(8192));
    let description = "Position to go on after: the id of an event of the stream, or a `stream_cursor`. The header `Last-Event-ID` has \
        precedence.";
    parameter("after", description).schema(Some(schema)).build()
}

/// `cursor`: the position in the list.
pub(super) fn cursor() -> Parameter {
    let schema =
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some("^[A-Za-z0-9_-]{32}$"));
    parameter("cursor", "The `next_cursor` of the previous page.").schema(Some(schema)).build()
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
