//! What has been sent and not yet confirmed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use lapin::Confirmation;

use super::spool::Kept;
use crate::message::Outgoing;

/// An event to send, and where it is kept until it is confirmed.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) message: Arc<Outgoing>,
    /// Its place in the spool; `None` where it is from the line.
    pub(super) key: Option<u64>,
}

impl From<Kept> for Parcel {
    fn from(kept: Kept) -> Self {
        Parcel { message: Arc::new(kept.message), key: Some(kept.key) }
    }
}

impl From<Arc<Outgoing>> for Parcel {
    fn from(message: Arc<Outgoing>) -> Self {
        Parcel { message, key: None }
    }
}

/// How the sending of one parcel ended.
pub(super) type Ended = (u64, lapin::Result<Confirmation>);

/// How some of them ended.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) confirmed: Vec<Parcel>,
    /// No queue took them.
    pub(super) returned: Vec<Parcel>,
    /// The broker refused them.
    pub(super) refused: Vec<Parcel>,
    /// Why the broker returned or refused the last of them.
    pub(super) why: String,
    /// The channel is gone.
    pub(super) lost: Option<String>,
}

/// Parcels in the order in which they were sent.
#[derive(Default)]
pub(super) struct Flight {
    parcels: VecDeque<Option<Parcel>>,
    /// The number of the first.
    first: u64,
    events: usize,
    bytes: usize,
}

impl Flight {
    /// Adds a parcel and gives it a number.
    pub(super) fn add(&mut self, parcel: Parcel) -> u64 {
        self.events += 1;
        self.bytes += parcel.message.size();
        self.parcels.push_back(Some(parcel));
        self.first + self.parcels.len() as u64 - 1
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, number: u64) -> Option<Parcel> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let parcel = self.parcels.get_mut(place)?.take()?;
        self.events -= 1;
        self.bytes -= parcel.message.size();
        while let Some(None) = self.parcels.front() {
            self.parcels.pop_front();
            self.first += 1;
        }
        Some(parcel)
    }

    /// Tells the confirmed from the others. `ended` has to be all that is known at this moment: the client library
    /// hands a returned message to any of those that one ack covers, the first that it comes upon, so that only the
    /// body says whose it is.
    pub(super) fn judge(&mut self, ended: Vec<Ended>) -> Judged {
        let mut judged = Judged::default();
        let mut returned = HashSet::new();
        let mut confirmations = Vec::with_capacity(ended.len());
        for (number, result) in ended {
            match result {
                Ok(Confirmation::Ack(back)) => {
                    confirmations.push((number, true));
                    if let Some(back) = back {
                        judged.why = format!("{} {}", back.reply_code, back.reply_text);
                        returned.insert(back.delivery.data);
                    }
                }
                Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => confirmations.push((number, false)),
                Err(error) => judged.lost = Some(error.to_string()),
            }
        }
        for (number, taken) in confirmations {
            let Some(parcel) = self.remove(number) else { continue };
            if !returned.is_empty() && returned.contains(&parcel.message.body) {
                judged.returned.push(parcel);
            } else if taken {
                judged.confirmed.push(parcel);
            } else {
                judged.refused.push(parcel);
            }
        }
        judged
    }

    /// Everything that is still unconfirmed, in order.
    pub(super) fn recall(&mut self) -> Vec<Parcel> {
        let flight = std::mem::take(self);
        flight.parcels.into_iter().flatten().collect()
    }
}
