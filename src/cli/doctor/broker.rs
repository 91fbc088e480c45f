//! The broker: reached, what version, alarms, exchanges, queues, and whether messages find their way.

use super::Report;
use crate::broker::{
    Broker, Declared, Inspected, Route, State, Version, WireError, take_probes_back, try_route,
};
use crate::config::Config;

/// The oldest version that the tests have seen.
const OLDEST: Version = Version { major: 3, minor: 10 };

/// What declares everything: `declare = "active"` is the default.
const DECLARE: &str = "start a worker with amqp.declare = \"active\": it declares and binds what is missing";

pub(super) async fn check(report: &mut Report, config: &Config) {
    let amqp = &config.amqp;
    let broker = match Broker::new(amqp.uri.expose(), "cns-events doctor") {
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
    let mut consumers = 0;
    for Inspected { object, state } in inspected {
        match state {
            State::Good(declared) | State::NotCompared(declared)
                if object == format!("queue {}", topology.queue) =>
            {
                consumers = declared.map_or(0, |queue| queue.consumers);
                pool_queue(report, &object, declared);
            }
            State::Good(declared) if object == format!("queue {}", topology.dead_letter_queue) => {
                dead_letters(report, &object, declared);
            }
            State::Good(_) => report.ok(&object, "durable, with the arguments it has to have"),
            State::NotCompared(_) => report.warning(
                &object,
                "is there; this user may not ask whether its arguments are right",
                "run doctor as a user with configure permission",
            ),
            State::Wrong(reason) => report.wrong(&object, reason, DECLARE),
        }
    }
    routes(report, config, &broker, consumers).await;
}

fn pool_queue(report: &mut Report, object: &str, declared: Option<Declared>) {
    let Declared { ready, consumers } = declared.unwrap_or(Declared { ready: 0, consumers: 0 });
    let found = format!(
        "{ready} messages ready, {consumers} consumers; delivery limit and dead-lettering as they have to be"
    );
    if consumers == 0 {
        report.warning(object, found, "nobody consumes: start a worker");
    } else {
        report.ok(object, found);
    }
}

fn dead_letters(report: &mut Report, object: &str, declared: Option<Declared>) {
    match declared.map_or(0, |queue| queue.ready) {
        0 => report.ok(object, "empty"),
        letters => report.warning(object, format!("{letters} dead letters"), "cns-events dlq list"),
    }
}

/// Whether what is published arrives: bindings, which AMQP has no question for, and alarms.
async fn routes(report: &mut Report, config: &Config, broker: &Broker, consumers: u32) {
    let amqp = &config.amqp;
    let bind = |exchange: &str, queue: &str, key: &str| {
        format!(
            "{DECLARE}; or: rabbitmqadmin declare binding source={exchange} destination={queue} routing_key='{key}'"
        )
    };
    let ways = [
        ("alarms, and the way of an event", &amqp.exchange, "cns.probe", &amqp.queue, "cns.#"),
        ("the way of a dead letter", &amqp.dead_letter_exchange, "cns.probe", &amqp.dead_letter_queue, "#"),
    ];
    for (check, exchange, key, queue, binding) in ways {
        match try_route(broker, exchange, key).await {
            Ok(Route::Taken) => report.ok(check, format!("{exchange} → {queue}")),
            Ok(Route::Nowhere) => report.wrong(
                check,
                format!("no queue takes what is published to {exchange}: the binding of {queue} is missing"),
                bind(exchange, queue, binding),
            ),
            Ok(Route::NotTried(why)) => report.warning(
                check,
                format!("not tried: {why}"),
                format!("rabbitmqctl list_bindings source_name destination_name routing_key | grep {queue}"),
            ),
            Err(error) => return not_published(report, check, &error),
        }
    }
    match try_route(broker, &amqp.exchange, "outside.probe").await {
        Ok(Route::Nowhere) => report.warning(
            "routing keys outside cns.#",
            "are returned to careful producers, and lost for the others",
            format!(
                "rabbitmqctl set_policy cns-unrouted '^{}$' '{{\"alternate-exchange\": \"{}\"}}' --apply-to exchanges",
                amqp.exchange.replace('.', r"\."),
                amqp.dead_letter_exchange
            ),
        ),
        Ok(Route::Taken) => report.ok("routing keys outside cns.#", "some queue takes them"),
        Ok(Route::NotTried(_)) => {} // said above
        Err(error) => return not_published(report, "routing keys outside cns.#", &error),
    }
    let mut queues = vec![&amqp.dead_letter_queue];
    if consumers == 0 {
        queues.push(&amqp.queue);
    }
    for queue in queues {
        if let Err(error) = take_probes_back(broker, queue).await {
            report.warning(
                "probes",
                format!("one may be left in {queue}: {error}"),
                "none: a worker drops it",
            );
        }
    }
}

fn not_published(report: &mut Report, check: &str, error: &WireError) {
    let mend = match error {
        WireError::Blocked(_) => {
            "rabbitmq-diagnostics alarms: free memory or disk, or raise vm_memory_high_watermark or disk_free_limit"
        }
        _ => "look at the broker's log",
    };
    report.wrong(check, error.to_string(), mend);
}
