//! Messages that are sent and not confirmed yet.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use lapin::Confirmation;

use super::spool::Kept;
use crate::broker::refusal;
use crate::message::EncodedEvent;

/// An event to send, and its place until it is confirmed.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    pub(super) message: Arc<EncodedEvent>,
    /// Place in the spool; `None` where it is only in memory.
    pub(super) key: Option<u64>,
}

impl From<Kept> for Outbound {
    fn from(kept: Kept) -> Self {
        Outbound { message: Arc::new(kept.message), key: Some(kept.key) }
    }
}

impl From<Arc<EncodedEvent>> for Outbound {
    fn from(message: Arc<EncodedEvent>) -> Self {
        Outbound { message, key: None }
    }
}

/// Outcome of sending one message.
pub(super) type Ended = (u64, lapin::Result<Confirmation>);

/// Messages by their outcome.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) confirmed: Vec<Outbound>,
    /// Messages that no queue took.
    pub(super) returned: Vec<Outbound>,
    /// Messages that the broker refused.
    pub(super) refused: Vec<Outbound>,
    /// The broker's reason for the last return.
    pub(super) reason: String,
    /// Error where the channel is lost.
    pub(super) lost: Option<lapin::Error>,
}

/// Messages in the order in which they were sent.
#[derive(Default)]
pub(super) struct InFlight {
    messages: VecDeque<Option<Outbound>>,
    /// Number of the first message.
    first: u64,
    events: usize,
    bytes: usize,
    /// Bodies of returned messages, until the confirm of the message itself is seen.
    returned: HashSet<Vec<u8>>,
}

impl InFlight {
    /// Adds a message and returns its number.
    pub(super) fn add(&mut self, outbound: Outbound) -> u64 {
        self.events += 1;
        self.bytes += outbound.message.size();
        self.messages.push_back(Some(outbound));
        self.first + self.messages.len() as u64 - 1
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, number: u64) -> Option<Outbound> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let outbound = self.messages.get_mut(place)?.take()?;
        self.events -= 1;
        self.bytes -= outbound.message.size();
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
            self.first += 1;
        }
        Some(outbound)
    }

    /// Sorts messages by their outcome.
    ///
    /// The client library attaches a returned message to the confirm that it resolves first afterwards, so that only the body
    /// identifies the message. That confirm is the message's own or an earlier one: `ended` must contain all that are resolved.
    pub(super) fn judge(&mut self, ended: Vec<Ended>) -> Judged {
        let mut judged = Judged::default();
        let mut verdicts = Vec::with_capacity(ended.len());
        for (number, result) in ended {
            let (taken, back) = match result {
                Ok(Confirmation::Ack(back)) => (true, back),
                Ok(Confirmation::Nack(back)) => (false, back),
                Ok(Confirmation::NotRequested) => (false, None),
                Err(error) => {
                    if judged.lost.as_ref().is_none_or(|known| refusal(known).is_none()) {
                        judged.lost = Some(error);
                    }
                    continue;
                }
            };
            verdicts.push((number, taken));
            if let Some(back) = back {
                judged.reason = format!("{} {}", back.reply_code, back.reply_text);
                self.returned.insert(back.delivery.data);
            }
        }
        for (number, taken) in verdicts {
            let Some(outbound) = self.remove(number) else { continue };
            if !self.returned.is_empty() && self.returned.remove(&outbound.message.body) {
                judged.returned.push(outbound);
            } else if taken {
                judged.confirmed.push(outbound);
            } else {
                judged.refused.push(outbound);
            }
        }
        judged
    }

    /// Takes all unconfirmed messages, in order.
    pub(super) fn recall(&mut self) -> Vec<Outbound> {
        let in_flight = std::mem::take(self);
        in_flight.messages.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::message::BasicReturnMessage;
    use std::borrow::Cow;

    fn flight(bodies: &[&str]) -> InFlight {
        let mut flight = InFlight::default();
        for body in bodies {
            let message = EncodedEvent {
                body: body.as_bytes().to_vec(),
                routing_key: Cow::Borrowed("cns.test"),
                event_id: (*body).to_owned(),
                event_type: Cow::Borrowed("test"),
                priority: 0,
                timestamp: 0,
                traceparent: None,
            };
            flight.add(Outbound::from(Arc::new(message)));
        }
        flight
    }

    fn back(body: &str) -> Option<BasicReturnMessage> {
        let delivery =
            lapin::message::Delivery::mock(0, "".into(), "cns.test".into(), false, body.as_bytes().to_vec());
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    }

    fn ids(messages: &[Outbound]) -> Vec<&str> {
        messages.iter().map(|outbound| outbound.message.event_id.as_str()).collect()
    }

    #[test]
    fn a_return_belongs_to_its_body_whichever_confirm_brings_it() {
        let mut flight = flight(&["a", "b", "c", "d"]);
        let judged =
            flight.judge(vec![(2, Ok(Confirmation::Ack(back("b")))), (1, Ok(Confirmation::Ack(None)))]);
        assert_eq!((ids(&judged.confirmed), ids(&judged.returned)), (vec!["c"], vec!["b"]));
        let judged = flight.judge(vec![(0, Ok(Confirmation::Nack(back("d"))))]);
        assert_eq!((ids(&judged.refused), judged.returned.len()), (vec!["a"], 0));
        let judged = flight.judge(vec![(3, Ok(Confirmation::Ack(None)))]);
        assert_eq!((judged.confirmed.len(), ids(&judged.returned)), (0, vec!["d"]));
        assert_eq!((flight.events(), flight.bytes()), (0, 0));
    }

    #[test]
    fn what_is_not_confirmed_comes_back_in_order() {
        let mut flight = flight(&["a", "b", "c"]);
        flight.judge(vec![(1, Ok(Confirmation::Ack(None)))]);
        assert_eq!(ids(&flight.recall()), ["a", "c"]);
        assert_eq!(flight.events(), 0);
    }
}
