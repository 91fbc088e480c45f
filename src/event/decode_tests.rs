use chrono::DateTime;

use super::*;

const BOM: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const RULES: Rules = Rules { max_message_bytes: 1024 * 1024, payload: PayloadPolicy::Warn };

fn incoming(body: &[u8]) -> ReceivedMessage<'_> {
    ReceivedMessage {
        body,
        routing_key: "cns.test",
        message_id: None,
        event_type: None,
        timestamp: None,
        received_at: DateTime::UNIX_EPOCH,
    }
}

fn read(body: &str) -> Result<Decoded<'_>, Rejection> {
    decode(&incoming(body.as_bytes()), &RULES)
}

/// Returns a valid body with one more field in front.
fn with(field: &str) -> String {
    format!(r#"{{{field},"event_id":"e","event_type":"t","bom_id":"{BOM}","organization_id":"o"}}"#)
}

fn rejection_of(body: &str) -> (Reason, Option<String>) {
    let rejection = read(body).expect_err(body);
    (rejection.reason, rejection.field.map(Cow::into_owned))
}

#[test]
fn a_complete_event_borrows_from_the_body() {
    let body = format!(
        r#"{{"event_id":"e1","event_type":"cache_hit","bom_id":"{BOM}","tenant_id":"{BOM}","organization_id":"org-1",
        "project_id":null,"user_id":"{BOM}","source":"staff","workflow_id":"w","state":{{"a": 1.50}},
        "payload":{{"cache":"c","key":"k"}},"created_at":"2026-01-02T03:04:05.678+01:00","extra":1,"more":[{{}}]}}"#
    );
    let decoded = read(&body).unwrap();
    let event = &decoded.event;
    assert!(matches!(event.event_id, Cow::Borrowed("e1")));
    assert_eq!(event.state.get(), r#"{"a": 1.50}"#, "carried as it is, spaces and zeros included");
    assert_eq!(event.source, Source::Staff);
    assert_eq!((event.project_id, event.user_id), (None, Some(Uuid::parse_str(BOM).unwrap())));
    assert_eq!(event.created_at.to_rfc3339(), "2026-01-02T02:04:05.678+00:00");
    assert_eq!(event.routing_key, "cns.test");
    assert_eq!((decoded.ignored_fields, decoded.source_corrected), (2, false));
    assert_eq!(decoded.schema_violation, None);
}

