//! The tap between a client as users have it and the embedded broker: what it records and what it does.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects by failing"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, ConnectOptions, Message, Subscriber};
use berth_broker::{Broker, BrokerOptions};
use berth_conformance::testbed::tap::{
    Action, Direction, Fate, Frame, Kind, Losses, Mark, NotSeen, OutagePlan, Rule, Tap,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// How long anything may take that should happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must be seen of what should not happen.
const QUIET: Duration = Duration::from_millis(200);

/// A broker with a tap in front of it, a target behind the tap, and somebody who talks to the target.
struct Stage {
    broker: Broker,
    tap: Tap,
    target: Client,
    peer: Client,
}

impl Stage {
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

    /// The target answers everything on `svc.>` with the payload it got. Gives back what it got so far.
    async fn echo(&self) -> Arc<Mutex<Vec<Bytes>>> {
        let mut requests = subscribe(&self.target, "svc.>").await;
        let target = self.target.clone();
        let got = Arc::new(Mutex::new(Vec::new()));
        let gets = got.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                gets.lock().unwrap().push(request.payload.clone());
                let Some(reply) = request.reply else { continue };
                // It may be cut off at any time.
                let _ = target.publish(reply, request.payload).await;
            }
        });
        got
    }

    /// Asks the target once.
    async fn ask(&self, subject: &str, payload: &str, wait: Duration) -> Option<Bytes> {
        let request = async_nats::Request::new().payload(payload.to_owned().into());
        let request = request.timeout(Some(wait));
        self.peer
            .send_request(subject.to_owned(), request)
            .await
            .ok()
            .map(|answer| answer.payload)
    }

    /// Asks the target until it answers, as after an outage.
    async fn ask_until_answered(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self
            .ask("svc.again", "again", Duration::from_millis(100))
            .await
            .is_none()
        {
            assert!(Instant::now() < deadline, "the target does not come back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn everything_is_recorded_in_order() {
    let stage = Stage::new().await;
    let mut live = stage.tap.subscribe();
    stage.echo().await;
    for number in 0..100 {
        let answer = stage.ask("svc.count", &number.to_string(), PATIENCE).await;
        assert_eq!(answer.unwrap(), number.to_string());
    }
    let frames = stage.tap.frames();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.number, index as u64);
        assert_eq!(frame.connection, 1);
        assert_eq!(frame.fate, Fate::Passed);
    }
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).take(5).collect();
    assert_eq!(
        kinds,
        [
            Kind::Opened,
            Kind::Info,
            Kind::Connect,
            Kind::Ping,
            Kind::Pong
        ]
    );
    let requests = of(&frames, |frame| {
        frame.kind == Kind::Message && frame.is_on("svc.count")
    });
    let replies = of(&frames, |frame| {
        frame.is_reply_to("svc.*") && frame.is_on("_INBOX.>")
    });
    assert_eq!((requests.len(), replies.len()), (100, 100));
    for (number, (request, reply)) in requests.iter().zip(&replies).enumerate() {
        assert_eq!(
            (request.way, reply.way),
            (Direction::ToTarget, Direction::FromTarget)
        );
        assert_eq!(request.payload, number.to_string());
        assert_eq!(reply.payload, number.to_string());
        assert_eq!(request.reply, reply.subject);
        let asked = reply.answers.as_ref().unwrap();
        assert_eq!((asked.number, asked.at), (request.number, request.at));
        assert!(request.at <= reply.at && request.number < reply.number);
    }
    let subscribed = of(&frames, |frame| {
        frame.kind == Kind::Subscribe && frame.is_on("svc.>")
    });
    assert_eq!(subscribed.len(), 1);
    assert_eq!(stage.tap.losses(), Losses::default());
    let mut lived = Vec::new();
    while let Ok(frame) = live.try_recv() {
        lived.push(frame.number);
    }
    assert_eq!(lived.last().map(|last| last + 1), Some(frames.len() as u64));
    assert_eq!(
        lived,
        (lived[0]..=*lived.last().unwrap()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn headers_and_full_payloads_pass_unharmed() {
    let stage = Stage::new().await;
    let mut messages = subscribe(&stage.target, "big").await;
    let mut headers = async_nats::HeaderMap::new();
    headers.append("Nats-Service-Error-Code", "409");
    let payload = Bytes::from(vec![b'\r'; 1024 * 1024 - 100]);
    stage
        .peer
        .publish_with_headers("big", headers.clone(), payload.clone())
        .await
        .unwrap();
    let message = next(&mut messages).await;
    assert_eq!(
        (message.headers.as_ref(), &message.payload),
        (Some(&headers), &payload)
    );
    let seen = stage.tap.frames();
    let seen = of(&seen, |frame| {
        frame.is_on("big") && frame.kind == Kind::Message
    });
    assert_eq!(seen[0].payload, payload);
    assert_eq!(
        seen[0]
            .parsed_headers()
            .unwrap()
            .get("nats-service-error-code"),
        Some("409")
    );
}

#[tokio::test]
async fn order_is_kept_both_ways() {
    const MESSAGES: usize = 20_000;
    let stage = Stage::new().await;
    let mut at_target = subscribe(&stage.target, "there").await;
    let mut at_peer = subscribe(&stage.peer, "back").await;
    for (from, subject) in [(&stage.peer, "there"), (&stage.target, "back")] {
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
async fn the_first_reply_is_dropped() {
    let stage = Stage::new().await;
    stage.echo().await;
    let rule = Rule::replies_to("svc.start", Action::Drop)
        .containing("w-1")
        .times(1);
    let rule = stage.tap.rule(rule);
    assert_eq!(
        stage.ask("svc.start", "id w-2", PATIENCE).await.unwrap(),
        "id w-2"
    );
    assert_eq!(
        stage.ask("svc.stop", "id w-1", PATIENCE).await.unwrap(),
        "id w-1"
    );
    assert_eq!(rule.hits(), 0);
    assert_eq!(stage.ask("svc.start", "id w-1", QUIET).await, None);
    assert_eq!(rule.hits(), 1);
    assert_eq!(
        stage.ask("svc.start", "id w-1", PATIENCE).await.unwrap(),
        "id w-1"
    );
    let frames = stage.tap.frames();
    let dropped = of(&frames, |frame| frame.fate == Fate::Dropped);
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].is_reply_to("svc.start") && dropped[0].contains(b"w-1"));
}

#[tokio::test]
async fn a_request_is_duplicated() {
    let stage = Stage::new().await;
    let mut requests = subscribe(&stage.target, "svc.start").await;
    let rule = Rule::on("svc.start", Action::Duplicate)
        .to_target()
        .after(1)
        .times(1);
    let _rule = stage.tap.rule(rule);
    for payload in ["a", "b", "c"] {
        stage
            .peer
            .publish_with_reply("svc.start", "inbox", payload.into())
            .await
            .unwrap();
    }
    for expected in ["a", "b", "b", "c"] {
        assert_eq!(next(&mut requests).await.payload, expected);
    }
    assert!(timeout(QUIET, requests.next()).await.is_err());
}

#[tokio::test]
async fn a_delayed_message_is_overtaken() {
    const LATE: Duration = Duration::from_millis(300);
    let stage = Stage::new().await;
    let mut messages = subscribe(&stage.target, "a").await;
    let rule = stage
        .tap
        .rule(Rule::on("a", Action::Delay(LATE)).containing("slow"));
    let began = Instant::now();
    for payload in ["slow 1", "quick", "slow 2"] {
        stage.peer.publish("a", payload.into()).await.unwrap();
    }
    assert_eq!(next(&mut messages).await.payload, "quick");
    assert_eq!(next(&mut messages).await.payload, "slow 1");
    assert!(began.elapsed() >= LATE);
    assert_eq!(next(&mut messages).await.payload, "slow 2");
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn a_delayed_message_outlives_its_sender() {
    let stage = Stage::new().await;
    let mut messages = subscribe(&stage.peer, "a").await;
    let _rule = stage
        .tap
        .rule(Rule::on("a", Action::Delay(QUIET)).from_target());
    let mut wire = TcpStream::connect(stage.tap.addr()).await.unwrap();
    wire.write_all(b"CONNECT {\"verbose\":false}\r\nPUB a 4\r\nlate\r\n")
        .await
        .unwrap();
    wire.shutdown().await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "late");
}

#[tokio::test]
async fn held_messages_go_when_the_rule_does() {
    let stage = Stage::new().await;
    let mut messages = subscribe(&stage.target, "a").await;
    for by_release in [true, false] {
        let rule = stage
            .tap
            .rule(Rule::on("a", Action::Hold).containing("held"));
        for payload in ["held 1", "free", "held 2"] {
            stage.peer.publish("a", payload.into()).await.unwrap();
        }
        assert_eq!(next(&mut messages).await.payload, "free");
        assert!(timeout(QUIET, messages.next()).await.is_err());
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
async fn a_reply_is_rewritten() {
    let stage = Stage::new().await;
    stage.echo().await;
    let shout = Action::rewrite(|payload| payload.to_ascii_uppercase().into());
    let _rule = stage.tap.rule(Rule::replies_to("svc.>", shout));
    assert_eq!(
        stage.ask("svc.a", "quiet", PATIENCE).await.unwrap(),
        "QUIET"
    );
    let frames = stage.tap.frames();
    let rewritten = of(&frames, |frame| frame.fate == Fate::Rewritten);
    assert_eq!(rewritten[0].payload, "quiet");
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_a_message() {
    let stage = Stage::new().await;
    let got = stage.echo().await;

    let rule = stage
        .tap
        .rule(Rule::on("svc.x", Action::CutBefore).to_target().times(1));
    let mark = stage.tap.mark();
    assert_eq!(stage.ask("svc.x", "lost", QUIET).await, None);
    assert_eq!(rule.hits(), 1);
    stage
        .tap
        .wait_for(mark, |frame| frame.kind == Kind::Closed, deadline())
        .await
        .unwrap();
    stage.ask_until_answered().await;

    let rule = stage
        .tap
        .rule(Rule::on("svc.y", Action::CutAfter).to_target().times(1));
    let mark = stage.tap.mark();
    // The answer may come yet: clients keep what they cannot say until they are back.
    stage.ask("svc.y", "arrived", QUIET).await;
    assert_eq!(rule.hits(), 1);
    stage
        .tap
        .wait_for(mark, |frame| frame.kind == Kind::Closed, deadline())
        .await
        .unwrap();
    stage.ask_until_answered().await;

    let rule = Rule::replies_to("svc.z", Action::CutAfter)
        .from_target()
        .times(1);
    let _rule = stage.tap.rule(rule);
    assert_eq!(
        stage.ask("svc.z", "answered", PATIENCE).await.unwrap(),
        "answered"
    );
    stage.ask_until_answered().await;

    let got = got.lock().unwrap();
    assert!(!got.contains(&"lost".into()), "{got:?}");
    assert!(
        got.contains(&"arrived".into()) && got.contains(&"answered".into()),
        "{got:?}"
    );
}

#[tokio::test]
async fn an_outage_ends_connections_until_it_is_restored() {
    let stage = Stage::new().await;
    stage.echo().await;
    stage.ask_until_answered().await;
    for plan in [OutagePlan::Refuse, OutagePlan::HangUp, OutagePlan::Mute] {
        let outage = stage.tap.cut(plan).await;
        assert_eq!(stage.tap.connections(), 0, "{plan:?}");
        let no_one = stage.peer.request("svc.a", "".into()).await.unwrap_err();
        assert_eq!(no_one.kind(), RequestErrorKind::NoResponders, "{plan:?}");
        match (plan, TcpStream::connect(stage.tap.addr()).await) {
            (OutagePlan::Refuse, Err(_)) => {}
            (OutagePlan::HangUp, Ok(mut stream)) => {
                assert_eq!(
                    timeout(PATIENCE, stream.read(&mut [0; 9]))
                        .await
                        .unwrap()
                        .unwrap(),
                    0
                );
            }
            (OutagePlan::Mute, Ok(mut stream)) => {
                assert!(timeout(QUIET, stream.read(&mut [0; 9])).await.is_err());
            }
            (plan, other) => panic!("{other:?} in {plan:?}"),
        }
        outage.restore().await;
        stage.ask_until_answered().await;
    }
}

#[tokio::test]
async fn a_frozen_connection_stays_open_and_silent() {
    let stage = Stage::new().await;
    stage.echo().await;
    stage.ask_until_answered().await;
    let mark = stage.tap.mark();
    let freeze = stage.tap.freeze();
    let mut messages = subscribe(&stage.peer, "from.target").await;
    stage
        .target
        .publish("from.target", "waits".into())
        .await
        .unwrap();
    // Not "no responders": the connection and its subscription are there.
    let request = async_nats::Request::new().timeout(Some(QUIET));
    let error = stage.peer.send_request("svc.a", request).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
    assert!(timeout(QUIET, messages.next()).await.is_err());
    assert_eq!(stage.tap.connections(), 1);
    drop(freeze);
    assert_eq!(next(&mut messages).await.payload, "waits");
    stage.ask_until_answered().await;
    let closed = of(&stage.tap.frames_since(mark), |frame| {
        frame.kind == Kind::Closed
    })
    .len();
    assert_eq!(closed, 0);
}

#[tokio::test]
async fn a_restart_of_the_broker_is_a_restart_to_the_target() {
    let stage = Stage::new().await;
    stage.echo().await;
    stage.ask_until_answered().await;
    stage.broker.stop().await;
    let closed = |frame: &Frame| frame.kind == Kind::Closed;
    stage
        .tap
        .wait_for(Mark::START, closed, deadline())
        .await
        .unwrap();
    stage.broker.restart().await.unwrap();
    stage.ask_until_answered().await;
}

#[tokio::test]
async fn nobody_is_led_round_the_tap() {
    let bus = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tap = Tap::start(bus.local_addr().unwrap()).await.unwrap();
    for (said, expected) in [
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
            .write_all(format!("INFO {said}\r\n").as_bytes())
            .await
            .unwrap();
        let mut got = vec![0; format!("INFO {expected}\r\n").len()];
        timeout(PATIENCE, client.read_exact(&mut got))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8(got).unwrap(),
            format!("INFO {expected}\r\n")
        );
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_on_and_recorded() {
    let stage = Stage::new().await;
    let mut wire = TcpStream::connect(stage.tap.addr()).await.unwrap();
    wire.write_all(b"CONNECT {\"verbose\":false}\r\nHELLO you\r\nPING\r\n")
        .await
        .unwrap();
    let mut got = String::new();
    timeout(PATIENCE, wire.read_to_string(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert!(
        got.ends_with("-ERR 'Unknown Protocol Operation'\r\n"),
        "{got}"
    );
    let unreadable = |frame: &Frame| frame.kind == Kind::Unreadable;
    let frame = stage
        .tap
        .wait_for(Mark::START, unreadable, deadline())
        .await
        .unwrap();
    assert_eq!(frame.payload, "unknown protocol operation");
}

#[tokio::test]
async fn credentials_are_not_recorded() {
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
    assert!(tap.frames().iter().any(|frame| frame.kind == Kind::Connect));
    assert!(!format!("{:?}", tap.frames()).contains("hush-hush"));
}

#[tokio::test]
async fn waiting_ends_with_the_frame_or_the_deadline() {
    let stage = Stage::new().await;
    let mark = stage.tap.mark();
    let on_a = |frame: &Frame| frame.is_on("a");
    let in_vain = stage.tap.wait_for(mark, on_a, Instant::now() + QUIET).await;
    assert_eq!(in_vain.unwrap_err(), NotSeen);
    let wait = stage.tap.wait_for(mark, on_a, deadline());
    let (seen, published) = tokio::join!(wait, stage.target.publish("a", "hi".into()));
    published.unwrap();
    assert_eq!(seen.unwrap().payload, "hi");
}

#[tokio::test]
async fn the_rule_installed_first_has_its_way() {
    let stage = Stage::new().await;
    let mut messages = subscribe(&stage.peer, "a").await;
    let twice = stage
        .tap
        .rule(Rule::on("a", Action::Duplicate).from_target().times(1));
    let never = stage.tap.rule(Rule::every(Action::Drop));
    let wrong_way = stage.tap.rule(Rule::every(Action::Drop).to_target());
    for payload in ["1", "2"] {
        stage.target.publish("a", payload.into()).await.unwrap();
    }
    assert_eq!(next(&mut messages).await.payload, "1");
    assert_eq!(next(&mut messages).await.payload, "1");
    assert!(timeout(QUIET, messages.next()).await.is_err());
    assert_eq!((twice.hits(), never.hits(), wrong_way.hits()), (1, 1, 0));
    drop(never);
    stage.target.publish("a", "3".into()).await.unwrap();
    assert_eq!(next(&mut messages).await.payload, "3");
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

async fn connect(url: &str) -> Client {
    let soon = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(10));
    soon.connect(url).await.unwrap()
}

/// Subscribes, and waits until the broker knows.
async fn subscribe(client: &Client, pattern: &str) -> Subscriber {
    let subscriber = client.subscribe(pattern.to_owned()).await.unwrap();
    // A request is answered, if only by "no responders", behind everything said before it.
    let _ = client.request("nobody.is.here", "".into()).await;
    subscriber
}

async fn next(messages: &mut Subscriber) -> Message {
    let message = timeout(PATIENCE, messages.next())
        .await
        .expect("no message came");
    message.expect("the connection is lost")
}

fn of(frames: &[Arc<Frame>], wanted: impl Fn(&Frame) -> bool) -> Vec<Arc<Frame>> {
    frames
        .iter()
        .filter(|frame| wanted(frame))
        .cloned()
        .collect()
}
