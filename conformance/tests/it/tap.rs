//! The tap between a real NATS client and the embedded broker.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, ConnectOptions, Message, Subscriber};
use berth_broker::{Broker, BrokerOptions};
use berth_conformance::testbed::tap::{
    Action, Direction, Disposition, Frame, FrameKind, Losses, Mark, NoMatchingFrame, OutageMode,
    Rule, Tap,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Time limit for every expected event.
const LIMIT: Duration = Duration::from_secs(20);
/// Time for which an unexpected event must not occur.
const OBSERVATION_TIME: Duration = Duration::from_millis(200);

/// A broker, a tap in front of it, a target behind the tap, and a peer of the target.
struct Fixture {
    broker: Broker,
    tap: Tap,
    target: Client,
    peer: Client,
}

impl Fixture {
    async fn new() -> Self {
        let broker = Broker::start(BrokerOptions::default()).await.unwrap();
        let tap = Tap::start(broker.addr()).await.unwrap();
        let target = connect(&tap.url()).await;
        let peer = connect(&broker.url()).await;
        Self {
            broker,
            tap,
            target,
            peer,
        }
    }

    /// Makes the target reply to requests on `svc.>` with their payload. Returns the received
    /// payloads.
    async fn echo(&self) -> Arc<Mutex<Vec<Bytes>>> {
        let mut requests = subscribe(&self.target, "svc.>").await;
        let target = self.target.clone();
        let received = Arc::new(Mutex::new(Vec::new()));
        let recorder = received.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                recorder.lock().unwrap().push(request.payload.clone());
                let Some(reply) = request.reply else { continue };
                // The connection may be closed at any time.
                let _ = target.publish(reply, request.payload).await;
            }
        });
        received
    }

    /// Sends one request to the target.
    async fn request(&self, subject: &str, payload: &str, wait: Duration) -> Option<Bytes> {
        let request = async_nats::Request::new().payload(payload.to_owned().into());
        let request = request.timeout(Some(wait));
        self.peer
            .send_request(subject.to_owned(), request)
            .await
            .ok()
            .map(|reply| reply.payload)
    }

    /// Sends requests until the target replies, for example after an outage.
    async fn wait_for_reply(&self) {
        let deadline = Instant::now() + LIMIT;
        while self
            .request("svc.again", "again", Duration::from_millis(100))
            .await
            .is_none()
        {
            assert!(Instant::now() < deadline, "the target does not reply");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn records_all_frames_in_order() {
    let fixture = Fixture::new().await;
    let mut live = fixture.tap.subscribe();
    fixture.echo().await;
    for number in 0..100 {
        let reply = fixture
            .request("svc.count", &number.to_string(), LIMIT)
            .await;
        assert_eq!(reply.unwrap(), number.to_string());
    }
    let frames = fixture.tap.frames();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.number, index as u64);
        assert_eq!(frame.connection, 1);
        assert_eq!(frame.disposition, Disposition::Passed);
    }
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).take(5).collect();
    assert_eq!(
        kinds,
        [
            FrameKind::Opened,
            FrameKind::Info,
            FrameKind::Connect,
            FrameKind::Ping,
            FrameKind::Pong
        ]
    );
    let requests = matching(&frames, |frame| {
        frame.kind == FrameKind::Message && frame.is_on("svc.count")
    });
    let replies = matching(&frames, |frame| {
        frame.is_reply_to("svc.*") && frame.is_on("_INBOX.>")
    });
    assert_eq!((requests.len(), replies.len()), (100, 100));
    for (number, (request, reply)) in requests.iter().zip(&replies).enumerate() {
        assert_eq!(
            (request.direction, reply.direction),
            (Direction::ToTarget, Direction::FromTarget)
        );
        assert_eq!(request.payload, number.to_string());
        assert_eq!(reply.payload, number.to_string());
        assert_eq!(request.reply, reply.subject);
        let correlated = reply.in_reply_to.as_ref().unwrap();
        assert_eq!(
            (correlated.number, correlated.at),
            (request.number, request.at)
        );
        assert!(request.at <= reply.at && request.number < reply.number);
    }
    let subscribed = matching(&frames, |frame| {
        frame.kind == FrameKind::Subscribe && frame.is_on("svc.>")
    });
    assert_eq!(subscribed.len(), 1);
    assert_eq!(fixture.tap.losses(), Losses::default());
    let mut live_numbers = Vec::new();
    while let Ok(frame) = live.try_recv() {
        live_numbers.push(frame.number);
    }
    assert_eq!(
        live_numbers.last().map(|last| last + 1),
        Some(frames.len() as u64)
    );
    assert_eq!(
        live_numbers,
        (live_numbers[0]..=*live_numbers.last().unwrap()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn forwards_headers_and_large_payloads_unchanged() {
    let fixture = Fixture::new().await;
    let mut messages = subscribe(&fixture.target, "big").await;
    let mut headers = async_nats::HeaderMap::new();
    headers.append("Nats-Service-Error-Code", "409");
    let payload = Bytes::from(vec![b'\r'; 1024 * 1024 - 100]);
    fixture
        .peer
        .publish_with_headers("big", headers.clone(), payload.clone())
        .await
        .unwrap();
    let message = next(&mut messages).await;
    assert_eq!(
        (message.headers.as_ref(), &message.payload),
        (Some(&headers), &payload)
    );
    let recorded = fixture.tap.frames();
    let recorded = matching(&recorded, |frame| {
        frame.is_on("big") && frame.kind == FrameKind::Message
    });
    assert_eq!(recorded[0].payload, payload);
    assert_eq!(
        recorded[0]
            .parsed_headers()
            .unwrap()
            .get("nats-service-error-code"),
        Some("409")
    );
}

#[tokio::test]
async fn preserves_order_in_both_directions() {
    const MESSAGES: usize = 20_000;
    let fixture = Fixture::new().await;
    let mut at_target = subscribe(&fixture.target, "there").await;
    let mut at_peer = subscribe(&fixture.peer, "back").await;
    for (from, subject) in [(&fixture.peer, "there"), (&fixture.target, "back")] {
        for number in 0..MESSAGES {
            from.publish(subject, number.to_string().into())
                .await
                .unwrap();
        }
    }
    for messages in [&mut at_target, &mut at_peer] {
        for number in 0..MESSAGES {
            assert_eq!(next(messages).await.payload, number.to_string());
        }
    }
}

#[tokio::test]
async fn drops_the_first_matching_reply() {
    let fixture = Fixture::new().await;
    fixture.echo().await;
    let rule = Rule::replies_to("svc.start", Action::Drop)
        .containing("w-1")
        .times(1);
    let rule = fixture.tap.add_rule(rule);
    assert_eq!(
        fixture.request("svc.start", "id w-2", LIMIT).await.unwrap(),
        "id w-2"
    );
    assert_eq!(
        fixture.request("svc.stop", "id w-1", LIMIT).await.unwrap(),
        "id w-1"
    );
    assert_eq!(rule.hits(), 0);
    assert_eq!(
        fixture
            .request("svc.start", "id w-1", OBSERVATION_TIME)
            .await,
        None
    );
    assert_eq!(rule.hits(), 1);
    assert_eq!(
        fixture.request("svc.start", "id w-1", LIMIT).await.unwrap(),
        "id w-1"
    );
    let frames = fixture.tap.frames();
    let dropped = matching(&frames, |frame| frame.disposition == Disposition::Dropped);
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].is_reply_to("svc.start") && dropped[0].contains(b"w-1"));
}

