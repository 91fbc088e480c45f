//! Deployment files, checked against the program: Kubernetes objects, Prometheus rules, the Grafana dashboard, the image.

mod container;
mod grafana;
mod kubernetes;
mod pods;
mod prometheus;
mod rabbitmq;
mod rolling_restart;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use cns_events::metrics::{Metrics, render};
use promql_parser::parser::{self, Expr};
use serde_json::Value;

const MONITORING: &str = "k8s/components/monitoring";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// `kubectl kustomize` of a folder. One fetches a kubectl where there is none.
fn kustomize(folder: &Path) -> String {
    let path = Command::new(root("scripts/services")).arg("kubectl").output().unwrap();
    assert!(path.status.success(), "{}", String::from_utf8_lossy(&path.stderr));
    let kubectl = String::from_utf8(path.stdout).unwrap();
    let output = Command::new(kubectl.trim()).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that can be rendered: the overlays as they are, and production with what it has in comments.
fn renderings() -> Vec<(&'static str, String)> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Kustomize takes relative paths only; the target folder may be outside of the project.
    let folder_path = folder.path().canonicalize().unwrap();
    let up = "../".repeat(folder_path.components().count() - 1);
    let project = root("").canonicalize().unwrap();
    let k8s = format!("{up}{}/k8s/", project.strip_prefix("/").unwrap().display());
    let other = read("k8s/overlays/production/kustomization.yaml")
        .replace("../../components/autoscaling-keda # or ", "")
        .replace("  # - ../../components/rabbitmq-operator", "  - ../../components/rabbitmq-operator")
        .replace("  - namespace.yaml\n", "")
        .replace("../../", &k8s);
    assert!(other.contains("components/autoscaling-hpa\n") && !other.contains("keda"), "{other}");
    std::fs::write(folder.path().join("kustomization.yaml"), other).unwrap();
    vec![
        ("development", kustomize(&root("k8s/overlays/development"))),
        ("production", kustomize(&root("k8s/overlays/production"))),
        ("production with the other components", kustomize(folder.path())),
    ]
}

/// The names that the program's metrics have in Prometheus: a histogram is three.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // With the metrics of every process.
    for line in render(&Metrics::new().registry()).lines() {
        names.extend(line.strip_prefix("# TYPE ").and_then(|line| line.split(' ').next()).map(str::to_owned));
    }
    for family in cns_events::metrics::reference() {
        if family.kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name)));
        }
        names.insert(family.name);
    }
    names
}

/// The metrics that an expression asks for.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    fn walk(expression: &Expr, names: &mut BTreeSet<String>) {
        match expression {
            Expr::Aggregate(inner) => walk(&inner.expr, names),
            Expr::Unary(inner) => walk(&inner.expr, names),
            Expr::Binary(inner) => {
                walk(&inner.lhs, names);
                walk(&inner.rhs, names);
            }
            Expr::Paren(inner) => walk(&inner.expr, names),
            Expr::Subquery(inner) => walk(&inner.expr, names),
            Expr::VectorSelector(selector) => names.extend(selector.name.clone()),
            Expr::MatrixSelector(selector) => names.extend(selector.vs.name.clone()),
            Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    walk(&parser::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}")), &mut names);
    names
}

/// The recording rules and the alerts of rules.yaml.
fn rules() -> Vec<Value> {
    let file = yaml(&read(&format!("{MONITORING}/rules.yaml"))).remove(0);
    let groups = file["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Whatever an expression asks for, the program exports or a rule records.
fn assert_known(what: &str, expression: &str) {
    let mut known = exported();
    known.extend(rules().iter().filter_map(|rule| Some(rule["record"].as_str()?.to_owned())));
    for name in metrics_of(expression) {
        assert!(known.contains(&name), "{what} asks for {name}, which nothing exports:\n{expression}");
    }
}
