//! Entry points of the fuzz targets into the layers that are private. Not a part of the public API.

use bytes::{Bytes, BytesMut};

use super::codec::Cutter;
use super::delivery::Delivery;
use super::inbox::Inbox;
use super::method::Response;
use super::{AmqpError, table};

/// Result of reading a stream of bytes, up to its end or to the first error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StreamRead {
    /// Routing key, properties and body of each delivery.
    pub deliveries: Vec<[Bytes; 3]>,
    /// Number of returned messages.
    pub returned: usize,
    /// Methods that belong to no content, with their channels.
    pub methods: Vec<String>,
    /// Text of the error that ended the reading.
    pub error: Option<String>,
}

/// Reads a stream that arrives in these parts as a connection does: frames, methods, contents.
#[must_use]
pub fn read_stream<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> StreamRead {
    let mut read = StreamRead::default();
    let mut inbox = Inbox::default();
    if let Err(error) = read_parts(parts, &mut inbox, &mut read.methods) {
        read.error = Some(error.to_string());
    }
    let parts = |Delivery { routing_key, properties, body, .. }| [routing_key, properties, body];
    read.deliveries = inbox.deliveries.drain(..).map(parts).collect();
    read.returned = inbox.returned.len();
    read
}

fn read_parts<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    inbox: &mut Inbox,
    methods: &mut Vec<String>,
) -> Result<(), AmqpError> {
    let (mut cutter, mut input) = (Cutter::default(), BytesMut::new());
    for part in parts {
        input.extend_from_slice(part);
        while let Some(frame) = cutter.cut(&mut input)? {
            if let Some((channel, response)) = inbox.accept(frame)? {
                methods.push(format!("{channel} {response:?}"));
            }
        }
    }
    Ok(())
}

/// Decodes the payload of a method's frame; returns its description.
///
/// # Errors
/// The bytes are not a method that the broker sends.
pub fn decode_method(payload: &[u8]) -> Result<String, AmqpError> {
    Response::decode(&Bytes::copy_from_slice(payload)).map(|response| format!("{response:?}"))
}

/// Returns whether a table, without the length before its entries, can be read to its last byte.
#[must_use]
pub fn is_readable_table(table: &[u8]) -> bool {
    table::is_readable(table)
}