#[tokio::test]
async fn duplicates_a_request() {
    let fixture = Fixture::new().await;
    let mut requests = subscribe(&fixture.target, "svc.start").await;
    let rule = Rule::on("svc.start", Action::Duplicate)
        .to_target()
        .skip(1)
        .times(1);
    let _rule = fixture.tap.add_rule(rule);
    for payload in ["a", "b", "c"] {
        fixture
            .peer
            .publish_with_reply("svc.start", "inbox", payload.into())
            .await
            .unwrap();
    }
    for expected in ["a", "b", "b", "c"] {
        assert_eq!(next(&mut requests).await.payload, expected);
    }
    assert!(timeout(OBSERVATION_TIME, requests.next()).await.is_err());
}

#[tokio::test]
async fn later_messages_overtake_a_delayed_message() {
    const DELAY: Duration = Duration::from_millis(300);
    let fixture = Fixture::new().await;
    let mut messages = subscribe(&fixture.target, "a").await;
    let rule = fixture
        .tap
        .add_rule(Rule::on("a", Action::Delay(DELAY)).containing("slow"));
    let started_at = Instant::now();
    for payload in ["slow 1", "quick", "slow 2"] {
        fixture.peer.publish("a", payload.into()).await.unwrap();
    }
    assert_eq!(next(&mut messages).await.payload, "quick");
    assert_eq!(next(&mut messages).await.payload, "slow 1");
    assert!(started_at.elapsed() >= DELAY);
    assert_eq!(next(&mut messages).await.payload, "slow 2");
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn forwards_a_delayed_message_after_its_sender_disconnected() {
    let fixture = Fixture::new().await;
    let mut messages = subscribe(&fixture.peer, "a").await;
    let _rule = fixture
        .tap
        .add_rule(Rule::on("a", Action::Delay(OBSERVATION_TIME)).from_target());
    let mut raw_client = TcpStream::connect(fixture.tap.addr()).await.unwrap();
    raw_client
        .write_all(b"CONNECT {\"verbose\":false}\r\nPUB a 4\r\nlate\r\n")
        .await
        .unwrap();
    raw_client.shutdown().await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "late");
}

