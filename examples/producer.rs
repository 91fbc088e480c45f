//! A plain producer: logs so many events, and says what becomes of them.
//!
//!     cargo run --no-default-features --features publisher --example producer -- 1000 --spool /tmp/spool
//!
//! Wants AMQP_URL. The broker may be away at any time: what goes to the spool folder is sent by the next run with it,
//! however this one ends.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // there is no runtime here that a sleep could block

use std::error::Error;
use std::time::Duration;

use cns_events::publisher::{Publisher, PublisherConfig};
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let events: u64 = arguments.first().map_or(Ok(1000), |events| events.parse())?;
    let mut config = PublisherConfig::new(std::env::var("AMQP_URL")?, "example-producer");
    if let Ok(exchange) = std::env::var("CNS_EVENTS_EXCHANGE") {
        config = config.exchange(exchange);
    }
    if let [_, flag, folder] = arguments.as_slice()
        && flag == "--spool"
    {
        config = config.spool(folder);
    }
    let publisher = Publisher::start(config)?;
    let workflow = publisher.workflow(Uuid::now_v7(), "org-123", "producer");
    for event in 0..events {
        workflow.log_cache_hit("parts", event.to_string());
        std::thread::sleep(Duration::from_micros(100)); // the work that the event is about
        if event % 1000 == 999 {
            let stats = publisher.stats();
            println!(
                "accepted: {}, spooled: {}, confirmed: {}",
                stats.accepted, stats.spooled, stats.confirmed
            );
        }
    }
    let closed = publisher.close_blocking(Duration::from_secs(60));
    println!("confirmed: {}, left: {}, in the spool: {}", closed.confirmed, closed.left, closed.in_spool);
    if closed.left > 0 { Err("not every event was confirmed".into()) } else { Ok(()) }
}
