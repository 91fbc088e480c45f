//! The task that keeps the summaries, twice, and one of them killed again and again. Afterwards they are what the events say.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::env::{Launcher, TestEnv};
use crate::servers::Servers;

pub struct Summaries {
    kills: JoinHandle<usize>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Summaries {
    /// Starts two tasks behind the relay of the database, and the kills.
    pub fn start(env: &TestEnv, servers: &Servers, seed: u64) -> Self {
        let (launcher, url) = (env.launcher(), servers.database.url(&env.database_url));
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let kills = tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut tasks = [start(&launcher, &url), start(&launcher, &url)];
            for kills in 0.. {
                // The time of a kill is what is tried: any moment of a round, and some rounds in between.
                let lives = tokio::time::sleep(Duration::from_millis(rng.u64(300..4000)));
                tokio::select! {
                    () = lives => {}
                    _ = &mut stopped => {
                        tasks.iter_mut().for_each(kill);
                        return kills;
                    }
                }
                let one = &mut tasks[kills % 2];
                kill(one);
                *one = start(&launcher, &url);
            }
            unreachable!("the numbers do not end")
        });
        Summaries { kills, stop }
    }

    /// Ends the tasks, and compares. Returns the number of kills, and what is wrong.
    pub async fn finish(self, env: &TestEnv, rows: i64) -> (usize, Vec<String>) {
        let _ = self.stop.send(());
        let kills = self.kills.await.unwrap();
        let output = env.command().args(["aggregate", "verify", "--json"]).output().unwrap();
        let Ok(told) = serde_json::from_slice::<Value>(&output.stdout) else {
            return (kills, vec![String::from_utf8_lossy(&output.stderr).into_owned()]);
        };
        let mut wrong = Vec::new();
        if told["different"] != 0 {
            wrong.push(format!("the summaries differ from the events: {told}"));
        }
        if told["events"].as_i64() != Some(rows) {
            wrong.push(format!("{} events were verified, and {rows} are stored", told["events"]));
        }
        (kills, wrong)
    }
}

fn start(launcher: &Launcher, url: &str) -> Child {
    let mut command = launcher.command();
    command.arg("aggregate").env("CNS_EVENTS__DATABASE__URL", url).env("CNS_EVENTS__LOG__LEVEL", "off");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(task: &mut Child) {
    let _ = task.kill();
    let _ = task.wait();
}