#[tokio::test]
async fn forwards_held_messages_when_the_rule_is_released_or_removed() {
    let fixture = Fixture::new().await;
    let mut messages = subscribe(&fixture.target, "a").await;
    for by_release in [true, false] {
        let rule = fixture
            .tap
            .add_rule(Rule::on("a", Action::Hold).containing("held"));
        for payload in ["held 1", "free", "held 2"] {
            fixture.peer.publish("a", payload.into()).await.unwrap();
        }
        assert_eq!(next(&mut messages).await.payload, "free");
        assert!(timeout(OBSERVATION_TIME, messages.next()).await.is_err());
        assert_eq!(rule.hits(), 2);
        if by_release {
            rule.release();
        } else {
            drop(rule);
        }
        assert_eq!(next(&mut messages).await.payload, "held 1");
        assert_eq!(next(&mut messages).await.payload, "held 2");
    }
}

#[tokio::test]
async fn rewrites_a_reply() {
    let fixture = Fixture::new().await;
    fixture.echo().await;
    let upper_case = Action::rewrite(|payload| payload.to_ascii_uppercase().into());
    let _rule = fixture.tap.add_rule(Rule::replies_to("svc.>", upper_case));
    assert_eq!(
        fixture.request("svc.a", "quiet", LIMIT).await.unwrap(),
        "QUIET"
    );
    let frames = fixture.tap.frames();
    let rewritten = matching(&frames, |frame| frame.disposition == Disposition::Rewritten);
    assert_eq!(rewritten[0].payload, "quiet");
}

#[tokio::test]
async fn disconnects_before_or_after_a_message() {
    let fixture = Fixture::new().await;
    let received = fixture.echo().await;

    let rule = fixture.tap.add_rule(
        Rule::on("svc.x", Action::DisconnectBefore)
            .to_target()
            .times(1),
    );
    let mark = fixture.tap.mark();
    assert_eq!(
        fixture.request("svc.x", "lost", OBSERVATION_TIME).await,
        None
    );
    assert_eq!(rule.hits(), 1);
    fixture
        .tap
        .wait_for(mark, |frame| frame.kind == FrameKind::Closed, deadline())
        .await
        .unwrap();
    fixture.wait_for_reply().await;

    let rule = fixture.tap.add_rule(
        Rule::on("svc.y", Action::DisconnectAfter)
            .to_target()
            .times(1),
    );
    let mark = fixture.tap.mark();
    // A reply may still arrive: a client buffers messages until it is connected again.
    fixture.request("svc.y", "arrived", OBSERVATION_TIME).await;
    assert_eq!(rule.hits(), 1);
    fixture
        .tap
        .wait_for(mark, |frame| frame.kind == FrameKind::Closed, deadline())
        .await
        .unwrap();
    fixture.wait_for_reply().await;

    let rule = Rule::replies_to("svc.z", Action::DisconnectAfter)
        .from_target()
        .times(1);
    let _rule = fixture.tap.add_rule(rule);
    assert_eq!(
        fixture.request("svc.z", "answered", LIMIT).await.unwrap(),
        "answered"
    );
    fixture.wait_for_reply().await;

    let received = received.lock().unwrap();
    assert!(!received.contains(&"lost".into()), "{received:?}");
    assert!(
        received.contains(&"arrived".into()) && received.contains(&"answered".into()),
        "{received:?}"
    );
}

