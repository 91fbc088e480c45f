//! The dashboard asks for what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{MONITORING, assert_known, exported, metrics_of, read};

fn dashboard() -> Value {
    serde_json::from_str(&read(&format!("{MONITORING}/dashboard.json"))).unwrap()
}

/// Returns the queries that Grafana would send, with its variables filled in.
fn filled(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$instance", ".*")
}

#[test]
fn dashboard_queries_name_exported_metrics() {
    let dashboard = dashboard();
    let (mut queries, mut shown) = (0, BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(
            panel["description"].as_str().is_some_and(|about| about.len() > 10),
            "{title} does not say what it shows"
        );
        for target in panel["targets"].as_array().unwrap() {
            let expression = filled(target["expr"].as_str().unwrap());
            assert_known(title, &expression);
            shown.extend(metrics_of(&expression));
            queries += 1;
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let selector = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap().0;
        assert_known("a variable", &filled(selector));
    }
    assert!(queries > 30, "{queries}");
    // And what is exported is shown; a publisher exports from its own process, which is not of the pool.
    let quiet = ["cns_events_build_info", "cns_events_prune_", "cns_events_publisher_"];
    for name in exported().iter().filter(|name| name.starts_with("cns_events_")) {
        let histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        let of_it = |shown: &str| shown.starts_with(histogram);
        let is_shown = shown.iter().any(|shown| of_it(shown))
            || super::rules()
                .iter()
                .any(|rule| metrics_of(rule["expr"].as_str().unwrap()).iter().any(|name| of_it(name)));
        assert!(is_shown || quiet.iter().any(|quiet| name.starts_with(quiet)), "{name} is shown nowhere");
    }
}

#[test]
fn dashboard_panels_have_unique_ids_and_do_not_overlap() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut cells = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_i64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && cells.insert((x, y)), "{} overlaps", panel["title"]);
            }
        }
    }
}
