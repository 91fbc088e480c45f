//! Producers with confirms: each repeats what was not confirmed until it is, so that the ledger of what was confirmed is the
//! ledger of everything that was ever published.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::env::{TestEnv, amqp_url, event};

/// Messages on their way at the same time.
const WINDOW: usize = 100;

/// Upper bound for the confirms of a window; after it the producer reconnects.
const CONFIRM: Duration = Duration::from_secs(10);

/// Ids of the events that were published and confirmed.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Events that have to be rows.
    pub good: BTreeSet<String>,
    /// Messages that have to be dead letters.
    pub bad: BTreeSet<String>,
    /// Events whose row another session locks: each is a row or, where that lasted too long, a dead letter.
    pub locked: BTreeSet<String>,
    /// Messages altogether, duplicates and repetitions among them.
    pub messages: usize,
}

impl Ledger {
    fn confirmed(&mut self, messages: impl Iterator<Item = Message>) {
        for message in messages {
            self.messages += 1;
            let set = match message.end {
                End::Row => &mut self.good,
                End::DeadLetter => &mut self.bad,
                End::Either => &mut self.locked,
            };
            set.insert(message.id);
        }
    }
}

#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    /// Bodies to publish next, besides the steady flow.
    extra: Mutex<VecDeque<Message>>,
    numbers: Mutex<u64>,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    body: String,
    end: End,
}

/// End that a message has to have.
#[derive(Clone, Copy, Debug)]
enum End {
    Row,
    DeadLetter,
    Either,
}

pub struct Producers {
    shared: Arc<Shared>,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
}

impl Producers {
    /// So many producers, each with a window of 100 messages and this pause after it.
    pub fn start(env: &TestEnv, seed: u64, count: u64, pause: Duration) -> Self {
        let (shared, stop) = (Arc::new(Shared::default()), CancellationToken::new());
        let running = (0..count)
            .map(|number| {
                let rng = Rng::with_seed(seed ^ (number + 1));
                let flow = Flow { exchange: env.exchange(), producer: number, pause };
                tokio::spawn(produce(flow, rng, shared.clone(), stop.clone()))
            })
            .collect();
        Producers { shared, stop, running }
    }

    pub fn burst_of_poison(&self, count: usize) {
        let messages: Vec<_> = (0..count).map(|_| poison(self.number())).collect();
        self.shared.extra.lock().unwrap().extend(messages);
    }

    /// Events that were confirmed long ago, once more.
    pub fn burst_of_duplicates(&self, count: usize) {
        let again: Vec<_> = self.shared.ledger.lock().unwrap().good.iter().take(count).cloned().collect();
        self.shared.extra.lock().unwrap().extend(again.into_iter().map(good));
    }

    /// Returns the id of a message that another client publishes, and that has to be a dead letter.
    pub fn note_bad(&self) -> String {
        let id = poison(self.number()).id;
        self.shared.ledger.lock().unwrap().bad.insert(id.clone());
        id
    }

    /// Returns the id of an event whose row is about to be locked.
    pub fn note_locked(&self) -> String {
        format!("lock-{:08}", self.number())
    }

    /// Publishes the event whose row is locked.
    pub fn publish_locked(&self, id: String) {
        let message = Message { body: event(&id), id, end: End::Either };
        self.shared.extra.lock().unwrap().push_back(message);
    }

    pub fn confirmed(&self) -> usize {
        self.shared.ledger.lock().unwrap().good.len()
    }

    /// Stops when everything is confirmed.
    pub async fn finish(self) -> Ledger {
        self.stop.cancel();
        for running in self.running {
            running.await.unwrap();
        }
        self.shared.ledger.lock().unwrap().clone()
    }

    fn number(&self) -> u64 {
        let mut numbers = self.shared.numbers.lock().unwrap();
        *numbers += 1;
        *numbers
    }
}

fn good(id: String) -> Message {
    Message { body: event(&id), id, end: End::Row }
}

/// Type that a constraint of the table refuses.
const CHECKED_TYPE: &str = "refused_by_check";

/// Type for which a trigger of the table fails with a class that is held.
const TRIGGER_TYPE: &str = "refused_by_trigger";

/// Tenant that a policy of the table refuses.
const REFUSED_TENANT: &str = "0a1b2c3d-0000-4000-8000-000000000000";

