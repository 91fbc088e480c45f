//! Messages, queues and dead letters of a test's own names on the broker.

use std::time::Instant;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};

use super::TestEnv;
use super::services::amqp_url;
use super::wait::{POLL_INTERVAL, TIMEOUT};

impl TestEnv {
    /// Publishes a body and waits for its confirm.
    pub async fn publish(&self, body: &[u8]) {
        self.publish_with(body, "cns.test", BasicProperties::default()).await;
    }

    /// Publishes with this routing key and these properties, and waits for the confirm.
    pub async fn publish_with(&self, body: &[u8], key: &str, properties: BasicProperties) {
        let exchange = self.exchange();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties.with_delivery_mode(2))
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none(), "the message was not routed");
    }

    /// Publishes without waiting for the confirm; see [`TestEnv::wait_for_confirms`].
    pub async fn publish_unconfirmed(&self, body: Vec<u8>, key: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange().into();
        let properties = properties.with_delivery_mode(2);
        drop(self.channel.basic_publish(exchange, key.into(), options, &body, properties).await.unwrap());
    }

    /// Waits for the confirms of everything that was published.
    pub async fn wait_for_confirms(&self) {
        let returned = self.channel.wait_for_confirms().await.unwrap();
        assert!(returned.is_empty(), "{} messages were not routed", returned.len());
    }

    /// Publishes many bodies and waits for their confirms.
    pub async fn publish_all(&self, bodies: &[String]) {
        for chunk in bodies.chunks(2000) {
            let mut confirms = Vec::new();
            for body in chunk {
                let confirm = self.channel.basic_publish(
                    self.exchange().into(),
                    "cns.test".into(),
                    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                    body.as_bytes(),
                    BasicProperties::default().with_delivery_mode(2),
                );
                confirms.push(confirm.await.unwrap());
            }
            for confirm in confirms {
                let confirm = confirm.await.unwrap();
                assert!(confirm.is_ack() && confirm.take_message().is_none());
            }
        }
    }

    /// Returns the messages ready in a queue and its consumers.
    pub async fn depth(&self, queue: &str) -> (u32, u32) {
        let channel = self.connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        let depth = (queue.message_count(), queue.consumer_count());
        channel.close(200, "done".into()).await.unwrap();
        depth
    }

    /// Takes the next dead letter, waiting for it.
    pub async fn dead_letter(&self) -> BasicGetMessage {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(letter) = self
                .channel
                .basic_get(self.dead_letter_queue().into(), BasicGetOptions::default())
                .await
                .unwrap()
            {
                letter.acker.ack(BasicAckOptions::default()).await.unwrap();
                return letter;
            }
            assert!(Instant::now() < deadline, "no dead letter came");
            // The worker is another process, which sends no signal.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Declares a classic queue under the exchange, with arguments that the worker does not use.
    pub async fn declare_foreign_queue(&self) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = self.exchange();
        self.channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .unwrap();
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(self.queue().into(), options, FieldTable::default()).await.unwrap();
        let bind = self.channel.queue_bind(
            self.queue().into(),
            exchange.into(),
            "cns.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
    }
}

/// Deletes the queues and exchanges of a test, each on a channel of its own: a failure closes its channel.
pub async fn delete_topology(name: &str) {
    let Ok(connection) = Connection::connect(&amqp_url(), ConnectionProperties::default()).await else {
        return;
    };
    for queue in ["persist", "dead"].map(|queue| format!("{name}.{queue}")) {
        let Ok(channel) = connection.create_channel().await else { return };
        let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
    }
    for exchange in ["events", "dlx", "stored"].map(|exchange| format!("{name}.{exchange}")) {
        let Ok(channel) = connection.create_channel().await else { return };
        let _ = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
    }
    let _ = connection.close(200, "done".into()).await;
}

/// Returns the messages ready in a queue and its consumers, over a connection of its own; `None` if the broker does not answer.
pub async fn depth_of(queue: &str) -> Option<(u32, u32)> {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.ok()?;
    let channel = connection.create_channel().await.ok()?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.ok()?;
    let _ = connection.close(200, "done".into()).await;
    Some((queue.message_count(), queue.consumer_count()))
}
