//! The cost of the journal and of the summaries: drains without the journal, with it, and with the task that keeps the summaries beside.

use serde_json::{Map, Value, json};

use crate::bench_env::machine::cpu_us;
use crate::bench_env::{BenchEnv, BenchEvent, QueueKind, stop, wait_for};
use crate::contenders::{Drain, worker};
use crate::env::{Worker, connect};
use crate::{Options, spread};

/// Workflows whose events are mixed: as many stand in a batch of 1000.
const WORKFLOWS: [usize; 2] = [80, 1000];

/// Work beside the drain.
#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Without,
    Journal,
    Summaries,
}

const CONTENDERS: [Contender; 3] = [Contender::Without, Contender::Journal, Contender::Summaries];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Without => "no journal",
            Contender::Journal => "journal",
            Contender::Summaries => "journal and summaries",
        }
    }

    /// Drains a full queue; returns the drain, and the task's own processor time for each event, in microseconds.
    async fn drain(self, env: &BenchEnv, events: &[BenchEvent]) -> (Drain, f64) {
        let client = connect(&env.database_url).await;
        env.truncate().await;
        let trigger = if self == Contender::Without { "disable" } else { "enable" };
        client
            .batch_execute(&format!(
                "alter table enrichment_events {trigger} trigger enrichment_journal_write"
            ))
            .await
            .unwrap();
        env.declare(QueueKind::Quorum).await;
        let (_connection, channel) = env.channel().await.unwrap();
        env.fill(&channel, events).await;
        let mut task = match self {
            Contender::Summaries => Some(aggregate(env).await),
            _ => None,
        };
        let before = task.as_ref().map_or(0.0, |task| cpu_us(task.child.id()));
        let drain = worker(env, QueueKind::Quorum, events.len()).await;
        let own = task.as_ref().map_or(0.0, |task| cpu_us(task.child.id()) - before);
        if let Some(task) = &mut task {
            stop(task);
        }
        env.remove_queues().await;
        (drain, own / events.len() as f64)
    }
}

/// Starts the task, and waits until it has its position.
async fn aggregate(env: &BenchEnv) -> Worker {
    let mut task = env.aggregate();
    wait_for(&mut task, "/readyz", |text| text.contains("true")).await;
    wait_for(&mut task, "/metrics", |text| {
        crate::env::metric_in(text, "cns_events_aggregate_round_seconds_count") >= 1.0
    })
    .await;
    task
}

/// Medians of all rounds by number of workflows, and the ratios to the drain without a journal of the same round.
pub async fn measure(env: &BenchEnv, options: &Options) -> Value {
    let mut by_workflows = Vec::new();
    for workflows in WORKFLOWS {
        let events: Vec<BenchEvent> = (0..options.events).map(|n| BenchEvent::of(n, workflows)).collect();
        let mut rounds: Vec<Vec<(Drain, f64)>> = Vec::new();
        for round in 0..options.rounds {
            let mut drains: Vec<Option<(Drain, f64)>> = CONTENDERS.iter().map(|_| None).collect();
            for turn in 0..CONTENDERS.len() {
                let place = (turn + round) % CONTENDERS.len();
                let drain = CONTENDERS[place].drain(env, &events).await;
                options.say(&format!(
                    "journal, {workflows} workflows, round {}: {:<22} {:>7.0} events/s",
                    round + 1,
                    CONTENDERS[place].name(),
                    drain.0.per_s
                ));
                drains[place] = Some(drain);
            }
            rounds.push(drains.into_iter().flatten().collect());
        }
        let mut figures = Map::new();
        for (place, contender) in CONTENDERS.iter().enumerate() {
            let of = |value: &dyn Fn(&(Drain, f64)) -> f64| -> Vec<f64> {
                rounds.iter().map(|round| value(&round[place])).collect()
            };
            let beside: Vec<f64> =
                rounds.iter().map(|round| round[place].0.per_s / round[0].0.per_s).collect();
            figures.insert(
                contender.name().to_owned(),
                json!({
                    "events_per_second": spread(&of(&|drain| drain.0.per_s)),
                    "of_no_journal": spread(&beside),
                    "database_microseconds_per_event": spread(&of(&|drain| drain.0.cpu_us[2])),
                    "task_microseconds_per_event": spread(&of(&|drain| drain.1)),
                }),
            );
        }
        by_workflows.push(json!({ "workflows": workflows, "contenders": figures }));
    }
    let client = connect(&env.database_url).await;
    client
        .batch_execute("alter table enrichment_events enable trigger enrichment_journal_write")
        .await
        .unwrap();
    json!({ "events": options.events, "rounds": options.rounds, "by_workflows": by_workflows })
}
