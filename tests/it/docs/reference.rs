//! The pages under `docs/reference` that are written from the code. `make reference` writes them; the tests fail where a page is not
//! current.

use std::fmt::Write as _;
use std::path::Path;

use cns_events::broker::failure::REPLY_CODES;
use cns_events::store::{FailureClass, SQLSTATES};
use serde_json::Value;

/// Width of the help texts, in columns.
const HELP_COLUMNS: usize = 80;

fn check(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(page);
    if std::env::var_os("CNS_EVENTS_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/reference/{page} is not current: run `make reference`");
}

/// Text for a table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_configuration_page_is_current() {
    let mut page = String::from(
        "# Configuration\n\n\
         Every key of `config/default.toml`. A value comes from, in this order: the environment variable of\n\
         the key, a file that the variable with the suffix `_FILE` names, `config/{CNS_EVENTS_PROFILE}.toml`,\n\
         `config/default.toml`. `AMQP_URL` and `DATABASE_URL` are used where `amqp.uri` and `database.url` are\n\
         not set otherwise. `cns-events config` prints the effective values and their origin; a value that\n\
         cannot work ends the process at its start with exit code 78.\n\n\
         <!-- Written by `make reference` from the code. -->\n\n\
         | key | variable | type | default | description |\n| --- | --- | --- | --- | --- |\n",
    );
    for key in cns_events::config::reference() {
        let default = match (key.secret, key.default.as_str()) {
            (true, _) => "secret".to_owned(),
            (false, "") => "empty".to_owned(),
            (false, default) => format!("`{}`", cell(default)),
        };
        let (kind, help) = (cell(&key.kind), cell(&key.help));
        writeln!(page, "| `{}` | `{}` | {kind} | {default} | {help} |", key.key, key.variable).unwrap();
    }
    check("configuration.md", &page);
}

#[test]
fn the_metrics_page_is_current() {
    let mut page = String::from(
        "# Metrics\n\n\
         Prometheus metrics on `http.listen`, at `/metrics`. Every process also exports `process_…`. The\n\
         metrics `cns_events_publisher_…` are those of a producer that registers a `PublisherCollector`.\n\n\
         <!-- Written by `make reference` from the code. -->\n\n\
         | metric | type | labels | description |\n| --- | --- | --- | --- |\n",
    );
    for family in cns_events::metrics::reference() {
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        writeln!(page, "| `{}` | {} | {labels} | {} |", family.name, family.kind, cell(&family.help))
            .unwrap();
    }
    check("metrics.md", &page);
}

#[test]
fn the_command_line_page_is_current() {
    let mut page = String::from(
        "# Command line\n\n\
         The help of each command. Exit codes: 0 done, 1 failed, 2 usage, 78 configuration.\n\n\
         <!-- Written by `make reference` from the code. -->\n",
    );
    let mut definition = cns_events::cli::definition().term_width(HELP_COLUMNS);
    definition.build();
    commands(&definition, &mut page);
    check("cli.md", &page);
}

fn commands(command: &clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        commands(child, page);
    }
}

#[test]
fn the_api_page_is_current() {
    let document = serde_json::to_value(cns_events::api::document()).unwrap();
    let mut page = String::from(
        "# Read API\n\n\
         `cns-events serve` answers these requests on `api.listen`. The same as an OpenAPI document:\n\
         `GET /openapi.json`. [Read events over HTTP](../how-to/read-over-http.md) shows how to use it.\n\n\
         <!-- Written by `make reference` from the code. -->\n",
    );
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let summary =
                operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or_default();
            write!(page, "\n## `{} {path}`\n\n{}\n", method.to_uppercase(), cell(summary)).unwrap();
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            if !parameters.is_empty() {
                page.push_str(
                    "\n| parameter | in | type | limits | description |\n| --- | --- | --- | --- | --- |\n",
                );
            }
            for parameter in parameters {
                let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
                let (kind, limits) = schema(&parameter["schema"]);
                let description = cell(&text(&parameter["description"]));
                writeln!(page, "| `{name}` | {place} | {kind} | {limits} | {description} |").unwrap();
            }
            page.push_str("\n| status | response |\n| --- | --- |\n");
            for (status, response) in operation["responses"].as_object().unwrap() {
                writeln!(page, "| {status} | {} |", cell(&text(&response["description"]))).unwrap();
            }
        }
    }
    check("api.md", &page);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Type and limits of a parameter.
fn schema(schema: &Value) -> (String, String) {
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => "string".to_owned(),
    };
    let kind = match schema["format"].as_str() {
        Some(format) => format!("{kind} ({format})"),
        None => kind,
    };
    let limits = [
        ("minimum", "from"),
        ("maximum", "to"),
        ("maxLength", "at most characters"),
        ("maxItems", "at most items"),
        ("enum", "one of"),
        ("default", "default"),
        ("pattern", "pattern"),
    ];
    let limits = limits.into_iter().filter(|(key, _)| !schema[key].is_null()).map(|(key, word)| {
        let value = match &schema[key] {
            Value::String(text) => text.replace('|', "\\|"),
            Value::Array(words) => words.iter().map(text).collect::<Vec<_>>().join(", "),
            value => value.to_string(),
        };
        format!("{word} `{value}`")
    });
    (kind, limits.collect::<Vec<_>>().join(", "))
}

#[test]
fn the_failures_page_is_current() {
    let mut page = String::from(
        "# Failures\n\n\
         [Reliability](../explanation/reliability.md) explains what the worker does with each class.\n\n\
         <!-- Written by `make reference` from the code. -->\n\n\
         ## By SQLSTATE\n\n\
         A code comes before its class (the first two characters). *data*: the row is dead-lettered once it is\n\
         alone and other rows can be stored. *held*: the batch is held and retried with backoff; the word is\n\
         the label `reason` of `cns_events_store_retries_total`. A SQLSTATE that is not listed is *unknown*:\n\
         held, unless one row alone fails while a probe succeeds.\n\n\
         | SQLSTATE | class | description |\n| --- | --- | --- |\n",
    );
    for (code, class, description) in SQLSTATES {
        let class = match class {
            FailureClass::Data => "data".to_owned(),
            FailureClass::Held(hold) => format!("held (`{}`)", hold.label()),
            FailureClass::Unknown => "unknown".to_owned(),
        };
        writeln!(page, "| {code} | {class} | {description} |").unwrap();
    }
    page.push_str(
        "\n## By AMQP reply code\n\n\
         No event is dead-lettered for one of them. *session*: the session ends and is built again with\n\
         backoff. *operator*: the same; if it is found at the first start, the worker ends with exit code 78\n\
         and a fix. *dead letter*: a dead letter was not taken; its message stays unacknowledged.\n\n\
         | code | name | class | description |\n| --- | --- | --- | --- |\n",
    );
    for (code, name, class, description) in REPLY_CODES {
        writeln!(page, "| {code} | {name} | {} | {description} |", class.name()).unwrap();
    }
    page.push_str("\nA missed heartbeat, a cut connection, and the end of a channel or a consumer are of the class *session*.\n");
    check("failures.md", &page);
}
