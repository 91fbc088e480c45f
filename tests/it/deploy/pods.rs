//! The pods of the rendered objects, and what they are made of.

use serde_json::Value;

/// A pod template, and the object that makes pods of it.
pub struct Pod {
    pub name: String,
    /// `worker`, `serve`, `migrate` or `prune`.
    pub component: String,
    pub labels: Value,
    pub spec: Value,
}

pub fn pods(objects: &[Value]) -> Vec<Pod> {
    let template = |object: &Value| match object["kind"].as_str().unwrap() {
        "Deployment" | "Job" => Some(object["spec"]["template"].clone()),
        "CronJob" => Some(object["spec"]["jobTemplate"]["spec"]["template"].clone()),
        _ => None,
    };
    let pods = objects.iter().filter_map(|object| {
        let template = template(object)?;
        Some(Pod {
            name: object["metadata"]["name"].as_str().unwrap().to_owned(),
            component: template["metadata"]["labels"]["app.kubernetes.io/component"]
                .as_str()
                .unwrap()
                .to_owned(),
            labels: template["metadata"]["labels"].clone(),
            spec: template["spec"].clone(),
        })
    });
    pods.collect()
}

impl Pod {
    pub fn containers(&self) -> Vec<Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| self.spec[*list].as_array().cloned().unwrap_or_default())
            .collect()
    }

    pub fn container(&self) -> Value {
        let mut containers = self.containers();
        assert_eq!(containers.len(), 1, "{} has one container", self.name);
        containers.remove(0)
    }

    /// Returns the violations of the restricted level of Kubernetes' Pod Security Standards.
    pub fn unrestricted(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let pod = &self.spec["securityContext"];
        let mut forbid = |wrong: bool, what: &str| {
            if wrong {
                problems.push(format!("{}: {what}", self.name));
            }
        };
        for host in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
            forbid(!self.spec[host].is_null(), host);
        }
        forbid(
            pod["runAsUser"] == 0 || !pod["sysctls"].is_null() || !pod["seLinuxOptions"].is_null(),
            "securityContext",
        );
        for volume in self.spec["volumes"].as_array().cloned().unwrap_or_default() {
            let kinds: Vec<String> =
                volume.as_object().unwrap().keys().filter(|key| *key != "name").cloned().collect();
            let allowed = [
                "configMap",
                "csi",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "persistentVolumeClaim",
                "projected",
                "secret",
            ];
            forbid(!kinds.iter().all(|kind| allowed.contains(&kind.as_str())), &format!("volume {kinds:?}"));
        }
        for container in self.containers() {
            let own = &container["securityContext"];
            let either = |key: &str| if own[key].is_null() { pod[key].clone() } else { own[key].clone() };
            forbid(either("runAsNonRoot") != true, "runAsNonRoot");
            forbid(own["runAsUser"] == 0, "runAsUser");
            forbid(
                !["RuntimeDefault", "Localhost"]
                    .contains(&either("seccompProfile")["type"].as_str().unwrap_or_default()),
                "seccompProfile",
            );
            forbid(own["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation");
            forbid(own["privileged"] == true || !own["procMount"].is_null(), "privileged");
            forbid(own["capabilities"]["drop"] != serde_json::json!(["ALL"]), "capabilities.drop");
            forbid(!own["capabilities"]["add"].is_null(), "capabilities.add");
            // Not in the standard, and ours.
            forbid(own["readOnlyRootFilesystem"] != true, "readOnlyRootFilesystem");
            forbid(container["resources"]["limits"]["memory"].is_null(), "a memory limit");
            forbid(container["resources"]["requests"]["cpu"].is_null(), "a CPU request");
            for port in container["ports"].as_array().cloned().unwrap_or_default() {
                forbid(!port["hostPort"].is_null(), "hostPort");
            }
        }
        forbid(self.spec["automountServiceAccountToken"] != false, "a service account's token");
        problems
    }
}
