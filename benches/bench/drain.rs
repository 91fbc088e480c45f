//! The drain of a prefilled queue: how fast, and at whose cost.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::bench_env::{BenchEnv, BenchEvent, QueueKind};
use crate::contenders::{Dependency, Drain, copy, lapin, python, worker};
use crate::{Options, spread};

/// One event at a time takes so much longer that it gets a fiftieth of the events.
const FEWER: usize = 50;

/// A contender, and the queue that it drains.
#[derive(Clone, Copy)]
enum Contender {
    Copy,
    Worker(QueueKind),
    Lapin(QueueKind),
    Python(Dependency),
}

impl Contender {
    fn name(self) -> String {
        match self {
            Contender::Copy => "copy".into(),
            Contender::Worker(queue) => format!("worker, {}", queue.name()),
            Contender::Lapin(queue) => format!("lapin without a database, {}", queue.name()),
            Contender::Python(Dependency::Tuned) => "python tuned, quorum".into(),
            Contender::Python(Dependency::OneAtATime) => "python one at a time, quorum".into(),
        }
    }

    async fn drain(self, env: &BenchEnv, python: &Path, events: &[BenchEvent]) -> Drain {
        let (queue, events) = match self {
            Contender::Copy => return copy(env, events).await,
            Contender::Worker(queue) | Contender::Lapin(queue) => (queue, events),
            Contender::Python(Dependency::Tuned) => (QueueKind::Quorum, events),
            Contender::Python(Dependency::OneAtATime) => {
                (QueueKind::Quorum, &events[..events.len().div_ceil(FEWER)])
            }
        };
        env.truncate().await;
        env.declare(queue).await;
        let (_connection, channel) = env.channel().await.unwrap();
        env.fill(&channel, events).await;
        let drained = match self {
            Contender::Lapin(_) => lapin(env, events.len()).await,
            Contender::Python(peer) => peer.drain(env, python, events.len()).await,
            Contender::Worker(_) | Contender::Copy => worker(env, queue, events.len()).await,
        };
        env.remove_queues().await;
        drained
    }
}

/// Every contender's figures: medians of all rounds, and their ratio to COPY in each of them.
pub async fn measure(env: &BenchEnv, options: &Options) -> Value {
    let mut contenders = vec![Contender::Copy];
    contenders.extend(options.queue.iter().map(|queue| Contender::Worker(*queue)));
    contenders.extend(options.queue.iter().map(|queue| Contender::Lapin(*queue)));
    let python = if options.no_python { None } else { python() };
    if python.is_some() {
        contenders.extend([Contender::Python(Dependency::Tuned), Contender::Python(Dependency::OneAtATime)]);
    } else {
        options.say("without Python: its packages are not wanted, or cannot be installed");
    }
    let python = python.unwrap_or_default();
    let mut rounds: Vec<Vec<Drain>> = Vec::new();
    for round in 0..options.rounds {
        let events: Vec<BenchEvent> = (0..options.events).map(BenchEvent::number).collect();
        let mut drains: Vec<Option<Drain>> = contenders.iter().map(|_| None).collect();
        for turn in 0..contenders.len() {
            let place = (turn + round) % contenders.len();
            let drain = contenders[place].drain(env, &python, &events).await;
            options.say(&format!(
                "drain, round {}: {:<40} {:>7.0} events/s",
                round + 1,
                contenders[place].name(),
                drain.per_s
            ));
            drains[place] = Some(drain);
        }
        rounds.push(drains.into_iter().flatten().collect());
    }
    let mut figures = Map::new();
    for (place, contender) in contenders.iter().enumerate() {
        let of = |value: &dyn Fn(&Drain) -> f64| -> Vec<f64> {
            rounds.iter().map(|round| value(&round[place])).collect()
        };
        let beside = |place: usize| -> Vec<f64> {
            rounds.iter().map(|round| round[place].per_s / round[0].per_s).collect()
        };
        let mut figure = json!({
            "events_per_second": spread(&of(&|drain| drain.per_s)),
            "of_copy": spread(&beside(place)),
            "cpu_microseconds_per_event": {
                "own": spread(&of(&|drain| drain.cpu_us[0])),
                "broker": spread(&of(&|drain| drain.cpu_us[1])),
                "database": spread(&of(&|drain| drain.cpu_us[2])),
            },
        });
        if matches!(contender, Contender::Worker(_)) {
            figure["peak_mib"] = spread(&of(&|drain| drain.peak_mib));
            figure["rows_per_batch"] = spread(&of(&|drain| drain.rows_per_batch));
            figure["batches_by_rows"] = Value::Object(rounds[0][place].batches.clone());
        }
        figures.insert(contender.name(), figure);
    }
    json!({ "events": options.events, "rounds": options.rounds, "contenders": figures })
}
