//! `cns-events doctor` and a user of the broker who may not do what a worker has to: each missing right is found, and the fix grants it.

use serde_json::Value;

use crate::env::services::Services;
use crate::env::{TestEnv, amqp_url, servers_are_private};

/// A user of the private broker. Gone on drop.
struct User {
    name: String,
    url: String,
}

fn rabbitmqctl(arguments: &[&str]) {
    let output = Services::private().script("rabbitmqctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl User {
    fn new(env: &TestEnv) -> User {
        let name = format!("{}-user", env.name);
        rabbitmqctl(&["add_user", &name, "p"]);
        let mut url = url::Url::parse(&amqp_url()).unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some("p")).unwrap();
        User { name, url: url.to_string() }
    }

    fn may(&self, [configure, write, read]: [&str; 3]) {
        rabbitmqctl(&["set_permissions", &self.name, configure, write, read]);
    }

    /// Returns the checks that `doctor` finds wrong, and the first fix that grants rights.
    fn wrong(&self, env: &TestEnv, declare: &str) -> (Vec<String>, Option<String>) {
        let mut command = env.command();
        command.env("CNS_EVENTS__AMQP__URI", &self.url).env("CNS_EVENTS__AMQP__DECLARE", declare);
        let output = command.args(["doctor", "--json"]).output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let wrong = checks.iter().filter(|check| check["status"] == "wrong");
        let fix = wrong.clone().map(|check| text(check, "fix")).find(|fix| fix.contains("set_permissions"));
        (wrong.map(|check| format!("{}: {}", text(check, "check"), text(check, "found"))).collect(), fix)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_user", &self.name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_each_missing_right_on_the_broker_and_its_fix_grants_it() {
    if !servers_are_private() {
        return; // users are made with the broker's own tool
    }
    let env = TestEnv::new("rights").await;
    env.declare().await;
    let user = User::new(&env);
    let (all, none) = (".*", "^$");
    let checks = ["may not configure it", "right to consume", "right to bind", "route of dead letters"];
    for (rights, declare, found) in [
        ([none, none, none], "active", [true, true, true, true]),
        ([none, none, all], "active", [true, false, true, true]),
        ([none, all, none], "active", [true, true, true, false]),
        ([all, all, none], "active", [false, true, true, false]),
        ([all, none, all], "active", [false, false, true, true]),
        ([none, none, none], "passive", [false, true, false, true]),
        ([none, all, none], "passive", [false, true, false, false]),
        ([none, all, all], "passive", [false, false, false, false]),
    ] {
        user.may(rights);
        let (wrong, _) = user.wrong(&env, declare);
        let text = wrong.join("\n");
        assert_eq!(checks.map(|check| text.contains(check)), found, "{rights:?} {declare}: {text}");
    }
    for declare in ["active", "passive"] {
        user.may([none, none, none]);
        let (_, fix) = user.wrong(&env, declare);
        let script = format!("{}/scripts/services rabbitmqctl ", env!("CARGO_MANIFEST_DIR"));
        let fix = fix.unwrap().replace("rabbitmqctl ", &script);
        let fix = fix.split(';').next().unwrap();
        let granted = std::process::Command::new("sh").args(["-c", fix]).output().unwrap();
        assert!(granted.status.success(), "{fix}: {granted:?}");
        assert_eq!(user.wrong(&env, declare).0, Vec::<String>::new(), "{declare}");
    }
    // A worker works with what the fix grants.
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__URI", &user.url).env("CNS_EVENTS__AMQP__DECLARE", "passive");
    });
    worker.ready().await;
}
