//! Classes of the broker's reply codes.

/// Consequence of a reply code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Found while declaring: the operator has to fix it. Exit code 78 at the first start; later the worker logs it and retries.
    /// In a session it ends the session like any other.
    Operator,
    /// The session ends, and the supervisor builds another with backoff.
    Session,
    /// A dead letter was not taken: it is retried.
    DeadLetter,
}

impl Class {
    /// Returns the name that the documentation has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Operator => "operator",
            Class::Session => "session",
            Class::DeadLetter => "dead letter",
        }
    }
}

/// The one table of reply codes (AMQP 0-9-1, 1.2): code, name, class, meaning here.
pub const REPLY_CODES: [(u16, &str, Class, &str); 18] = [
    (
        311,
        "content-too-large",
        Class::DeadLetter,
        "a dead letter is larger than the broker's max_message_size",
    ),
    (312, "no-route", Class::DeadLetter, "no queue takes dead letters"),
    (313, "no-consumers", Class::DeadLetter, "never asked for (`immediate`)"),
    (320, "connection-forced", Class::Session, "an operator closed the connection, or the broker stops"),
    (402, "invalid-path", Class::Operator, "the virtual host does not exist"),
    (403, "access-refused", Class::Operator, "login or privilege"),
    (404, "not-found", Class::Operator, "an exchange or a queue is missing and may not be declared"),
    (405, "resource-locked", Class::Session, "another connection has the queue for itself"),
    (
        406,
        "precondition-failed",
        Class::Operator,
        "declared with other arguments; in a session also the ack timeout",
    ),
    (501, "frame-error", Class::Session, "a frame that the broker cannot read"),
    (502, "syntax-error", Class::Session, "a method that the broker cannot read"),
    (503, "command-invalid", Class::Session, "a method out of place"),
    (504, "channel-error", Class::Session, "a channel that is not open"),
    (505, "unexpected-frame", Class::Session, "a frame out of place"),
    (506, "resource-error", Class::Session, "the broker is short of something"),
    (530, "not-allowed", Class::Operator, "the user may not use the virtual host"),
    (540, "not-implemented", Class::Operator, "the broker does not know what was asked for"),
    (541, "internal-error", Class::Session, "the broker failed"),
];

/// Returns the class of a reply code; an unknown one ends the session.
#[must_use]
pub fn classify(code: u16) -> Class {
    REPLY_CODES.iter().find(|(known, ..)| *known == code).map_or(Class::Session, |(_, _, class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_has_to_mend() {
        for code in [402, 403, 404, 406, 530, 540] {
            assert_eq!(classify(code), Class::Operator, "{code}");
        }
        for code in [320, 405, 501, 541, 999] {
            assert_eq!(classify(code), Class::Session, "{code}");
        }
        assert_eq!(classify(312), Class::DeadLetter);
    }
}
