//! The faults, and a plan of them that a seed repeats.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cns_events::amqp::{ConfirmChannel, RawMessage, RawProperties};
use cns_events::broker::BrokerEndpoint;
use fastrand::Rng;

use crate::env::{TIMEOUT, TestEnv, amqp_url, connect};
use crate::pool::Pool;
use crate::producers::Producers;
use crate::servers::Servers;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    KillWorker,
    StopWorker,
    FreezeWorker,
    CrashDatabase,
    KillBroker,
    CutDatabase,
    CutBroker,
    CutBoth,
    SlowDatabase,
    SlowBroker,
    TerminateBackends,
    LockTable,
    CloseConnections,
    MemoryAlarm,
    Poison,
    Unreadable,
    Refused,
    LockRow,
    Duplicates,
}

/// Relative frequency of each kind: faults that take long come less often.
const WEIGHTS: [(EventType, u32); 19] = [
    (EventType::KillWorker, 8),
    (EventType::StopWorker, 6),
    (EventType::FreezeWorker, 4),
    (EventType::CrashDatabase, 4),
    (EventType::KillBroker, 3),
    (EventType::CutDatabase, 8),
    (EventType::CutBroker, 8),
    (EventType::CutBoth, 4),
    (EventType::SlowDatabase, 4),
    (EventType::SlowBroker, 4),
    (EventType::TerminateBackends, 6),
    (EventType::LockTable, 3),
    (EventType::CloseConnections, 3),
    (EventType::MemoryAlarm, 2),
    (EventType::Poison, 6),
    (EventType::Unreadable, 4),
    (EventType::Refused, 4),
    (EventType::LockRow, 4),
    (EventType::Duplicates, 6),
];

/// One fault: what, to which worker, for how long, and the pause after it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: EventType,
    pub worker: usize,
    pub lasts: Duration,
    pub pause: Duration,
}

pub struct Plan {
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Each kind once before any comes by chance, so that a short plan has as many kinds as it can.
    pub fn new(seed: u64, faults: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut kinds: Vec<EventType> = WEIGHTS.map(|(kind, _)| kind).to_vec();
        rng.shuffle(&mut kinds);
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        while kinds.len() < faults {
            let mut at = rng.u32(..total);
            let kind = WEIGHTS.iter().find(|(_, weight)| {
                let hit = at < *weight;
                at = at.saturating_sub(*weight);
                hit
            });
            kinds.push(kind.unwrap().0);
        }
        let faults = kinds.into_iter().take(faults).map(|kind| Fault {
            kind,
            worker: rng.usize(..3),
            lasts: Duration::from_millis(rng.u64(50..2500)),
            pause: Duration::from_millis(if rng.u8(..3) == 0 { 0 } else { rng.u64(100..1500) }),
        });
        Plan { faults: faults.collect() }
    }

    pub fn table(&self) -> String {
        let mut counts: BTreeMap<EventType, usize> = BTreeMap::new();
        self.faults.iter().for_each(|fault| *counts.entry(fault.kind).or_default() += 1);
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED).set_header(["fault", "times"]);
        counts.iter().for_each(|(kind, times)| {
            table.add_row([kind.words(), &times.to_string()]);
        });
        table.to_string()
    }
}

impl EventType {
    fn words(self) -> &'static str {
        match self {
            EventType::KillWorker => "worker killed (SIGKILL)",
            EventType::StopWorker => "worker stopped (SIGTERM) and started again",
            EventType::FreezeWorker => "worker frozen (SIGSTOP)",
            EventType::CrashDatabase => "PostgreSQL: immediate stop and restart",
            EventType::KillBroker => "RabbitMQ: killed (SIGKILL) and restarted",
            EventType::CutDatabase => "connections to the database cut",
            EventType::CutBroker => "connections to the broker cut",
            EventType::CutBoth => "connections to both cut",
            EventType::SlowDatabase => "100 ms more to the database",
            EventType::SlowBroker => "100 ms more to the broker",
            EventType::TerminateBackends => "pg_terminate_backend of all workers",
            EventType::LockTable => "table locked by another session",
            EventType::CloseConnections => "broker closes every connection",
            EventType::MemoryAlarm => "memory alarm of the broker, with bad messages in the queue",
            EventType::Poison => "burst of poison messages",
            EventType::Unreadable => "message that the client library cannot read",
            EventType::Refused => "message that the broker refuses as a dead letter",
            EventType::LockRow => "row locked by another session",
            EventType::Duplicates => "burst of duplicates",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.words())?;
        match self.kind {
            EventType::KillWorker | EventType::StopWorker => write!(f, ", worker {}", self.worker),
            EventType::FreezeWorker => write!(f, ", worker {}, for {:?}", self.worker, self.lasts),
            EventType::Poison
            | EventType::Unreadable
            | EventType::Refused
            | EventType::Duplicates
            | EventType::TerminateBackends
            | EventType::CloseConnections => Ok(()),
            _ => write!(f, ", for {:?}", self.lasts),
        }
    }
}

