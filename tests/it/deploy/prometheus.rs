//! Rules, by Prometheus' own tool, and a real Prometheus that scrapes real processes. Debian's package `prometheus` has both; without
//! it there is nothing to show.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{MONITORING, assert_known, read, root, rules, yaml};
use crate::env::api_server::ApiServer;
use crate::env::{TestEnv, event, eventually, get};

fn there_is(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("{program} is not installed: nothing is shown");
    }
    there
}

#[test]
fn alert_rules_pass_their_tests() {
    if !there_is("promtool") {
        return;
    }
    for (command, file) in [("check", "rules.yaml"), ("test", "rules_test.yaml")] {
        let run =
            Command::new("promtool").args([command, "rules", file]).current_dir(root(MONITORING)).output();
        let run = run.unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("SUCCESS"), "{said}");
    }
}

/// Every alert is about an exported metric, has a test, and has an entry in the runbook.
#[test]
fn every_alert_names_exported_metrics_and_has_a_test_and_a_runbook() {
    let tests = read(&format!("{MONITORING}/rules_test.yaml"));
    let mut alerts = 0;
    for rule in rules() {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        assert_known(name, rule["expr"].as_str().unwrap());
        if rule["alert"].is_null() {
            continue;
        }
        alerts += 1;
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} has no test");
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        // One page has all alerts of the budget's burn rate.
        let page = url.strip_prefix("docs/runbook/").and_then(|page| page.strip_suffix(".md")).unwrap();
        assert!(name.starts_with(page), "{name}: {url}");
        let page = read(url);
        for heading in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"] {
            assert!(page.contains(heading), "{url} has no {heading}");
        }
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
    }
    assert!(alerts > 12, "{alerts}");
}

/// The operator's object holds the same rules.
#[test]
fn the_prometheus_operators_rules_are_the_same() {
    let object = yaml(&read(&format!("{MONITORING}/prometheusrule.yaml"))).remove(0);
    let plain = yaml(&read(&format!("{MONITORING}/rules.yaml"))).remove(0);
    assert_eq!(object["spec"], plain, "make rules writes prometheusrule.yaml anew");
}

/// A worker and a read API at work, scraped by a Prometheus with these rules: the recording rules give what was done, and the pages'
/// format has nothing that promtool would complain of.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_every_worker() {
    if !there_is("prometheus") || !there_is("promtool") {
        return;
    }
    let env = TestEnv::new("prometheus").await;
    let worker = env.worker().await;
    let served = ApiServer::start(&env, |_| {}).await;
    let targets: Vec<_> = [&worker, &served.process].map(|process| process.address("http").unwrap()).to_vec();
    for target in &targets {
        let text = get(*target, "/metrics").unwrap().1;
        let mut check = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }

    let folder = tempfile::tempdir().unwrap();
    let (worker_at, serve_at) = (targets[0], targets[1]);
    std::fs::copy(root(MONITORING).join("rules.yaml"), folder.path().join("rules.yaml")).unwrap();
    let short = read(&format!("{MONITORING}/rules.yaml"));
    assert!(short.contains("[5m]"));
    let config = format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\nrule_files: [rules.yaml]\nscrape_configs:\n\
         - job_name: worker\n  static_configs: [{{targets: ['{worker_at}'], labels: {{namespace: test}}}}]\n\
         - job_name: serve\n  static_configs: [{{targets: ['{serve_at}'], labels: {{namespace: test}}}}]\n"
    );
    let file = folder.path().join("prometheus.yaml");
    std::fs::write(&file, config).unwrap();
    let check = Command::new("promtool").args(["check", "config"]).arg(&file).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(env.logs().join("prometheus.log")).unwrap())
        .spawn()
        .unwrap();
    let ask = |expression: &str| -> Vec<Value> {
        let query = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect::<String>();
        let answer = get(address, &format!("/api/v1/query?query={query}"));
        let answer: Value = answer.and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let number = |expression: &str| -> f64 {
        ask(expression).first().and_then(|one| one["value"][1].as_str()?.parse().ok()).unwrap_or(f64::NAN)
    };
    eventually("both are scraped", async || number("sum(up)") == 2.0).await;
    let now = || format!(r#","created_at":"{}""#, chrono::Utc::now().to_rfc3339());
    for n in 0..300 {
        env.publish(
            event(&n.to_string()).replace(r#","created_at":"2026-01-02T03:04:05Z""#, &now()).as_bytes(),
        )
        .await;
    }
    env.publish(b"no json").await;
    eventually("the counters say so", async || {
        number(r#"sum(cns_events_stored_total{namespace="test"})"#) == 300.0
            && number("sum(cns_events_dead_lettered_total)") == 1.0
    })
    .await;
    eventually("the rules have recorded it", async || {
        number(r#"namespace:cns_events_stored:rate5m{namespace="test"}"#) > 0.0
            && number("namespace:cns_events_end_to_end_seconds:p99_5m") > 0.0
            && number("namespace:cns_events_late:ratio_rate5m").abs() < 1e-9
    })
    .await;
    // A dead letter is told at once; the others have nothing to tell.
    let firing = r#"ALERTS{alertstate="firing"}"#;
    eventually("the alert fires", async || !ask(firing).is_empty()).await;
    let alerts: Vec<String> = ask(firing).iter().map(|one| one["metric"]["alertname"].to_string()).collect();
    assert_eq!(alerts, [r#""CnsEventsDeadLetters""#]);
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
}