#[tokio::test]
async fn outage_closes_connections_until_restored() {
    let fixture = Fixture::new().await;
    fixture.echo().await;
    fixture.wait_for_reply().await;
    for mode in [
        OutageMode::Refuse,
        OutageMode::CloseOnAccept,
        OutageMode::Unresponsive,
    ] {
        let outage = fixture.tap.start_outage(mode).await;
        assert_eq!(fixture.tap.connections(), 0, "{mode:?}");
        let error = fixture.peer.request("svc.a", "".into()).await.unwrap_err();
        assert_eq!(error.kind(), RequestErrorKind::NoResponders, "{mode:?}");
        match (mode, TcpStream::connect(fixture.tap.addr()).await) {
            (OutageMode::Refuse, Err(_)) => {}
            (OutageMode::CloseOnAccept, Ok(mut stream)) => {
                assert_eq!(
                    timeout(LIMIT, stream.read(&mut [0; 9]))
                        .await
                        .unwrap()
                        .unwrap(),
                    0
                );
            }
            (OutageMode::Unresponsive, Ok(mut stream)) => {
                assert!(
                    timeout(OBSERVATION_TIME, stream.read(&mut [0; 9]))
                        .await
                        .is_err()
                );
            }
            (mode, other) => panic!("unexpected {other:?} in {mode:?}"),
        }
        outage.restore().await;
        fixture.wait_for_reply().await;
    }
}

#[tokio::test]
async fn frozen_connection_stays_open_without_traffic() {
    let fixture = Fixture::new().await;
    fixture.echo().await;
    fixture.wait_for_reply().await;
    let mark = fixture.tap.mark();
    let freeze = fixture.tap.freeze();
    let mut messages = subscribe(&fixture.peer, "from.target").await;
    fixture
        .target
        .publish("from.target", "waits".into())
        .await
        .unwrap();
    // Not "no responders": the connection and its subscription exist.
    let request = async_nats::Request::new().timeout(Some(OBSERVATION_TIME));
    let error = fixture
        .peer
        .send_request("svc.a", request)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
    assert!(timeout(OBSERVATION_TIME, messages.next()).await.is_err());
    assert_eq!(fixture.tap.connections(), 1);
    drop(freeze);
    assert_eq!(next(&mut messages).await.payload, "waits");
    fixture.wait_for_reply().await;
    let closed = matching(&fixture.tap.frames_since(mark), |frame| {
        frame.kind == FrameKind::Closed
    })
    .len();
    assert_eq!(closed, 0);
}

#[tokio::test]
async fn target_reconnects_after_broker_restart() {
    let fixture = Fixture::new().await;
    fixture.echo().await;
    fixture.wait_for_reply().await;
    fixture.broker.stop().await;
    let closed = |frame: &Frame| frame.kind == FrameKind::Closed;
    fixture
        .tap
        .wait_for(Mark::START, closed, deadline())
        .await
        .unwrap();
    fixture.broker.restart().await.unwrap();
    fixture.wait_for_reply().await;
}

#[tokio::test]
async fn removes_connect_urls_from_info() {
    let bus = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tap = Tap::start(bus.local_addr().unwrap()).await.unwrap();
    for (info, expected) in [
        (
            r#"{"host":"10.0.0.1","connect_urls":["10.0.0.2:4222"],"port":4222,"x":1}"#,
            r#"{"host":"10.0.0.1","port":4222,"x":1}"#,
        ),
        (
            r#"{ "host":"10.0.0.1",  "port":4222 }"#,
            r#"{ "host":"10.0.0.1",  "port":4222 }"#,
        ),
    ] {
        let mut client = TcpStream::connect(tap.addr()).await.unwrap();
        let (mut server, _) = bus.accept().await.unwrap();
        server
            .write_all(format!("INFO {info}\r\n").as_bytes())
            .await
            .unwrap();
        let mut received = vec![0; format!("INFO {expected}\r\n").len()];
        timeout(LIMIT, client.read_exact(&mut received))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8(received).unwrap(),
            format!("INFO {expected}\r\n")
        );
    }
}