impl Fault {
    pub async fn happen(&self, env: &TestEnv, servers: &Servers, pool: &Pool, producers: &Producers) {
        let lasts = || tokio::time::sleep(self.lasts); // the plan fixes the time of each fault
        match self.kind {
            EventType::KillWorker => pool.kill(self.worker).await,
            EventType::StopWorker => pool.restart(self.worker).await,
            EventType::FreezeWorker => {
                pool.signal(self.worker, "-STOP");
                lasts().await;
                pool.signal(self.worker, "-CONT");
            }
            EventType::CrashDatabase => {
                servers.signal_database("-QUIT");
                lasts().await;
                servers.start().await;
            }
            EventType::KillBroker => {
                servers.signal_broker("-KILL");
                lasts().await;
                servers.start().await;
            }
            EventType::CutDatabase => {
                servers.database.cut();
                lasts().await;
                servers.database.open().await;
            }
            EventType::CutBroker => {
                servers.broker.cut();
                lasts().await;
                servers.broker.open().await;
            }
            EventType::CutBoth => {
                servers.database.cut();
                servers.broker.cut();
                lasts().await;
                servers.broker.open().await;
                servers.database.open().await;
            }
            EventType::SlowDatabase => {
                servers.database.slow(Duration::from_millis(100));
                lasts().await;
                servers.database.slow(Duration::ZERO);
            }
            EventType::SlowBroker => {
                servers.broker.slow(Duration::from_millis(100));
                lasts().await;
                servers.broker.slow(Duration::ZERO);
            }
            EventType::TerminateBackends => {
                let all = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cns-events' \
                           and datname = current_database()";
                connect(&env.database_url).await.batch_execute(all).await.unwrap();
            }
            EventType::LockTable => {
                let sql = connect(&env.database_url).await;
                sql.batch_execute("begin; lock table enrichment_events in access exclusive mode")
                    .await
                    .unwrap();
                lasts().await;
                sql.batch_execute("rollback").await.unwrap();
            }
            EventType::CloseConnections => {
                servers.rabbitmqctl(&["close_all_connections", "--vhost", "/", "torture"]).await
            }
            EventType::LockRow => {
                let id = producers.note_locked();
                let sql = connect(&env.database_url).await;
                let insert = format!(
                    "begin; insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) values ('{id}', 'x', \
                     gen_random_uuid(), gen_random_uuid(), 'customer')"
                );
                sql.batch_execute(&insert).await.unwrap();
                producers.publish_locked(id);
                lasts().await;
                sql.batch_execute("rollback").await.unwrap();
            }
            EventType::MemoryAlarm => {
                producers.burst_of_poison(50);
                tokio::time::sleep(Duration::from_millis(300)).await; // the producers publish them meanwhile
                servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.000001"]).await;
                lasts().await;
                servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await;
            }
            EventType::Poison => producers.burst_of_poison(200),
            EventType::Duplicates => producers.burst_of_duplicates(500),
            EventType::Unreadable => {
                // delivery-mode, and a message-id that is not UTF-8
                publish_raw(env, producers.note_bad(), b"\x10\x80\x02\x02\xff\xfe").await;
            }
            EventType::Refused => {
                // BCC as an empty array, then as a text: RabbitMQ accepts it once.
                let table = b"\x03BCCA\0\0\0\0\x03BCCS\0\0\0\x01x";
                let length = u32::try_from(table.len()).unwrap().to_be_bytes();
                let properties = [b"\x30\x00", &length[..], table, b"\x02"].concat();
                publish_raw(env, producers.note_bad(), &properties).await;
            }
        }
    }
}

/// Publishes a message with these bytes as its properties until the broker confirms it: at least once.
async fn publish_raw(env: &TestEnv, id: String, properties: &[u8]) {
    let message = RawMessage {
        routing_key: b"cns.torture".to_vec(),
        properties: RawProperties::parse(properties).unwrap().to_owned(),
        body: format!("unreadable {id}").into_bytes(),
    };
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        assert!(std::time::Instant::now() < deadline, "the broker confirms nothing for {TIMEOUT:?}");
        let broker = BrokerEndpoint::new(&amqp_url(), "torture").unwrap();
        let published = async {
            let mut channel = ConfirmChannel::open(&broker).await?;
            channel.publish(&env.exchange(), std::slice::from_ref(&message)).await
        };
        if published.await.is_ok_and(|outcomes| outcomes == [cns_events::amqp::Published::Confirmed]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // the broker is on its way up
    }
}
