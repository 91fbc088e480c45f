//! Checks of the broker: connection, version, alarms, exchanges, queues and routes.

use super::report::Report;
use super::rights::Rights;
use crate::amqp::AmqpError;
use crate::broker::{
    BrokerEndpoint, Declared, Inspected, MAX_PROBE_READS, Route, State, Topology, Version, drain_probes,
    probe_route,
};
use crate::config::Config;

/// Oldest version that is tested.
const OLDEST: Version = Version { major: 3, minor: 10 };

/// Fix for missing objects: `declare = "active"` is the default.
const DECLARE: &str = "start a worker with amqp.declare = \"active\": it declares and binds what is missing";

/// Fix for other arguments, which the reason names.
const AGREE: &str =
    "set the amqp.* keys to the queue's arguments; or, once it is empty, delete it and start a worker";

pub(super) async fn check(report: &mut Report, config: &Config) {
    let amqp = &config.amqp;
    let broker = match amqp.endpoint("cns-events doctor") {
        Ok(broker) => broker,
        Err(error) => return report.wrong("broker", error.to_string(), "set amqp.uri (AMQP_URL)"),
    };
    let connection = match broker.connect("doctor").await {
        Ok(connection) => connection,
        Err(error) => {
            return report.wrong(
                "broker",
                error.to_string(),
                "check amqp.uri (AMQP_URL), that RabbitMQ runs, and that this host may connect: `rabbitmqctl status`",
            );
        }
    };
    let encrypted = if broker.is_encrypted() { "encrypted" } else { "not encrypted" };
    report.ok("broker", format!("connected, {encrypted}"));
    let topology = amqp.topology();
    let version = Version::ask(&broker).await.ok().flatten();
    check_version(report, version, &topology);
    let inspected = match topology.inspect(&connection, version).await {
        Ok(inspected) => inspected,
        Err(error) => {
            return report.wrong(
                "topology",
                format!("the connection failed: {error}"),
                "check the broker's log",
            );
        }
    };
    let rights = Rights::new(config, &broker);
    let mut waiting = 0;
    for Inspected { object, state } in inspected {
        match state {
            State::Good(Some(queue)) if object == format!("queue {}", topology.queue) => {
                pool_queue(report, &object, queue);
            }
            State::Good(Some(queue)) if object == format!("queue {}", topology.dead_letter_queue) => {
                waiting = queue.ready;
                dead_letters(report, &object, queue, &topology.dead_letter_queue);
            }
            State::Good(_) => report.ok(&object, "durable, with the right arguments"),
            State::NotCompared => rights.not_compared(report, &object),
            State::Missing(reason) => report.wrong(&object, reason, DECLARE),
            State::Wrong(reason) => report.wrong(&object, reason, AGREE),
        }
    }
    rights.check(report, &connection, &topology).await;
    // The result does not matter: the process ends soon.
    let _ = connection.close(200, "done".into()).await;
    routes(report, config, &broker, &rights, waiting).await;
}

fn check_version(report: &mut Report, version: Option<Version>, topology: &Topology) {
    match version {
        None => report.warning(
            "version",
            "the broker does not report it",
            "none needed: it only decides about priorities",
        ),
        Some(version) if version < OLDEST => report.warning(
            "version",
            format!("RabbitMQ {version} is older than the oldest tested version ({OLDEST})"),
            "upgrade RabbitMQ",
        ),
        Some(version) => {
            report.ok(
                "version",
                format!("RabbitMQ {version}; priorities: {}", topology.priorities(Some(version))),
            );
        }
    }
}

fn pool_queue(report: &mut Report, object: &str, Declared { ready, consumers, .. }: Declared) {
    let found =
        format!("{ready} messages ready, {consumers} consumers; delivery limit and dead-lettering are right");
    if consumers == 0 {
        report.warning(object, found, "start a worker: kubectl scale deploy/cns-events-worker --replicas=2, systemctl start cns-events-worker@1, or `cns-events worker`; \
             if one runs, its log says why it does not consume");
    } else {
        report.ok(object, found);
    }
}

