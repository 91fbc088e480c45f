//! The results as tables for people.

use std::fmt::Write;

use serde_json::Value;

/// Columns of a line of Markdown.
const MAX_COLUMNS: usize = 100;

/// Markdown: what it was measured on, then a table for each part that was measured.
pub fn table(results: &Value) -> String {
    let mut text = String::new();
    let machine = &results["machine"];
    let of = |name: &str| machine[name].to_string().trim_matches('"').to_owned();
    let _ = writeln!(
        text,
        "{}: {} cores ({}), {} GiB, {}; {}; RabbitMQ {}, PostgreSQL {}, {}.",
        of("date"),
        of("cores"),
        of("processor"),
        machine["memory_gib"].as_f64().unwrap_or_default(),
        of("system"),
        of("cns_events"),
        of("rabbitmq"),
        of("postgresql"),
        of("python"),
    );
    let settings = machine["postgresql_settings"].as_object().into_iter().flatten();
    let settings: Vec<String> =
        settings.map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default())).collect();
    let _ = writeln!(text, "PostgreSQL: {}. The table is that {}.", settings.join(", "), of("table"));
    for (part, write) in [
        ("drain", drain as fn(&mut String, &Value)),
        ("latency", latency),
        ("growth", growth),
        ("publisher", publisher),
        ("journal", journal),
        ("lag", lag),
    ] {
        if !results[part].is_null() {
            text.push('\n');
            write(&mut text, &results[part]);
        }
    }
    wrapped(&text)
}

/// Wraps lines outside of tables, as the documentation does.
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut columns = 0;
        for word in line.split(' ').filter(|_| !line.starts_with('|')) {
            let length = word.chars().count();
            let separator = match columns {
                0 => "",
                _ if columns + 1 + length > MAX_COLUMNS => {
                    columns = 0;
                    "\n"
                }
                _ => " ",
            };
            columns += separator.trim_end_matches('\n').len() + length;
            let _ = write!(wrapped, "{separator}{word}");
        }
        if line.starts_with('|') {
            wrapped.push_str(line);
        }
        wrapped.push('\n');
    }
    wrapped
}

fn drain(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "Drain of {} events, medians of {} rounds (lowest-highest)\n\n\
         | | events/s | of COPY | CPU µs/event: own | broker | database | peak MiB | rows a batch |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        figures["events"], figures["rounds"]
    );
    for (name, figure) in figures["contenders"].as_object().into_iter().flatten() {
        let cpu = &figure["cpu_microseconds_per_event"];
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            spread(&figure["events_per_second"], 0),
            spread(&figure["of_copy"], 2),
            middle(&cpu["own"], 1),
            middle(&cpu["broker"], 1),
            middle(&cpu["database"], 1),
            middle(&figure["peak_mib"], 0),
            middle(&figure["rows_per_batch"], 0),
        );
    }
}

fn latency(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "Publish to commit, ms, {} s at each rate, medians of {} rounds (lowest-highest)\n\n\
         | queue | events/s | p50 | p99 | p99.9 |\n| --- | ---: | ---: | ---: | ---: |",
        figures["seconds"], figures["rounds"]
    );
    for (queue, rates) in figures["queues"].as_object().into_iter().flatten() {
        let mut rates: Vec<_> = rates.as_object().into_iter().flatten().collect();
        rates.sort_by_key(|(rate, _)| rate.parse::<u64>().unwrap_or_default());
        for (rate, of) in rates {
            let [p50, p99, p999] = ["p50_ms", "p99_ms", "p999_ms"].map(|name| spread(&of[name], 1));
            let _ = writeln!(text, "| {queue} | {rate} | {p50} | {p99} | {p999} |");
        }
    }
}