#[tokio::test]
async fn forwards_and_records_unparsable_input() {
    let fixture = Fixture::new().await;
    let mut raw_client = TcpStream::connect(fixture.tap.addr()).await.unwrap();
    raw_client
        .write_all(b"CONNECT {\"verbose\":false}\r\nHELLO you\r\nPING\r\n")
        .await
        .unwrap();
    let mut received = String::new();
    timeout(LIMIT, raw_client.read_to_string(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert!(
        received.ends_with("-ERR 'Unknown Protocol Operation'\r\n"),
        "{received}"
    );
    let unreadable = |frame: &Frame| frame.kind == FrameKind::Unreadable;
    let frame = fixture
        .tap
        .wait_for(Mark::START, unreadable, deadline())
        .await
        .unwrap();
    assert_eq!(frame.payload, "unknown protocol operation");
}

#[tokio::test]
async fn does_not_record_credentials() {
    let auth = berth_broker::Auth::Token("hush-hush".to_owned());
    let broker = Broker::start(BrokerOptions {
        auth,
        ..BrokerOptions::default()
    })
    .await
    .unwrap();
    let tap = Tap::start(broker.addr()).await.unwrap();
    let options = ConnectOptions::with_token("hush-hush".to_owned());
    let _client = options.connect(tap.url()).await.unwrap();
    assert!(
        tap.frames()
            .iter()
            .any(|frame| frame.kind == FrameKind::Connect)
    );
    assert!(!format!("{:?}", tap.frames()).contains("hush-hush"));
}

#[tokio::test]
async fn wait_ends_with_a_matching_frame_or_the_deadline() {
    let fixture = Fixture::new().await;
    let mark = fixture.tap.mark();
    let on_a = |frame: &Frame| frame.is_on("a");
    let timed_out = fixture
        .tap
        .wait_for(mark, on_a, Instant::now() + OBSERVATION_TIME)
        .await;
    assert_eq!(timed_out.unwrap_err(), NoMatchingFrame);
    let wait = fixture.tap.wait_for(mark, on_a, deadline());
    let (recorded, published) = tokio::join!(wait, fixture.target.publish("a", "hi".into()));
    published.unwrap();
    assert_eq!(recorded.unwrap().payload, "hi");
}

#[tokio::test]
async fn oldest_matching_rule_applies() {
    let fixture = Fixture::new().await;
    let mut messages = subscribe(&fixture.peer, "a").await;
    let duplicate = fixture
        .tap
        .add_rule(Rule::on("a", Action::Duplicate).from_target().times(1));
    let drop_rule = fixture.tap.add_rule(Rule::all(Action::Drop));
    let other_direction = fixture.tap.add_rule(Rule::all(Action::Drop).to_target());
    for payload in ["1", "2"] {
        fixture.target.publish("a", payload.into()).await.unwrap();
    }
    assert_eq!(next(&mut messages).await.payload, "1");
    assert_eq!(next(&mut messages).await.payload, "1");
    assert!(timeout(OBSERVATION_TIME, messages.next()).await.is_err());
    assert_eq!(
        (duplicate.hits(), drop_rule.hits(), other_direction.hits()),
        (1, 1, 0)
    );
    drop(drop_rule);
    fixture.target.publish("a", "3".into()).await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "3");
}

fn deadline() -> Instant {
    Instant::now() + LIMIT
}

async fn connect(url: &str) -> Client {
    let soon = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(10));
    soon.connect(url).await.unwrap()
}

/// Subscribes, and waits until the broker has processed the subscription.
async fn subscribe(client: &Client, pattern: &str) -> Subscriber {
    let subscriber = client.subscribe(pattern.to_owned()).await.unwrap();
    // The reply to a request, here "no responders", follows everything that was sent before it.
    let _ = client.request("no.responders", "".into()).await;
    subscriber
}

async fn next(messages: &mut Subscriber) -> Message {
    let message = timeout(LIMIT, messages.next())
        .await
        .expect("no message arrived");
    message.expect("the connection is lost")
}

fn matching(frames: &[Arc<Frame>], wanted: impl Fn(&Frame) -> bool) -> Vec<Arc<Frame>> {
    frames
        .iter()
        .filter(|frame| wanted(frame))
        .cloned()
        .collect()
}
