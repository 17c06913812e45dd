//! Properties of the codec: round trips, input in pieces, and invalid input.

use berth_broker::frame::{
    ClientOp, ClientParser, FrameError, Headers, Limits, Message, Publish, ServerOp, ServerParser,
    Text,
};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    line_bytes: 4096,
    payload_bytes: 64 * 1024,
};

proptest! {
    #[test]
    fn client_operations_round_trip(ops in vec(client_op(), 0..8)) {
        let mut wire = BytesMut::new();
        ops.iter().for_each(|op| op.encode(&mut wire));
        prop_assert_eq!(read_client(&mut ClientParser::new(LIMITS), &mut wire), Ok(ops));
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn server_operations_round_trip(ops in vec(server_op(), 0..8)) {
        let mut wire = BytesMut::new();
        ops.iter().for_each(|op| op.encode(&mut wire));
        prop_assert_eq!(read_server(&mut ServerParser::new(LIMITS), &mut wire), Ok(ops));
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn client_parser_accepts_input_in_pieces(
        ops in vec(client_op(), 1..5),
        pieces in vec(1_usize..50, 1..20),
    ) {
        let mut wire = BytesMut::new();
        ops.iter().for_each(|op| op.encode(&mut wire));
        let mut parser = ClientParser::new(LIMITS);
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for size in pieces.iter().cycle() {
            if wire.is_empty() {
                break;
            }
            input.extend_from_slice(&wire.split_to((*size).min(wire.len())));
            read.extend(read_client(&mut parser, &mut input).unwrap());
        }
        prop_assert_eq!(read, ops);
    }

    #[test]
    fn server_parser_accepts_input_in_pieces(ops in vec(server_op(), 1..5), size in 1_usize..9) {
        let mut wire = BytesMut::new();
        ops.iter().for_each(|op| op.encode(&mut wire));
        let mut parser = ServerParser::new(LIMITS);
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(size) {
            input.extend_from_slice(piece);
            read.extend(read_server(&mut parser, &mut input).unwrap());
        }
        prop_assert_eq!(read, ops);
    }

    #[test]
    fn invalid_input_is_rejected_or_buffered_within_limits(noise in noise()) {
        let mut input = BytesMut::from(&noise[..]);
        let mut parser = ClientParser::new(LIMITS);
        let rejected = read_client(&mut parser, &mut input).is_err();
        prop_assert!(rejected || input.len() <= LIMITS.line_bytes + LIMITS.payload_bytes + 4);
        prop_assert!(parser.required_bytes() <= LIMITS.payload_bytes + 2);

        let mut input = BytesMut::from(&noise[..]);
        let mut parser = ServerParser::new(LIMITS);
        let rejected = read_server(&mut parser, &mut input).is_err();
        prop_assert!(rejected || input.len() <= LIMITS.line_bytes + LIMITS.payload_bytes + 4);
        prop_assert!(parser.required_bytes() <= LIMITS.payload_bytes + 2);
        let _ = Headers::parse(&noise);
    }

    #[test]
    fn invalid_input_in_pieces_causes_the_same_error(noise in noise(), size in 1_usize..7) {
        let mut whole = BytesMut::from(&noise[..]);
        let expected = read_client(&mut ClientParser::new(LIMITS), &mut whole);
        let (mut parser, mut input) = (ClientParser::new(LIMITS), BytesMut::new());
        let mut read = Vec::new();
        let mut rejection = None;
        for piece in noise.chunks(size) {
            input.extend_from_slice(piece);
            match read_client(&mut parser, &mut input) {
                Ok(ops) => read.extend(ops),
                Err(error) => {
                    rejection = Some(error);
                    break;
                }
            }
        }
        prop_assert_eq!(rejection.map_or(Ok(read), Err), expected);
    }

    #[test]
    fn headers_round_trip(headers in headers()) {
        prop_assert_eq!(Headers::parse(&headers.to_bytes()), Ok(headers));
    }
}

#[test]
fn rejects_invalid_operations_with_reason() {
    let long = format!("SUB {} 1\r\n", "x".repeat(LIMITS.line_bytes));
    let malformed = |operation| FrameError::Malformed { operation };
    let too_long = FrameError::LineTooLong {
        limit_bytes: LIMITS.line_bytes,
    };
    let too_large = |size_bytes| FrameError::PayloadTooLarge {
        size_bytes,
        limit_bytes: LIMITS.payload_bytes,
    };
    for (wire, expected) in [
        (&b"\r\n"[..], FrameError::UnknownOperation),
        (b"MSG a 1 0\r\n\r\n", FrameError::UnknownOperation),
        (b"PUB\r\n", malformed("PUB")),
        (b"PUB a\r\n", malformed("PUB")),
        (b"PUB a b 1 2\r\n", malformed("PUB")),
        (b"PUB a -1\r\n", malformed("PUB")),
        (b"PUB a 99999999999999999999\r\n", malformed("PUB")),
        (b"PUB a 65537\r\n", too_large(65_537)),
        (b"HPUB a 5 65537\r\n", too_large(65_537)),
        (b"HPUB a 5 4\r\nxxxx\r\n", malformed("HPUB")),
        (b"HPUB a b 5 4 3\r\n", malformed("HPUB")),
        (b"SUB a\r\n", malformed("SUB")),
        (b"SUB a b c d\r\n", malformed("SUB")),
        (b"UNSUB\r\n", malformed("UNSUB")),
        (b"UNSUB 1 x\r\n", malformed("UNSUB")),
        (b"PUB a 2\r\nabc\r\n", FrameError::Unterminated),
        (b"PUB \xff 0\r\n\r\n", FrameError::NotUtf8),
        (long.as_bytes(), too_long.clone()),
        (&[b'x'; 5000], too_long),
    ] {
        let mut input = BytesMut::from(wire);
        let read = read_client(&mut ClientParser::new(LIMITS), &mut input);
        assert_eq!(read, Err(expected), "{:?}", Bytes::copy_from_slice(wire));
    }
}

#[test]
fn rejected_line_stays_in_the_input() {
    let mut input = BytesMut::from("PING\r\nHELLO you\r\nPING\r\n");
    let mut parser = ClientParser::new(LIMITS);
    assert_eq!(parser.next(&mut input), Ok(Some(ClientOp::Ping)));
    assert_eq!(parser.next(&mut input), Err(FrameError::UnknownOperation));
    assert_eq!(input, "HELLO you\r\nPING\r\n");
}

#[test]
fn accepts_other_spellings() {
    let publish = |reply: Option<&str>| {
        ClientOp::Publish(Publish {
            subject: "a".into(),
            reply: reply.map(Text::from),
            headers: None,
            payload: Bytes::from_static(b"hi"),
        })
    };
    for (wire, expected) in [
        (&b"pub a 2\r\nhi\r\n"[..], publish(None)),
        (b"PUB\ta  2\nhi\r\n", publish(None)),
        (b"Pub a \t b 002 \r\nhi\r\n", publish(Some("b"))),
        (b"ping\n", ClientOp::Ping),
        (
            b"CONNECT  {\"a\": 1} \r\n",
            ClientOp::Connect(Bytes::from_static(b"{\"a\": 1}")),
        ),
    ] {
        let mut input = BytesMut::from(wire);
        let read = read_client(&mut ClientParser::new(LIMITS), &mut input);
        assert_eq!(read, Ok(vec![expected]));
    }
    let mut input = BytesMut::from("-ERR Unquoted\r\n+ok\r\n");
    let read = read_server(&mut ServerParser::new(LIMITS), &mut input);
    assert_eq!(
        read,
        Ok(vec![ServerOp::Error("Unquoted".into()), ServerOp::Ok])
    );
}

#[test]
fn payload_shares_the_memory_of_the_input() {
    let mut input = BytesMut::from("PUB a 5\r\nhello\r\n");
    let expected = input[9..].as_ptr();
    let Ok(Some(ClientOp::Publish(publish))) = ClientParser::new(LIMITS).next(&mut input) else {
        panic!("expected a publication")
    };
    assert_eq!(publish.payload.as_ptr(), expected);
}

fn read_client(
    parser: &mut ClientParser,
    input: &mut BytesMut,
) -> Result<Vec<ClientOp>, FrameError> {
    std::iter::from_fn(|| parser.next(input).transpose()).collect()
}

fn read_server(
    parser: &mut ServerParser,
    input: &mut BytesMut,
) -> Result<Vec<ServerOp>, FrameError> {
    std::iter::from_fn(|| parser.next(input).transpose()).collect()
}

fn client_op() -> impl Strategy<Value = ClientOp> {
    prop_oneof![
        Just(ClientOp::Ping),
        Just(ClientOp::Pong),
        "[{][\"a-z:, 0-9]{0,50}[}]".prop_map(|json| ClientOp::Connect(json.into())),
        (text(), option::of(text()), text()).prop_map(|(subject, queue, sid)| {
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            }
        }),
        (text(), option::of(0..u64::MAX / 100))
            .prop_map(|(sid, max)| ClientOp::Unsubscribe { sid, max }),
        (text(), option::of(text()), option::of(bytes()), bytes()).prop_map(
            |(subject, reply, headers, payload)| {
                ClientOp::Publish(Publish {
                    subject,
                    reply,
                    headers,
                    payload,
                })
            }
        ),
    ]
}

fn server_op() -> impl Strategy<Value = ServerOp> {
    prop_oneof![
        Just(ServerOp::Ping),
        Just(ServerOp::Pong),
        Just(ServerOp::Ok),
        "[{][\"a-z:, 0-9]{0,50}[}]".prop_map(|json| ServerOp::Info(json.into())),
        "[A-Za-z][A-Za-z ]{0,30}[a-z]".prop_map(|text| ServerOp::Error(text.into())),
        (
            text(),
            text(),
            option::of(text()),
            option::of(bytes()),
            bytes()
        )
            .prop_map(|(subject, sid, reply, headers, payload)| {
                ServerOp::Message(Message {
                    subject,
                    sid,
                    reply,
                    headers,
                    payload,
                })
            }),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    let field = ("[A-Za-z-]{1,20}", "([!-~]([ -~]{0,20}[!-~])?)?");
    let description = option::of("[A-Za-z]([A-Za-z ]{0,20}[a-z])?");
    (option::of((100_u16..600, description)), vec(field, 0..6)).prop_map(|(status, fields)| {
        let (status, description) =
            status.map_or((None, None), |(status, text)| (Some(status), text));
        Headers {
            status,
            description,
            fields,
        }
    })
}

/// A token without white space.
fn text() -> impl Strategy<Value = Text> {
    "[!-~é世]{1,40}".prop_map(Text::from)
}

/// Arbitrary bytes with many line breaks.
fn bytes() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n')], 0..200).prop_map(Bytes::from)
}

/// Arbitrary bytes that often begin like an operation.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"PUB ".to_vec()),
        Just(b"HPUB ".to_vec()),
        Just(b"MSG ".to_vec()),
        Just(b"HMSG ".to_vec()),
        Just(b"SUB ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"NATS/1.0 ".to_vec()),
        Just(b"a 1 ".to_vec()),
        Just(b"99999 ".to_vec()),
        vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
