//! Events that the broker refuses for what they are: too large for it, or without permission for their routing key.
//!
//! The broker closes the channel and does not name the message. After that, each message that was in flight is sent alone, so that the
//! next refusal names one. That event is set aside, and the others go on.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::in_flight::Outbound;
use super::spool::{SpoolError, private_file};

/// File of the spool folder that holds refused events as JSON lines, which `cns-events publish` reads.
const FILE: &str = "refused.jsonl";

/// Search for refused events, and their file.
#[derive(Debug)]
pub(super) struct Refused {
    /// File; `None` without a spool.
    file: Option<PathBuf>,
    max_bytes: u64,
    /// Number of the next messages that are sent alone.
    suspects: Cell<usize>,
}

impl Refused {
    pub(super) fn new(folder: Option<&Path>, max_bytes: u64) -> Self {
        Refused { file: folder.map(|folder| folder.join(FILE)), max_bytes, suspects: Cell::new(0) }
    }

    /// Returns the refused event where it was the only one in flight. Else all of them are suspects, and come back.
    pub(super) fn found_in(&self, in_flight: Vec<Outbound>) -> Result<Outbound, Vec<Outbound>> {
        let one = <[Outbound; 1]>::try_from(in_flight).map(|[event]| event);
        match &one {
            Ok(_) => self.cleared(1),
            Err(suspects) => self.suspects.set(suspects.len()),
        }
        one
    }

    /// Returns whether the next message has to be sent alone.
    pub(super) fn one_at_a_time(&self) -> bool {
        self.suspects.get() > 0
    }

    /// Records that the broker accepted messages on the channel.
    pub(super) fn cleared(&self, messages: usize) {
        self.suspects.set(self.suspects.get().saturating_sub(messages));
    }

    /// Writes an event to the file. Returns whether it is on disk; `false` without a spool.
    pub(super) fn set_aside(&self, event: &Outbound) -> Result<bool, SpoolError> {
        let Some(path) = &self.file else { return Ok(false) };
        let mut line = event.message.body.clone();
        // JSON has line breaks between tokens only.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        let failed = |error| SpoolError::File { path: path.clone(), error };
        let mut file = private_file(path)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes + line.len() as u64 > self.max_bytes {
            return Err(SpoolError::Full(self.max_bytes));
        }
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::message::EncodedEvent;

    fn event(body: &str) -> Outbound {
        Outbound::from(Arc::new(EncodedEvent {
            body: body.as_bytes().to_vec(),
            routing_key: Cow::Borrowed("cns.test"),
            event_id: "e".to_owned(),
            event_type: Cow::Borrowed("test"),
            priority: 0,
            timestamp: 0,
            traceparent: None,
        }))
    }

    #[test]
    fn each_suspect_is_sent_alone_until_all_are_cleared() {
        let refused = Refused::new(None, 0);
        assert!(!refused.one_at_a_time());
        let suspects = refused.found_in(vec![event("a"), event("b"), event("c")]).unwrap_err();
        assert_eq!(suspects.len(), 3);
        refused.cleared(1);
        assert!(refused.found_in(vec![event("b")]).is_ok() && refused.one_at_a_time());
        refused.cleared(1);
        assert!(!refused.one_at_a_time());
    }

    #[test]
    fn a_refused_event_is_one_line_within_the_limit() {
        let folder = std::env::temp_dir().join(format!("cns-refused-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let refused = Refused::new(Some(&folder), 20);
        assert!(refused.set_aside(&event("{\n\"a\": 1}")).unwrap());
        assert!(matches!(refused.set_aside(&event("{\"a\": 234567}")), Err(SpoolError::Full(20))));
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).unwrap(), "{ \"a\": 1}\n");
        assert!(!Refused::new(None, 20).set_aside(&event("{}")).unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
