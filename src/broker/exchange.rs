//! The declaration of a topic exchange.

use lapin::options::ExchangeDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ExchangeKind};

/// Declares a durable topic exchange; `passive` only checks that it exists. A refused declaration closes its channel, so that it uses
/// a channel of its own.
pub(crate) async fn declare_exchange(
    connection: &Connection,
    name: ShortString,
    passive: bool,
) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default()).await?;
    channel.close(200, "done".into()).await
}