fn growth(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "Drain of {} events from a quorum queue, by what was there before; rows: medians of {} (lowest-highest)\n\n\
         | before | events/s | of an empty table | peak MiB |\n| --- | ---: | ---: | ---: |",
        figures["events"], figures["rounds"]
    );
    let rows = figures["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let median = |figure: &Value| figure["events_per_second"]["median"].as_f64().unwrap_or(f64::NAN);
    let first = rows.first().map_or(f64::NAN, median);
    for figure in rows {
        let speed = spread(&figure["events_per_second"], 0);
        let _ = writeln!(text, "| {} rows | {speed} | {:.2} | |", figure["rows"], median(figure) / first);
    }
    for figure in figures["messages"].as_array().into_iter().flatten() {
        let speed = middle(&figure["events_per_second"], 0);
        let peak = middle(&figure["peak_mib"], 0);
        let _ = writeln!(
            text,
            "| {} messages | {speed} | {:.2} | {peak} |",
            figure["messages"],
            median(figure) / first
        );
    }
}

fn publisher(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "A call of the publisher, µs\n\n| broker | calls | p50 | p99 | p99.9 | dropped |\n| --- | --- | ---: | ---: | ---: | ---: |"
    );
    for of in figures["calls"].as_array().into_iter().flatten() {
        let us = |name: &str| of[name].as_f64().unwrap_or_default() / 1000.0;
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {} |",
            of["broker"].as_str().unwrap_or_default(),
            of["way"].as_str().unwrap_or_default(),
            us("p50_ns"),
            us("p99_ns"),
            us("p999_ns"),
            of["dropped"]
        );
    }
    let of = &figures["confirmed"];
    let _ = writeln!(
        text,
        "\nConfirmed by a quorum queue, medians of {} rounds of {} events: publisher {} events/s, bare lapin {}, ratio {}.\n",
        of["rounds"],
        of["events"],
        spread(&of["publisher_per_s"], 0),
        spread(&of["lapin_per_s"], 0),
        spread(&of["ratio"], 2)
    );
    for of in figures["memory"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "{} calls with the broker away, a buffer of {} MiB, {}: grown by {:.1} MiB, {} accepted, {} spooled, {} dropped.",
            of["calls"],
            of["buffer_bytes"].as_u64().unwrap_or_default() >> 20,
            of["with"].as_str().unwrap_or_default(),
            of["grown_bytes"].as_f64().unwrap_or_default() / 1_048_576.0,
            of["accepted"],
            of["spooled"],
            of["dropped"]
        );
    }
}

/// The median, and where they differ the lowest and the highest; nothing where nothing was measured.
fn spread(value: &Value, digits: usize) -> String {
    let [median, min, max] = ["median", "min", "max"].map(|name| value[name].as_f64());
    match (median, min, max) {
        (Some(median), Some(min), Some(max)) if max > min => {
            format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
        }
        (Some(median), ..) => format!("{median:.digits$}"),
        _ => String::new(),
    }
}

fn middle(value: &Value, digits: usize) -> String {
    value["median"].as_f64().map(|median| format!("{median:.digits$}")).unwrap_or_default()
}

fn journal(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "Drain of {} events of 40 tenants from a quorum queue, medians of {} rounds (lowest-highest)\n\n\
         | workflows | beside | events/s | of no journal | CPU µs/event: database | task |\n\
         | ---: | --- | ---: | ---: | ---: | ---: |",
        figures["events"], figures["rounds"]
    );
    for part in figures["by_workflows"].as_array().into_iter().flatten() {
        for (name, figure) in part["contenders"].as_object().into_iter().flatten() {
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {} |",
                part["workflows"],
                spread(&figure["events_per_second"], 0),
                spread(&figure["of_no_journal"], 2),
                spread(&figure["database_microseconds_per_event"], 1),
                spread(&figure["task_microseconds_per_event"], 1),
            );
        }
    }
}

fn lag(text: &mut String, figures: &Value) {
    let _ = writeln!(
        text,
        "Summaries behind what is stored, at {} events/s of {} workflows for {} s: p50 {}, p99 {}, at most {} s",
        figures["events_per_second"],
        figures["workflows"],
        figures["seconds"],
        middle(&figures["p50_s"], 2),
        middle(&figures["p99_s"], 2),
        middle(&figures["most_s"], 2),
    );
}
