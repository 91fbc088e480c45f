//! The ledger of a run: every confirmed event against the table and the dead letters.

use std::collections::BTreeSet;
use std::time::Duration;

use cns_events::amqp::Browser;
use cns_events::broker::BrokerEndpoint;

use crate::env::{TestEnv, amqp_url, connect};
use crate::producers::Ledger;

pub struct Verdict {
    ledger: Ledger,
    rows: i64,
    stored: BTreeSet<String>,
    letters: usize,
    dead: BTreeSet<String>,
    panics: usize,
    conflicts: usize,
}

/// Reads the table, the dead letters and the workers' logs.
pub async fn balance(env: &TestEnv, ledger: &Ledger) -> Verdict {
    let sql = connect(&env.database_url).await;
    let rows: Vec<String> = sql
        .query("select event_id from enrichment_events", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let broker = BrokerEndpoint::new(&amqp_url(), "torture").unwrap();
    let mut browser = Browser::open(&broker, &env.dead_letter_queue()).await.unwrap();
    let (mut letters, mut dead) = (0, BTreeSet::new());
    while let Some(got) = browser.next().await.unwrap() {
        letters += 1;
        dead.insert(id_in(&String::from_utf8_lossy(&got.message.body)));
    }
    browser.close().await.unwrap();
    let logs: Vec<String> = std::fs::read_dir(env.logs())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let count = |word: &str| logs.iter().map(|log| log.matches(word).count()).sum();
    Verdict {
        ledger: ledger.clone(),
        rows: rows.len() as i64,
        stored: rows.into_iter().collect(),
        letters,
        dead,
        panics: count("panicked"),
        conflicts: count("conflict:"),
    }
}

/// The id that every body of this test names: `good-…`, `bad-…` or `lock-…`.
fn id_in(body: &str) -> String {
    let found = ["bad-", "good-", "lock-"].iter().find_map(|prefix| body.find(prefix));
    let from = found.unwrap_or(body.len());
    body[from..]
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '-')
        .collect()
}

impl Verdict {
    pub fn figures(&self, took: Duration, restarts: usize) -> String {
        let Ledger { good, bad, locked, messages } = &self.ledger;
        let seconds = took.as_secs_f64();
        format!(
            "{seconds:.0} s, {messages} messages confirmed ({:.0}/s): {} events, {} poison, {} behind a lock; {} duplicates and repetitions\n\
             {} rows, {} dead letters ({} of them twice); workers started anew: {restarts}",
            *messages as f64 / seconds,
            good.len(),
            bad.len(),
            locked.len(),
            messages.saturating_sub(good.len() + bad.len() + locked.len()),
            self.rows,
            self.letters,
            self.letters - self.dead.len(),
        )
    }

    /// Returns the differences between what was confirmed and what is there.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, ids: Vec<&String>| {
            if !ids.is_empty() {
                let some: Vec<_> = ids.iter().take(5).map(|id| id.as_str()).collect();
                wrong.push(format!("{what}: {} ({}, …)", ids.len(), some.join(", ")));
            }
        };
        check("confirmed and not stored", self.ledger.good.difference(&self.stored).collect());
        let Ledger { good, bad, locked, .. } = &self.ledger;
        check(
            "stored and never confirmed",
            self.stored.iter().filter(|id| !good.contains(*id) && !locked.contains(*id)).collect(),
        );
        check(
            "locked and neither a row nor a dead letter",
            locked.iter().filter(|id| !self.stored.contains(*id) && !self.dead.contains(*id)).collect(),
        );
        check("poison without a dead letter", self.ledger.bad.difference(&self.dead).collect());
        check(
            "dead letters that are none",
            self.dead.iter().filter(|id| !bad.contains(*id) && !locked.contains(*id)).collect(),
        );
        if self.rows != self.stored.len() as i64 {
            wrong.push(format!("{} rows for {} events", self.rows, self.stored.len()));
        }
        if self.panics + self.conflicts > 0 {
            wrong.push(format!("in the logs: {} panics, {} conflicts", self.panics, self.conflicts));
        }
        wrong
    }
}