fn dead_letters(report: &mut Report, object: &str, queue: Declared, name: &str) {
    if queue.limited {
        report.warning(
            object,
            format!(
                "{} dead letters; an older broker declared the queue: unless a policy removes its delivery limit, a dead letter is \
                 dropped after it was read 20 times",
                queue.ready
            ),
            format!("rabbitmqctl set_policy cns-dead '^{}$' '{{\"delivery-limit\": -1}}' --apply-to queues; or export, delete the queue, start a worker", name.replace('.', r"\.")),
        );
    } else if queue.ready > 0 {
        report.warning(object, format!("{} dead letters", queue.ready), "run `cns-events dlq list`");
    } else {
        report.ok(object, "empty");
    }
}

/// Publishes probes to check bindings, which AMQP cannot query, and alarms. A worker drops the probe of an event; the probe of a
/// dead letter is taken back.
async fn routes(
    report: &mut Report,
    config: &Config,
    broker: &BrokerEndpoint,
    rights: &Rights,
    waiting: u32,
) {
    let amqp = &config.amqp;
    let mut routes = vec![("route of events", &amqp.exchange, &amqp.queue, "cns.#")];
    if waiting < MAX_PROBE_READS {
        routes.push(("route of dead letters", &amqp.dead_letter_exchange, &amqp.dead_letter_queue, "#"));
    } else {
        report.ok("route of dead letters", format!("not tried: {waiting} dead letters were routed"));
    }
    for (check, exchange, queue, binding) in routes {
        match probe_route(broker, exchange, "cns.probe").await {
            Ok(Route::Taken) => report.ok(check, format!("{exchange} routes messages to a queue; no alarm")),
            Ok(Route::Nowhere) => report.wrong(
                check,
                format!("{exchange} routes messages to no queue: the binding of {queue} is missing"),
                format!("{DECLARE}; or: rabbitmqadmin declare binding source={exchange} destination={queue} routing_key='{binding}'"),
            ),
            // A worker publishes dead letters. Events are published by producers and by `dlq replay`.
            Ok(Route::Refused(text)) if *exchange == amqp.dead_letter_exchange => {
                report.wrong(check, format!("a worker could not publish dead letters: {text}"), rights.fix());
            }
            Ok(Route::Refused(text)) => {
                report.warning(check, format!("not tried: {text}"), rights.fix());
            }
            Ok(Route::NotTried(reason)) => report.warning(
                check,
                format!("not tried: {reason}"),
                format!("rabbitmqctl list_bindings source_name destination_name routing_key | grep {queue}"),
            ),
            Err(error) => not_published(report, check, &error),
        }
    }
    let outside = "routing keys outside cns.#";
    match probe_route(broker, &amqp.exchange, "outside.probe").await {
        Ok(Route::Nowhere) => report.warning(
            outside,
            "are returned to producers that publish `mandatory`, and lost for the others",
            format!(
                "rabbitmqctl set_policy cns-unrouted '^{}$' '{{\"alternate-exchange\": \"{}\"}}' --apply-to exchanges",
                amqp.exchange.replace('.', r"\."),
                amqp.dead_letter_exchange
            ),
        ),
        Ok(Route::Taken) => report.ok(outside, "are routed to a queue"),
        Ok(Route::Refused(_) | Route::NotTried(_)) | Err(_) => {} // reported above
    }
    if !amqp.stored_exchange.is_empty()
        && let Ok(Route::Refused(text)) = probe_route(broker, &amqp.stored_exchange, "").await
    {
        let found = format!("streams look every two seconds: {text}");
        report.warning("notices of stored events", found, rights.fix());
    }
    if let Err(error) = drain_probes(broker, &amqp.dead_letter_queue).await {
        report.warning(
            "probes",
            format!("a probe may be left in {}: {error}", amqp.dead_letter_queue),
            "run `cns-events dlq purge --type cns-events.probe`",
        );
    }
}

fn not_published(report: &mut Report, check: &str, error: &AmqpError) {
    let fix = match error {
        AmqpError::Blocked(_) => {
            "rabbitmq-diagnostics alarms: free memory or disk, or raise vm_memory_high_watermark or disk_free_limit"
        }
        _ => "check the broker's log",
    };
    report.wrong(check, error.to_string(), fix);
}
