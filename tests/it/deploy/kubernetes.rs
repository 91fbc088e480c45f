//! The objects under k8s/, rendered, judged strictly, and held against the program.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::pods::{Pod, pods};
use super::{read, renderings, root, yaml};
use crate::env::api_server::ApiServer;
use crate::env::python::python_with;
use crate::env::{TestEnv, get};

/// The Kubernetes whose schemas judge. What it knows, later ones know.
const VERSION: &str = "1.32";

/// Every field is one that the schema knows and of its type. Needs python3 and an index; without them there is nothing to show.
#[test]
fn kubernetes_objects_match_their_schemas() {
    let packages = [
        "kubernetes-validate==1.37.0",
        "cloudcoil-models-keda==2.16.1.0",
        "cloudcoil-models-prometheus-operator==0.80.1.0",
    ];
    let Some(python) = python_with(
        "kubernetes",
        &packages,
        "kubernetes_validate, cloudcoil.models.keda, cloudcoil.models.prometheus_operator",
    ) else {
        eprintln!("python3 with kubernetes-validate cannot be had here: the objects were not judged");
        return;
    };
    let judge = |text: &str| {
        let mut judge = Command::new(&python);
        judge
            .arg(root("tests/it/deploy/strict.py"))
            .arg(VERSION)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut judge = judge.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = judge.stdin.take().unwrap();
        let text = text.to_owned();
        let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = judge.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let renderings = renderings();
    for (name, text) in &renderings {
        let (good, said) = judge(text);
        assert!(good, "{name}:\n{said}");
        println!("{name}: {}", said.trim());
    }
    // The judge does judge: a word that is wrong in any kind is found.
    let mut all = renderings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("---\n");
    let mistakes = [
        ("terminationGracePeriodSeconds: 40", "terminationGracePeriod: 40"),
        ("maxUnavailable: 50%", "maximumUnavailable: 50%"),
        ("policyTypes:", "policyType:"),
        ("minReplicaCount: 2", "minimumReplicaCount: 2"),
        ("minReplicas: 2", "minReplicas: two"),
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("  for: 2m", "  during: 2m"),
        ("routingKey:", "routingkey:"),
        ("containerPort: 8080", "containerPort: api"),
    ];
    for (right, wrong) in mistakes {
        assert!(all.contains(right), "{right}");
        all = all.replacen(right, wrong, 1);
    }
    let (good, said) = judge(&all);
    assert!(!good);
    for (_, wrong) in mistakes {
        let word = match wrong.split_once(": ") {
            Some(("minReplicas" | "containerPort", value)) => value,
            _ => wrong.trim().split(':').next().unwrap(),
        };
        assert!(said.contains(word), "{wrong} was not found:\n{said}");
    }
}

#[test]
fn pods_meet_the_restricted_security_standard() {
    for (name, text) in renderings() {
        let pods = pods(&yaml(&text));
        assert!(pods.len() >= 3, "{name}");
        let problems: Vec<String> = pods.iter().flat_map(Pod::unrestricted).collect();
        assert!(problems.is_empty(), "{name}: {problems:?}");
        assert!(text.contains("pod-security.kubernetes.io/enforce: restricted") || name.contains("other"));
    }
}

/// Each container's command, with its environment, its configuration files and its secrets: the program takes them, listens on the
/// ports that the objects name, and stops within the time that it is given.
#[test]
fn the_program_accepts_the_configuration_of_the_objects() {
    let examples = yaml(&read("k8s/overlays/development/secrets.example.yaml"));
    for (name, text) in renderings() {
        let objects = yaml(&text);
        for pod in pods(&objects) {
            let container = pod.container();
            let folder = tempfile::tempdir().unwrap();
            for mount in container["volumeMounts"].as_array().unwrap() {
                let volume = pod.spec["volumes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|volume| volume["name"] == mount["name"]);
                let target = folder.path().join(mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
                std::fs::create_dir_all(&target).unwrap();
                fill(&target, volume.unwrap(), &objects, &examples);
                assert_eq!(mount["readOnly"], true);
            }
            let config = effective(&container, folder.path());
            let port = |of: &str| {
                let ports = container["ports"].as_array().cloned().unwrap_or_default();
                ports.iter().find(|port| port["name"] == of).map(|port| port["containerPort"].to_string())
            };
            let listens = |key: &str| {
                config[key].rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned()))
            };
            if let Some(http) = port("http") {
                assert_eq!(listens("http.listen"), Some(("0.0.0.0".into(), http)), "{name}: {}", pod.name);
            }
            if let Some(api) = port("api") {
                assert_eq!(listens("api.listen"), Some(("0.0.0.0".into(), api)), "{name}: {}", pod.name);
            }
            assert_eq!(config["log.format"], "json");
            let grace = pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
            let stop = match pod.component.as_str() {
                "worker" => config["worker.shutdown_seconds"].parse::<u64>().unwrap(),
                "serve" => {
                    config["api.request_timeout_ms"].parse::<u64>().unwrap() / 1000
                        + container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0)
                }
                _ => 0,
            };
            assert!(grace > stop, "{name}: {} is killed after {grace} s and may take {stop} s", pod.name);
            // The command is one, and its flags are its own.
            let arguments: Vec<&str> =
                container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            let help = Command::new(env!("CARGO_BIN_EXE_cns-events"))
                .args(&arguments)
                .arg("--help")
                .output()
                .unwrap();
            assert!(help.status.success(), "{name}: {arguments:?}");
        }
    }
}

