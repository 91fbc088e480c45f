//! A rolling restart of the pool under load, as Kubernetes does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lapin::options::ConfirmSelectOptions;
use lapin::{Connection, ConnectionProperties};

use crate::env::{TestEnv, amqp_url, event, eventually};

/// Upper bound for a worker's stop on a machine busy with other tests; Kubernetes allows 30 seconds.
const QUICK: Duration = Duration::from_secs(15);

/// Three workers, each restarted twice while events come without a pause: each ends with 0 and quickly, what it had not
/// settled is stored by the others, nothing is lost, nothing is dead-lettered, and little comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn three_workers_are_restarted_one_by_one() {
    let env = TestEnv::new("rolling").await;
    let start = || {
        env.start(|command| {
            command.env("CNS_EVENTS__WORKER__PREFETCH", "40").env("CNS_EVENTS__WORKER__BATCH_SIZE", "20");
        })
    };
    let mut workers = vec![start(), start(), start()];
    for worker in &workers {
        worker.ready().await;
    }
    let (published, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let producer = tokio::spawn({
        let (exchange, published, stop) = (env.exchange(), published.clone(), stop.clone());
        async move {
            let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..200 {
                    let body = event(&format!("e{}", published.fetch_add(1, Ordering::Relaxed)));
                    let publish = channel.basic_publish(
                        exchange.as_str().into(),
                        "cns.test".into(),
                        Default::default(),
                        body.as_bytes(),
                        lapin::BasicProperties::default().with_delivery_mode(2),
                    );
                    drop(publish.await.unwrap());
                }
                channel.wait_for_confirms().await.unwrap();
            }
        }
    });
    let mut redelivered = 0.0;
    for round in 0..6 {
        let before = env.rows().await;
        eventually("the pool is at work", async || env.rows().await > before).await;
        let mut old = workers.remove(0);
        let (asked, log) = (Instant::now(), old.log());
        redelivered += old.metric_value("cns_events_redelivered_total");
        assert!(old.terminate().await.success(), "round {round}: {log}");
        assert!(asked.elapsed() < QUICK, "round {round}: {:?}", asked.elapsed());
        assert!(old.log().contains("worker stopped") && !old.log().contains("panicked"));
        let new = start();
        new.ready().await;
        workers.push(new);
    }
    stop.store(true, Ordering::Relaxed);
    producer.await.unwrap();
    let published = published.load(Ordering::Relaxed);
    eventually("all are stored", async || env.rows().await == published as i64).await;
    eventually("all is settled", async || {
        workers.iter().all(|worker| worker.metric_value("cns_events_in_flight") == 0.0)
    })
    .await;
    assert_eq!(env.depth(&env.queue()).await.0, 0);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    let sum = |name: &str| workers.iter().map(|worker| worker.metric_value(name)).sum::<f64>();
    assert_eq!(sum("cns_events_acks_lost_total"), 0.0);
    // Each stop returns at most what its two lanes had in their prefetch.
    let most = (6 * 2 * 40) as f64;
    assert!(published > 5 * most as usize, "{published}: there was load");
    assert!(redelivered + sum("cns_events_redelivered_total") <= most, "in no loop");
}
