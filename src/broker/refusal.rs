//! Answers of the broker that concern one published message, not the exchange or the connection.

use lapin::ErrorKind;
use lapin::protocol::{AMQPError, AMQPErrorKind};

/// Reply code of a missing right.
const ACCESS_REFUSED: u16 = 403;

/// Reply code of a message that the broker does not accept: too large, an `expiration` that is not a number, another user's `user_id`.
const PRECONDITION_FAILED: u16 = 406;

/// Part of the text with which RabbitMQ refuses a routing key (topic authorisation). A user without the right to write to the exchange
/// gets the same code with `access to exchange`: that is true of every message.
const TOPIC: &str = "access to topic ";

/// Returns the broker's answer in an error of the client library, with its reply code.
pub(crate) fn answer(error: &lapin::Error) -> Option<(u16, &AMQPError)> {
    let ErrorKind::ProtocolError(answer) = error.kind() else { return None };
    let code = match answer.kind() {
        AMQPErrorKind::Soft(soft) => soft.get_id(),
        AMQPErrorKind::Hard(hard) => hard.get_id(),
    };
    Some((code, answer))
}

/// Returns the broker's reason where it closed the channel because of one message that was published on it. The same message is
/// refused again.
pub(crate) fn refusal(error: &lapin::Error) -> Option<String> {
    let (code, answer) = answer(error)?;
    let text = answer.get_message();
    let one_message = match code {
        PRECONDITION_FAILED => true,
        ACCESS_REFUSED => text.as_str().contains(TOPIC),
        _ => false,
    };
    one_message.then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPHardError, AMQPSoftError};

    use super::*;

    fn soft(error: AMQPSoftError, text: &str) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Soft(error), text.into())).into()
    }

    #[test]
    fn a_size_and_a_topic_concern_one_message() {
        let size = "PRECONDITION_FAILED - message size 200 is larger than configured max size 100";
        assert_eq!(refusal(&soft(AMQPSoftError::PRECONDITIONFAILED, size)).as_deref(), Some(size));
        let topic = "ACCESS_REFUSED - write access to topic 'cns.error' in exchange 'e' in vhost '/' refused for user 'u'";
        assert!(refusal(&soft(AMQPSoftError::ACCESSREFUSED, topic)).is_some());
    }

    #[test]
    fn a_missing_right_or_exchange_concerns_every_message() {
        let exchange = "ACCESS_REFUSED - write access to exchange 'e' in vhost '/' refused for user 'u'";
        assert_eq!(refusal(&soft(AMQPSoftError::ACCESSREFUSED, exchange)), None);
        assert_eq!(refusal(&soft(AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange 'e' in vhost '/'")), None);
        let hard = AMQPError::new(AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR), "INTERNAL_ERROR".into());
        assert_eq!(refusal(&ErrorKind::ProtocolError(hard).into()), None);
        assert_eq!(refusal(&ErrorKind::ChannelsLimitReached.into()), None);
    }
}