/// Writes a volume's files: the ConfigMap that is rendered, the example of a secret.
fn fill(target: &Path, volume: &Value, objects: &[Value], examples: &[Value]) {
    let named = |list: &[Value], kind: &str, name: &Value| -> Option<Value> {
        list.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == *name).cloned()
    };
    let files = if volume["configMap"].is_object() {
        let name = &volume["configMap"]["name"];
        named(objects, "ConfigMap", name).unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"].clone()
    } else {
        let name = &volume["secret"]["secretName"];
        // Production's own, of which there is no example, have the keys of their kind.
        let any = serde_json::json!({"stringData": {"database-url": "postgres://u:p@h/d"}});
        named(examples, "Secret", name).unwrap_or(any)["stringData"].clone()
    };
    for (file, text) in files.as_object().unwrap() {
        std::fs::write(target.join(file), text.as_str().unwrap()).unwrap();
    }
}

/// `cns-events config` as the container would say it.
fn effective(container: &Value, folder: &Path) -> BTreeMap<String, String> {
    let inside = |path: &str| folder.join(path.trim_start_matches('/'));
    let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
    command
        .args(["config", "--json"])
        .env_clear()
        .current_dir(inside(container["workingDir"].as_str().unwrap()));
    for variable in container["env"].as_array().unwrap() {
        let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        match name.ends_with("_FILE") {
            true => command.env(name, inside(value)),
            false => command.env(name, value),
        };
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |setting: &Value| setting["value"].as_str().unwrap().to_owned();
    settings.as_object().unwrap().iter().map(|(key, setting)| (key.clone(), value(setting))).collect()
}

/// Probes ask for paths that the program answers.
#[tokio::test(flavor = "multi_thread")]
async fn probes_of_the_pods_succeed() {
    let env = TestEnv::new("probes").await;
    let worker = env.worker().await;
    let served = ApiServer::start(&env, |_| {}).await;
    let aggregate = env.launcher().run("aggregate", |_| {});
    aggregate.ready().await;
    let mut asked = 0;
    for (name, text) in renderings() {
        for pod in pods(&yaml(&text)) {
            let container = pod.container();
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                let Some(path) = container[probe]["httpGet"]["path"].as_str() else { continue };
                let address =
                    match (pod.component.as_str(), container[probe]["httpGet"]["port"].as_str().unwrap()) {
                        ("worker", "http") => worker.address("http"),
                        ("serve", port) => served.process.address(port),
                        ("aggregate", "http") => aggregate.address("http"),
                        other => panic!("{name}: {other:?}"),
                    };
                assert_eq!(get(address.unwrap(), path).unwrap().0, 200, "{name}: {} {probe}", pod.name);
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 3 * 6, "liveness and readiness of three programs");
}

/// References between objects lead to objects that exist.
#[test]
fn names_in_kubernetes_objects_exist() {
    for (name, text) in renderings() {
        let objects = yaml(&text);
        let pods = pods(&objects);
        let of = |kind: &str| objects.iter().filter(|one| one["kind"] == kind).cloned().collect::<Vec<_>>();
        let exists = |kind: &str, of_name: &Value| {
            assert!(
                of(kind).iter().any(|one| one["metadata"]["name"] == *of_name),
                "{name}: no {kind} {of_name}"
            );
        };
        let selected = |labels: &Value| -> Vec<&Pod> {
            let labels = labels.as_object().expect("a selector");
            let found: Vec<&Pod> = pods
                .iter()
                .filter(|pod| labels.iter().all(|(key, value)| pod.labels[key] == *value))
                .collect();
            assert!(!found.is_empty(), "{name}: {labels:?} selects nothing");
            found
        };
        let has_port = |pod: &Pod, port: &Value| {
            let ports = pod.container()["ports"].as_array().cloned().unwrap_or_default();
            ports.iter().any(|one| one["name"] == *port)
        };
        for pod in &pods {
            exists("ServiceAccount", &pod.spec["serviceAccountName"]);
            assert_ne!(pod.container()["image"], "cns-events", "{name}: {} has no tag", pod.name);
        }
        for deployment in of("Deployment") {
            let pods = selected(&deployment["spec"]["selector"]["matchLabels"]);
            assert_eq!(pods.len(), 1, "{name}: another deployment has the same pods");
            for spread in pods[0].spec["topologySpreadConstraints"].as_array().into_iter().flatten() {
                assert_eq!(selected(&spread["labelSelector"]["matchLabels"])[0].name, pods[0].name);
            }
        }
        for service in of("Service") {
            let pods = selected(&service["spec"]["selector"]);
            assert_eq!(pods.len(), 1);
            assert!(has_port(pods[0], &service["spec"]["ports"][0]["targetPort"]));
        }
        for budget in of("PodDisruptionBudget") {
            assert_eq!(selected(&budget["spec"]["selector"]["matchLabels"]).len(), 1);
        }
        for monitor in of("PodMonitor") {
            // Whoever serves metrics is scraped.
            let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
            let scraped = selected(&monitor["spec"]["selector"]["matchLabels"])
                .iter()
                .filter(|pod| has_port(pod, port))
                .count();
            assert_eq!(scraped, pods.iter().filter(|pod| has_port(pod, &"http".into())).count());
        }
        let mut covered = 0;
        for policy in of("NetworkPolicy") {
            let pods = selected(&policy["spec"]["podSelector"]["matchLabels"]);
            covered = covered.max(pods.len());
            for rule in policy["spec"]["ingress"].as_array().cloned().unwrap_or_default() {
                for port in rule["ports"].as_array().unwrap() {
                    assert!(
                        pods.iter().any(|pod| has_port(pod, &port["port"])),
                        "{name}: no container has the port {port}"
                    );
                }
            }
        }
        assert_eq!(covered, pods.len(), "{name}: every pod is under a policy");
        for scaler in of("ScaledObject").iter().chain(&of("HorizontalPodAutoscaler")) {
            let target = &scaler["spec"]["scaleTargetRef"]["name"];
            exists("Deployment", target);
            let deployment =
                of("Deployment").into_iter().find(|one| one["metadata"]["name"] == *target).unwrap();
            assert!(
                deployment["spec"]["replicas"].is_null(),
                "{name}: the autoscaler and the manifest would quarrel"
            );
            let defaults: toml::Table = read("config/default.toml").parse().unwrap();
            for trigger in scaler["spec"]["triggers"].as_array().cloned().unwrap_or_default() {
                assert_eq!(trigger["metadata"]["queueName"].as_str(), defaults["amqp"]["queue"].as_str());
                assert_eq!(trigger["metadata"]["excludeUnacknowledged"], "false");
                exists("TriggerAuthentication", &trigger["authenticationRef"]["name"]);
            }
        }
        for object in objects.iter().filter(|one| one["apiVersion"] == "rabbitmq.com/v1beta1") {
            if object["kind"] != "RabbitmqCluster" {
                exists("RabbitmqCluster", &object["spec"]["rabbitmqClusterReference"]["name"]);
            }
            if let Some(user) = object["spec"]["userReference"]["name"].as_str() {
                exists("User", &user.into());
            }
        }
    }
}