#[test]
fn an_encoded_event_decodes_to_itself() {
    let body = with(r#""state":{"x":"\u00e9"},"payload":{"n":[1e3]}"#);
    let first = read(&body).unwrap().event;
    let encoded = first.to_json().unwrap();
    let second = decode(&incoming(&encoded), &RULES).unwrap().event;
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

#[test]
fn properties_are_defaults_of_absent_fields() {
    let body = format!(r#"{{"bom_id":"{BOM}","organization_id":"{BOM}"}}"#);
    let mut message = incoming(body.as_bytes());
    assert_eq!(decode(&message, &RULES).unwrap_err().reason, Reason::MissingField);
    message.message_id = Some("m");
    message.event_type = Some("t");
    message.timestamp = Some(1_700_000_000);
    let event = decode(&message, &RULES).unwrap().event;
    assert_eq!((event.event_id.as_ref(), event.event_type.as_ref()), ("m", "t"));
    assert_eq!(event.created_at.timestamp(), 1_700_000_000);
    assert_eq!(event.tenant_id.to_string(), BOM, "an organization_id that is a UUID is the tenant");
    for (number, time) in [
        (1_700_000_000_123, "2023-11-14T22:13:20.123+00:00"),
        (1_700_000_000_123_456, "2023-11-14T22:13:20.123456+00:00"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789+00:00"),
        (253_402_300_799, "9999-12-31T23:59:59+00:00"),
    ] {
        message.timestamp = Some(number);
        let decoded = decode(&message, &RULES).unwrap();
        assert_eq!(decoded.event.created_at.to_rfc3339(), time);
        assert_eq!(decoded.timestamp_corrected, number > 253_402_300_799);
    }
    message.timestamp = Some(0);
    assert_eq!(decode(&message, &RULES).unwrap().event.created_at, message.received_at, "no time");
    message.timestamp = Some(u64::MAX);
    assert_eq!(decode(&message, &RULES).unwrap_err().field.as_deref(), Some("timestamp"));
    message.timestamp = None;
    message.message_id = Some("a\0b");
    assert_eq!(decode(&message, &RULES).unwrap_err().reason, Reason::Unstorable);
}

#[test]
fn an_unknown_source_is_corrected() {
    for (source, corrected) in [
        ("\"customer\"", false),
        ("\"st\\u0061ff\"", false),
        ("\"staff\"", false),
        ("\"system\"", true),
        ("7", true),
        ("null", true),
    ] {
        let body = with(&format!(r#""source":{source}"#));
        assert_eq!(read(&body).unwrap().source_corrected, corrected, "{source}");
    }
    assert!(read(&with(r#""x":1"#)).unwrap().source_corrected, "absent");
}

#[test]
fn null_counts_as_absent() {
    let body = with(r#""tenant_id":null,"workflow_id":null,"state":null,"payload":null,"created_at":null"#);
    let event = read(&body).unwrap().event;
    assert_eq!((event.state.get(), event.payload.get()), ("{}", "{}"));
    assert_eq!(event.created_at, DateTime::UNIX_EPOCH, "the time of receipt");
}

#[test]
fn every_rejection_has_its_reason_and_field() {
    use Reason::{
        InvalidField as Invalid, MalformedJson as Malformed, MissingField as Missing, Unstorable as Bad,
    };
    let id =
        |id: &str| format!(r#"{{"event_id":{id},"event_type":"t","bom_id":"{BOM}","organization_id":"o"}}"#);
    let cases: Vec<(String, Reason, Option<&str>)> = vec![
        (String::new(), Malformed, None),
        ("not json".into(), Malformed, None),
        ("[]".into(), Malformed, None),
        ("\"text\"".into(), Malformed, None),
        ("{}{}".into(), Malformed, None),
        ("{\"a\":1".into(), Malformed, None),
        ("\u{feff}{}".into(), Malformed, None),
        ("{}".into(), Missing, Some("event_id")),
        (r#"{"event_id":"e"}"#.into(), Missing, Some("event_type")),
        (r#"{"event_id":"e","event_type":"t"}"#.into(), Missing, Some("bom_id")),
        (format!(r#"{{"event_id":"e","event_type":"t","bom_id":"{BOM}"}}"#), Missing, Some("tenant_id")),
        (
            format!(r#"{{"event_id":"e","event_type":"t","bom_id":"{BOM}","organization_id":""}}"#),
            Missing,
            Some("tenant_id"),
        ),
        (id("7"), Invalid, Some("event_id")),
        (id("\"\""), Invalid, Some("event_id")),
        (id(&format!("\"{}\"", "é".repeat(256))), Invalid, Some("event_id")),
        (id(r#""a\u0000b""#), Bad, Some("event_id")),
        (id(r#""\ud800""#), Bad, Some("event_id")),
        (with(r#""tenant_id":"nope""#), Invalid, Some("tenant_id")),
        (with(r#""project_id":"nope""#), Invalid, Some("project_id")),
        (with(r#""user_id":5"#), Invalid, Some("user_id")),
        (with(r#""state":[]"#), Invalid, Some("state")),
        (with(r#""payload":"x""#), Invalid, Some("payload")),
        (with(r#""payload":{"a":"\u0000"}"#), Bad, Some("payload")),
        (with(r#""state":{"a":1e140000}"#), Bad, Some("state")),
        (with(r#""created_at":"yesterday""#), Invalid, Some("created_at")),
        (with(r#""created_at":"2026-01-02T03:04:05""#), Invalid, Some("created_at")),
        (with(r#""event_id":"again""#), Invalid, Some("event_id")),
        (with(r#""event\u005fid":"again""#), Invalid, Some("event_id")),
        (with(r#""x":1,"x":2"#), Invalid, Some("x")),
        (with(&format!(r#""workflow_id":"{}""#, "w".repeat(256))), Invalid, Some("workflow_id")),
    ];
    for (body, reason, field) in cases {
        assert_eq!(rejection_of(&body), (reason, field.map(str::to_owned)), "{body}");
    }
    assert_eq!(decode(&incoming(b"\xff{}"), &RULES).unwrap_err().reason, Malformed);
}

#[test]
fn lengths_are_counted_in_characters() {
    let id = "é".repeat(255);
    let body = format!(r#"{{"event_id":"{id}","event_type":"t","bom_id":"{BOM}","organization_id":"o"}}"#);
    assert_eq!(read(&body).unwrap().event.event_id, id);
}

#[test]
fn unknown_fields_may_have_any_value() {
    let deep = format!(r#""x":{}{}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(read(&with(&deep)).unwrap().ignored_fields, 1);
    assert_eq!(read(&with(r#""x":"\u0000""#)).unwrap().ignored_fields, 1);
}

#[test]
fn a_hundred_thousand_unknown_fields_are_counted_quickly() {
    let keys: Vec<String> = (0..100_000).map(|number| format!(r#""{number:x}":0"#)).collect();
    assert_eq!(read(&with(&keys.join(","))).unwrap().ignored_fields, 100_000);
}

#[test]
fn an_oversized_body_is_not_parsed() {
    let rules = Rules { max_message_bytes: 10, ..RULES };
    assert_eq!(decode(&incoming(b"not json at all"), &rules).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn the_payload_policy_decides_about_violations() {
    let body = with(r#""payload":{"cache":"c"}"#).replace("\"t\"", "\"cache_hit\"");
    assert_eq!(read(&body).unwrap().schema_violation.unwrap(), "payload: missing field `key`");
    let reject = Rules { payload: PayloadPolicy::Reject, ..RULES };
    let rejection = decode(&incoming(body.as_bytes()), &reject).unwrap_err();
    assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::PayloadSchema, Some("payload")));
    let off = Rules { payload: PayloadPolicy::Off, ..RULES };
    assert_eq!(decode(&incoming(body.as_bytes()), &off).unwrap().schema_violation, None);
}

#[test]
fn a_rejection_never_quotes_the_body() {
    for body in
        [with(r#""tenant_id":"s3cret""#), "\"s3cret\"".into(), "s3cret".into(), with(r#""state":"s3cret""#)]
    {
        assert!(!read(&body).unwrap_err().to_string().contains("s3cret"), "{body}");
    }
}

/// Asserts the invariants of decoding for any body.
fn assert_invariants(body: &[u8]) {
    match decode(&incoming(body), &RULES) {
        Ok(Decoded { event, .. }) => {
            assert!((1..=MAX_ID_CHARS).contains(&event.event_id.chars().count()));
            assert!((1..=MAX_TYPE_CHARS).contains(&event.event_type.chars().count()));
            for text in [event.event_id.as_ref(), event.workflow_id.as_deref().unwrap_or_default()] {
                assert!(!text.contains('\0'));
            }
            // A stored event decodes to itself.
            let again = event.to_json().unwrap();
            let second = decode(&incoming(&again), &RULES).unwrap().event;
            assert_eq!(format!("{event:?}"), format!("{second:?}"));
        }
        Err(rejection) => assert!(!rejection.detail.is_empty() && !rejection.detail.contains('\n')),
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_decoded_or_rejected(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        assert_invariants(&body);
    }

    /// Replaces a part of a valid body.
    #[test]
    fn a_damaged_body_is_decoded_or_rejected(at in 0_usize..400, length in 0_usize..40, instead in r#"[\[\]{}",:\\u0dD89eE+-.a-f\x00-\x7fé]{0,12}"#) {
        let body = with(
            r#""state":{"a":[1.5e3,"\u00e9"]},"payload":{"cache":"c","n":-0.1},"created_at":"2026-01-02T03:04:05Z","source":"staff""#,
        );
        let at = at.min(body.len());
        let end = (at + length).min(body.len());
        assert_invariants(&[&body.as_bytes()[..at], instead.as_bytes(), &body.as_bytes()[end..]].concat());
    }
}
