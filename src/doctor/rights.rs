//! Checks of what the broker lets the login do.

use super::report::Report;
use crate::broker::{BrokerEndpoint, Connection, Right, Topology, right_to_bind, right_to_consume};
use crate::config::Config;

/// Fix for a connection that failed.
const LOG: &str = "check the broker's log";

/// Rights that a worker's login needs, and the command that grants them.
pub(super) struct Rights {
    user: String,
    vhost: String,
    names: Vec<String>,
    declares: bool,
}

impl Rights {
    pub(super) fn new(config: &Config, broker: &BrokerEndpoint) -> Self {
        let amqp = &config.amqp;
        let names = [
            &amqp.exchange,
            &amqp.queue,
            &amqp.dead_letter_exchange,
            &amqp.dead_letter_queue,
            &amqp.stored_exchange,
        ];
        Rights {
            user: broker.user().to_owned(),
            vhost: broker.vhost().to_owned(),
            names: names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| name.replace('.', r"\."))
                .collect(),
            declares: !amqp.topology().passive,
        }
    }

    /// Returns the command that grants what is missing.
    pub(super) fn fix(&self) -> String {
        let all = format!("^({})$", self.names.join("|"));
        let configure = if self.declares { all.as_str() } else { "^$" };
        format!(
            "rabbitmqctl set_permissions -p '{}' '{}' '{configure}' '{all}' '{all}'",
            self.vhost, self.user
        )
    }

    /// Checks the rights to consume and to bind. A queue that does not exist is another check's finding.
    pub(super) async fn check(&self, report: &mut Report, connection: &Connection, topology: &Topology) {
        match right_to_consume(connection, &topology.queue).await {
            Ok(Right::Granted) => {
                report.ok("right to consume", format!("this user may read {}", topology.queue));
            }
            Ok(Right::Refused(text)) => report.wrong("right to consume", text, self.fix()),
            Ok(Right::Unknown) => {}
            Err(error) => report.wrong("right to consume", error.to_string(), LOG),
        }
        if !self.declares {
            return; // an operator has bound the queues
        }
        let mut refused = Vec::new();
        for (queue, exchange) in [
            (&topology.queue, &topology.exchange),
            (&topology.dead_letter_queue, &topology.dead_letter_exchange),
        ] {
            match right_to_bind(connection, queue, exchange).await {
                Ok(Right::Granted) => {}
                Ok(Right::Refused(text)) => refused.push(text),
                Ok(Right::Unknown) => return,
                Err(error) => return report.wrong("right to bind", error.to_string(), LOG),
            }
        }
        if refused.is_empty() {
            report.ok("right to bind", "this user may bind both queues");
        } else {
            report.wrong("right to bind", refused.join("; "), self.fix());
        }
    }

    /// Reports an object whose arguments the login may not compare. A worker that declares needs the same right.
    pub(super) fn not_compared(&self, report: &mut Report, object: &str) {
        if self.declares {
            let found =
                "exists; this user may not configure it, and with amqp.declare = \"active\" a worker has to";
            report.wrong(object, found, format!("{}; or set amqp.declare = \"passive\"", self.fix()));
        } else {
            report.warning(
                object,
                "exists; this user may not compare its arguments",
                "run doctor as a user with configure permission",
            );
        }
    }
}
