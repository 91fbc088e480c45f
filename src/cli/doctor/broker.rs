//! The broker: reached, what version, alarms, exchanges, queues, and whether messages find their way.

use super::Report;
use crate::amqp::AmqpError;
use crate::broker::{
    BrokerEndpoint, Declared, Inspected, MAX_PROBE_READS, Route, State, Version, drain_probes, probe_route,
};
use crate::config::Config;

/// The oldest version that the tests have seen.
const OLDEST: Version = Version { major: 3, minor: 10 };

/// What declares everything: `declare = "active"` is the default.
const DECLARE: &str = "start a worker with amqp.declare = \"active\": it declares and binds what is missing";

/// What mends other arguments: the reason says which.
const AGREE: &str =
    "set the amqp.* keys to what the queue has; or, once it is empty, delete it and start a worker";

pub(super) async fn check(report: &mut Report, config: &Config) {
    let amqp = &config.amqp;
    let broker = match BrokerEndpoint::new(amqp.uri.expose(), "cns-events doctor") {
        Ok(broker) => broker,
        Err(error) => return report.wrong("broker", error.to_string(), "set amqp.uri (AMQP_URL)"),
    };
    let connection = match broker.connect("doctor").await {
        Ok(connection) => connection,
        Err(error) => {
            return report.wrong(
                "broker",
                format!("not reached: {error}"),
                "check amqp.uri (AMQP_URL), that RabbitMQ runs, and that this host may connect: `rabbitmqctl status`",
            );
        }
    };
    let encrypted = if amqp.uri.expose().starts_with("amqps") { "encrypted" } else { "not encrypted" };
    report.ok("broker", format!("reached, {encrypted}"));
    let topology = amqp.topology();
    let version = Version::ask(&broker).await.ok().flatten();
    match version {
        None => report.warning("version", "the broker does not say", "nothing depends on it but priorities"),
        Some(version) if version < OLDEST => report.warning(
            "version",
            format!("RabbitMQ {version}: older than any that was tested ({OLDEST})"),
            "upgrade RabbitMQ",
        ),
        Some(version) => {
            report.ok(
                "version",
                format!("RabbitMQ {version}; priorities: {}", topology.priorities(Some(version))),
            );
        }
    }
    let inspected = match topology.inspect(&connection, version).await {
        Ok(inspected) => inspected,
        Err(error) => {
            return report.wrong(
                "topology",
                format!("the connection failed: {error}"),
                "look at the broker's log",
            );
        }
    };
    // A lane's worth of answers is not waited for: the process ends soon.
    let _ = connection.close(200, "done".into()).await;
    let mut letters = 0;
    for Inspected { object, state } in inspected {
        match state {
            State::Good(Some(queue)) if object == format!("queue {}", topology.queue) => {
                pool_queue(report, &object, queue);
            }
            State::Good(Some(queue)) if object == format!("queue {}", topology.dead_letter_queue) => {
                letters = queue.ready;
                dead_letters(report, &object, queue, &topology.dead_letter_queue);
            }
            State::Good(_) => report.ok(&object, "durable, with the arguments it has to have"),
            State::NotCompared => report.warning(
                &object,
                "is there; this user may not ask whether its arguments are right",
                "run doctor as a user with configure permission",
            ),
            State::Missing(reason) => report.wrong(&object, reason, DECLARE),
            State::Wrong(reason) => report.wrong(&object, reason, AGREE),
        }
    }
    routes(report, config, &broker, letters).await;
}

fn pool_queue(report: &mut Report, object: &str, Declared { ready, consumers, .. }: Declared) {
    let found = format!(
        "{ready} messages ready, {consumers} consumers; delivery limit and dead-lettering as they have to be"
    );
    if consumers == 0 {
        report.warning(object, found, "nobody consumes: start a worker");
    } else {
        report.ok(object, found);
    }
}

fn dead_letters(report: &mut Report, object: &str, queue: Declared, name: &str) {
    if queue.limited {
        report.warning(
            object,
            format!(
                "{} dead letters; an older broker made the queue: unless a policy takes its delivery limit away, each letter is gone \
                 for good after twenty looks",
                queue.ready
            ),
            format!("rabbitmqctl set_policy cns-dead '^{}$' '{{\"delivery-limit\": -1}}' --apply-to queues; or export, delete the queue, start a worker", name.replace('.', r"\.")),
        );
    } else if queue.ready > 0 {
        report.warning(object, format!("{} dead letters", queue.ready), "cns-events dlq list");
    } else {
        report.ok(object, "empty");
    }
}

/// Whether what is published arrives: bindings, which AMQP has no question for, and alarms. A worker drops the probe of the
/// first way; that of the second is taken back.
async fn routes(report: &mut Report, config: &Config, broker: &BrokerEndpoint, letters: u32) {
    let amqp = &config.amqp;
    let mut ways = vec![("the way of an event", &amqp.exchange, &amqp.queue, "cns.#")];
    if letters < MAX_PROBE_READS {
        ways.push(("the way of a dead letter", &amqp.dead_letter_exchange, &amqp.dead_letter_queue, "#"));
    } else {
        report.ok("the way of a dead letter", format!("not tried: {letters} letters have come that way"));
    }
    for (check, exchange, queue, binding) in ways {
        match probe_route(broker, exchange, "cns.probe").await {
            Ok(Route::Taken) => report.ok(check, format!("a queue takes what is published to {exchange}; no alarm")),
            Ok(Route::Nowhere) => report.wrong(
                check,
                format!("no queue takes what is published to {exchange}: the binding of {queue} is missing"),
                format!("{DECLARE}; or: rabbitmqadmin declare binding source={exchange} destination={queue} routing_key='{binding}'"),
            ),
            Ok(Route::NotTried(why)) => report.warning(
                check,
                format!("not tried: {why}"),
                format!("rabbitmqctl list_bindings source_name destination_name routing_key | grep {queue}"),
            ),
            Err(error) => not_published(report, check, &error),
        }
    }
    let outside = "routing keys outside cns.#";
    match probe_route(broker, &amqp.exchange, "outside.probe").await {
        Ok(Route::Nowhere) => report.warning(
            outside,
            "are returned to careful producers, and lost for the others",
            format!(
                "rabbitmqctl set_policy cns-unrouted '^{}$' '{{\"alternate-exchange\": \"{}\"}}' --apply-to exchanges",
                amqp.exchange.replace('.', r"\."),
                amqp.dead_letter_exchange
            ),
        ),
        Ok(Route::Taken) => report.ok(outside, "a queue takes them"),
        Ok(Route::NotTried(_)) | Err(_) => {} // said above
    }
    if let Err(error) = drain_probes(broker, &amqp.dead_letter_queue).await {
        report.warning(
            "probes",
            format!("one may be left in {}: {error}", amqp.dead_letter_queue),
            "cns-events dlq purge --type cns-events.probe",
        );
    }
}

fn not_published(report: &mut Report, check: &str, error: &AmqpError) {
    let mend = match error {
        AmqpError::Blocked(_) => {
            "rabbitmq-diagnostics alarms: free memory or disk, or raise vm_memory_high_watermark or disk_free_limit"
        }
        _ => "look at the broker's log",
    };
    report.wrong(check, error.to_string(), mend);
}