/// Adds to the table what an operator might: a constraint, a trigger and a policy, each of which refuses some events.
pub async fn refuse_some(env: &TestEnv) {
    let sql = format!(
        "alter table enrichment_events add constraint torture_check check (event_type <> '{CHECKED_TYPE}'); \
         create function torture() returns trigger language plpgsql as $$ begin \
           if new.event_type = '{TRIGGER_TYPE}' then raise exception 'refused' using errcode = '3F000'; end if; return new; end $$; \
         create trigger torture before insert on enrichment_events for each row execute function torture(); \
         create policy torture on enrichment_events as restrictive for insert to service_role \
           with check (tenant_id <> '{REFUSED_TENANT}')"
    );
    env.sql.batch_execute(&sql).await.unwrap();
}

/// A message with one of many things wrong; its body names its id.
fn poison(number: u64) -> Message {
    let id = format!("bad-{number:08}");
    let good = event(&id);
    let body = match number % 9 {
        _ if number.is_multiple_of(50) => {
            good.replace(r#""payload":{"#, &format!(r#""payload":{{"x":"{}","#, "x".repeat(1_200_000)))
        }
        0 => format!("not json {id}"),
        1 => good.replace("6f9619ff-8b86", "zzzzzzzz-8b86"),
        2 => good.replace(r#""payload":{"#, r#""payload":{"nul":"a\u0000b","#),
        3 => good.replace(r#""payload":{"#, r#""payload":{"n":1e999999,"#),
        4 => good.replace(r#""organization_id":"org-1","#, ""),
        5 => good.replace("cache_hit", CHECKED_TYPE),
        6 => good.replace("cache_hit", TRIGGER_TYPE),
        7 => good.replace(r#""organization_id":"org-1""#, &format!(r#""tenant_id":"{REFUSED_TENANT}""#)),
        _ => good.replace(r#""event_type":"cache_hit","#, ""),
    };
    Message { id, body, end: End::DeadLetter }
}

struct Flow {
    exchange: String,
    producer: u64,
    pause: Duration,
}

async fn produce(flow: Flow, mut rng: Rng, shared: Arc<Shared>, stop: CancellationToken) {
    let mut pending: VecDeque<Message> = VecDeque::new();
    let mut number = 0;
    loop {
        let session = async {
            let opening = async {
                let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                Ok::<_, lapin::Error>((connection, channel))
            };
            // A broker that is killed meanwhile leaves some of these without an answer.
            let Ok(opened) = tokio::time::timeout(CONFIRM, opening).await else { return Ok(false) };
            let (_connection, channel) = opened?;
            loop {
                pending.extend(shared.extra.lock().unwrap().drain(..));
                while pending.len() < WINDOW && !stop.is_cancelled() {
                    number += 1;
                    pending.push_back(good(format!("good-{}-{number:08}", flow.producer)));
                    if rng.u8(..20) == 0 {
                        let again = pending[rng.usize(..pending.len())].clone();
                        pending.push_back(again);
                    }
                }
                if pending.is_empty() {
                    return Ok::<bool, lapin::Error>(true);
                }
                let mut confirms = Vec::new();
                for message in pending.iter().take(WINDOW) {
                    let properties =
                        BasicProperties::default().with_delivery_mode(2).with_priority(rng.u8(..10));
                    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                    let key = "cns.torture".into();
                    let publish = channel.basic_publish(
                        flow.exchange.as_str().into(),
                        key,
                        options,
                        message.body.as_bytes(),
                        properties,
                    );
                    let Ok(published) = tokio::time::timeout(CONFIRM, publish).await else {
                        return Ok(false);
                    };
                    confirms.push(published?);
                }
                // All or nothing: what was confirmed of a window that failed comes twice, which is what is tested.
                for confirm in confirms {
                    let confirm = tokio::time::timeout(CONFIRM, confirm).await;
                    let Ok(confirm) = confirm else { return Ok(false) };
                    if !confirm?.is_ack() {
                        return Ok(false);
                    }
                }
                let window = pending.len().min(WINDOW);
                shared.ledger.lock().unwrap().confirmed(pending.drain(..window));
                tokio::time::sleep(flow.pause).await; // the rate
            }
        };
        if session.await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await; // the broker is away
    }
}
