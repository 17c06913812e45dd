//! How a broker behaves: each of these holds for the embedded broker and for a real nats-server.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap, Subscriber};
use berth_broker::frame::{Headers, ServerOp};
use berth_broker::{Auth, BrokerOptions};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::server::{Kind, PATIENCE, eventually};
use crate::wire::Wire;

macro_rules! on_both {
    ($($name:ident)*) => {
        mod embedded {
            use crate::server::Kind;
            $(#[tokio::test] async fn $name() { super::$name(Kind::Embedded).await })*
        }
        mod nats_server {
            use crate::server::Kind;
            $(#[tokio::test] async fn $name() { super::$name(Kind::NatsServer).await })*
        }
    };
}

on_both! {
    a_message_reaches_every_subscriber
    messages_keep_their_order
    patterns_decide_who_is_reached
    subjects_with_empty_or_wild_tokens_are_taken_literally
    a_queue_group_gets_each_message_once
    a_queue_group_is_one_over_several_patterns
    requests_are_answered
    a_request_to_nobody_is_told_so
    nobody_is_told_who_did_not_ask
    headers_are_carried
    headers_are_withheld_from_those_who_cannot_read_them
    a_payload_may_have_the_full_size
    a_payload_over_the_size_ends_the_connection
    a_subscription_ends_after_its_maximum
    a_maximum_already_reached_ends_at_once
    a_subscription_id_can_be_used_again
    clients_come_back_after_a_restart
    a_late_reader_gets_everything_in_order
    a_slow_consumer_is_cut_and_nobody_else
    a_token_is_asked_for
    a_user_and_password_are_asked_for
    nothing_is_done_before_credentials
    verbose_clients_are_acknowledged
    pedantic_clients_are_told_of_bad_subjects
    clients_without_echo_do_not_hear_themselves
    an_invalid_pattern_is_refused_and_no_more
    what_is_no_operation_ends_the_connection
    an_endless_line_ends_the_connection
    a_client_that_answers_no_ping_is_cut
    the_greeting_says_what_clients_need
}

async fn a_message_reaches_every_subscriber(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (publisher, others) = (
        server.client().await,
        [server.client().await, server.client().await],
    );
    let mut subscribers = Vec::new();
    for client in &others {
        subscribers.push(subscribe(client, "greet").await);
    }
    publisher.publish("greet", "hello".into()).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(next(subscriber).await, "hello");
    }
}

async fn messages_keep_their_order(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (publisher, client) = (server.client().await, server.client().await);
    let mut subscriber = subscribe(&client, "count").await;
    for number in 0..5000 {
        publisher
            .publish("count", number.to_string().into())
            .await
            .unwrap();
    }
    for number in 0..5000 {
        assert_eq!(next(&mut subscriber).await, number.to_string());
    }
}

async fn patterns_decide_who_is_reached(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    let patterns = [
        "a.b", "a.*", "*.b", "a.>", ">", "*", "a.*.c", "a.b.c", "*.*.*", "a*", "a.>b",
    ];
    for (sid, pattern) in patterns.iter().enumerate() {
        wire.say(&format!("SUB {pattern} {sid}\r\n")).await;
    }
    for subject in [
        "a", "a.b", "a.c", "b.b", "a.b.c", "a.x.c", "a.b.c.d", "a*", "a.>b", "x",
    ] {
        wire.say(&format!("PUB {subject} 0\r\n\r\n")).await;
        let reached = wire.sync().await.into_iter().map(|op| match op {
            ServerOp::Message(message) => message.sid.parse::<usize>().unwrap(),
            other => panic!("{other:?}"),
        });
        let mut reached: Vec<_> = reached.collect();
        reached.sort_unstable();
        let expected = (0..patterns.len())
            .filter(|sid| berth_broker::subject_matches(patterns[*sid], subject))
            .collect::<Vec<_>>();
        assert_eq!(reached, expected, "{subject}");
    }
}

async fn subjects_with_empty_or_wild_tokens_are_taken_literally(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB a.b plain\r\nSUB a.* any\r\nSUB a.> rest\r\n")
        .await;
    for (subject, expected) in [
        ("a.*", vec!["any", "rest"]),
        ("a.>", vec!["any", "rest"]),
        ("a..b", vec![]),
        ("a.", vec![]),
    ] {
        wire.say(&format!("PUB {subject} 0\r\n\r\n")).await;
        let mut reached = sids(wire.sync().await);
        reached.sort_unstable();
        assert_eq!(reached, expected, "{subject}");
    }
}

async fn a_queue_group_gets_each_message_once(kind: Kind) {
    const MESSAGES: usize = 300;
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB work workers a\r\nSUB work workers b\r\nSUB work workers c\r\n")
        .await;
    wire.say("SUB work others d\r\nSUB work plain\r\n").await;
    wire.sync().await;
    let publisher = server.client().await;
    for _ in 0..MESSAGES {
        publisher.publish("work", "".into()).await.unwrap();
    }
    let mut reached = Vec::new();
    for _ in 0..3 * MESSAGES {
        reached.push(wire.message().await.sid.to_string());
    }
    let count = |sid: &str| reached.iter().filter(|reached| *reached == sid).count();
    assert_eq!((count("d"), count("plain")), (MESSAGES, MESSAGES));
    assert_eq!(count("a") + count("b") + count("c"), MESSAGES);
    for member in ["a", "b", "c"] {
        // A fair draw stays under half of this once in more than a million runs.
        assert!(
            count(member) > MESSAGES / 6,
            "{member} got {} of {MESSAGES}",
            count(member)
        );
    }
    assert_eq!(wire.sync().await, []);
}

async fn a_queue_group_is_one_over_several_patterns(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB a.* workers x\r\nSUB a.b workers y\r\nSUB > workers z\r\n")
        .await;
    for _ in 0..50 {
        wire.say("PUB a.b 0\r\n\r\n").await;
        assert_eq!(wire.sync().await.len(), 1);
    }
}

async fn requests_are_answered(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (client, service) = (server.client().await, server.client().await);
    let mut requests = subscribe(&service, "double.*").await;
    let serve = async {
        while let Some(request) = requests.next().await {
            let answer = [&request.payload[..], &request.payload[..]].concat();
            service
                .publish(request.reply.unwrap(), answer.into())
                .await
                .unwrap();
        }
    };
    let ask = futures_util::future::join_all((0..200).map(|number| {
        let client = client.clone();
        async move {
            let subject = format!("double.{number}");
            let answer = client
                .request(subject, number.to_string().into())
                .await
                .unwrap();
            assert_eq!(answer.payload, format!("{number}{number}"));
        }
    }));
    tokio::select! {
        () = serve => panic!("the service lost its connection"),
        _ = timeout(PATIENCE, ask) => {}
    }
}

async fn a_request_to_nobody_is_told_so(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let client = server.client().await;
    let error = client.request("nobody", "".into()).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);

    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB inbox.* 7\r\nPUB nobody inbox.1 2\r\nhi\r\n")
        .await;
    let message = wire.message().await;
    assert_eq!(
        (message.subject.as_str(), message.sid.as_str()),
        ("inbox.1", "7")
    );
    assert_eq!((message.reply, message.payload.len()), (None, 0));
    let headers = Headers::parse(&message.headers.unwrap()).unwrap();
    assert_eq!(headers.status, Some(503));
}

async fn nobody_is_told_who_did_not_ask(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":false,"headers":true}"#;
    let mut wire = Wire::connect(server.addr(), json).await;
    wire.say("SUB inbox.* 7\r\nPUB nobody inbox.1 2\r\nhi\r\n")
        .await;
    assert_eq!(wire.sync().await, []);
    // Nor is a publisher that does not want an answer.
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB inbox.* 7\r\nPUB nobody 2\r\nhi\r\n").await;
    assert_eq!(wire.sync().await, []);
}

async fn headers_are_carried(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let client = server.client().await;
    let mut subscriber = subscribe(&client, "greet").await;
    let mut headers = HeaderMap::new();
    headers.append("Nats-Service-Error-Code", "409");
    headers.append("Two", "a");
    headers.append("Two", "b c");
    client
        .publish_with_headers("greet", headers.clone(), "hello".into())
        .await
        .unwrap();
    let message = timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, "hello");
    assert_eq!(message.headers, Some(headers));
}

async fn headers_are_withheld_from_those_who_cannot_read_them(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::connect(server.addr(), r#"{"verbose":false,"pedantic":false}"#).await;
    wire.say("SUB greet 1\r\n").await;
    wire.sync().await;
    let mut headers = HeaderMap::new();
    headers.append("A", "b");
    let client = server.client().await;
    client
        .publish_with_headers("greet", headers, "hello".into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    let message = wire.message().await;
    assert_eq!(
        (message.headers, &message.payload[..]),
        (None, &b"hello"[..])
    );
}

async fn a_payload_may_have_the_full_size(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let client = server.client().await;
    let mut subscriber = subscribe(&client, "big").await;
    let payload = "x".repeat(1024 * 1024);
    for _ in 0..3 {
        client.publish("big", payload.clone().into()).await.unwrap();
        assert_eq!(next(&mut subscriber).await, payload);
    }
}

async fn a_payload_over_the_size_ends_the_connection(kind: Kind) {
    let options = BrokerOptions {
        max_payload_bytes: 1000,
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut wire = Wire::quiet(server.addr()).await;
    assert_eq!(wire.info["max_payload"], 1000);
    wire.say(&format!("PUB big 1001\r\n{}\r\n", "x".repeat(1001)))
        .await;
    assert_eq!(wire.farewell().await, "Maximum Payload Violation");
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("HPUB big 12 1001\r\nNATS/1.0\r\n\r\n").await;
    assert_eq!(wire.farewell().await, "Maximum Payload Violation");
}

async fn a_subscription_ends_after_its_maximum(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB count 1\r\nUNSUB 1 3\r\n").await;
    wire.say(&"PUB count 0\r\n\r\n".repeat(5)).await;
    assert_eq!(wire.sync().await.len(), 3);
    wire.say("PUB count inbox 0\r\n\r\nSUB inbox 2\r\nPUB count inbox 0\r\n\r\n")
        .await;
    // Nobody is left: the second request, whose inbox is there, is told so.
    assert_eq!(sids(wire.sync().await), ["2"]);
}

async fn a_maximum_already_reached_ends_at_once(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB count 1\r\nPUB count 0\r\n\r\nPUB count 0\r\n\r\n")
        .await;
    assert_eq!(wire.sync().await.len(), 2);
    wire.say("UNSUB 1 2\r\nPUB count 0\r\n\r\n").await;
    assert_eq!(wire.sync().await, []);
}

async fn a_subscription_id_can_be_used_again(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    wire.say("SUB a 1\r\nUNSUB 1\r\nSUB b 1\r\nPUB a 0\r\n\r\nPUB b 0\r\n\r\n")
        .await;
    let heard = wire.sync().await;
    assert!(matches!(&heard[..], [ServerOp::Message(message)] if message.subject == "b"));
    wire.say("UNSUB 1 2\r\nPUB b 0\r\n\r\nSUB a 1\r\nPUB a 0\r\n\r\n")
        .await;
    assert_eq!(wire.sync().await.len(), 2);
}

async fn clients_come_back_after_a_restart(kind: Kind) {
    let mut server = kind.start(BrokerOptions::default()).await;
    let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(20));
    let client = options.connect(server.url()).await.unwrap();
    let mut subscriber = subscribe(&client, "greet").await;
    let wire = Wire::quiet(server.addr()).await;
    server.restart().await;
    let mut gone = wire;
    eventually("the old connection ends", async || {
        gone.next().await.is_none()
    })
    .await;
    let publisher = server.client().await;
    eventually("the subscription is back", async || {
        publisher.publish("greet", "again".into()).await.unwrap();
        timeout(Duration::from_millis(100), subscriber.next())
            .await
            .is_ok()
    })
    .await;
}

async fn a_late_reader_gets_everything_in_order(kind: Kind) {
    // Together more than sockets of loopback keep, and less than the broker keeps.
    const MESSAGES: usize = 512;
    let server = kind.start(BrokerOptions::default()).await;
    let mut late = Wire::quiet(server.addr()).await;
    late.say("SUB flood 1\r\n").await;
    late.sync().await;
    let publisher = server.client().await;
    let filler = "x".repeat(64 * 1024);
    for number in 0..MESSAGES {
        publisher
            .publish("flood", format!("{number} {filler}").into())
            .await
            .unwrap();
    }
    publisher.flush().await.unwrap();
    for number in 0..MESSAGES {
        let message = late.message().await;
        assert_eq!(message.payload.len(), format!("{number} {filler}").len());
        assert!(message.payload.starts_with(format!("{number} ").as_bytes()));
    }
}

async fn a_slow_consumer_is_cut_and_nobody_else(kind: Kind) {
    // Together far more than sockets of loopback and the broker keep.
    const MESSAGES: usize = 1000;
    const BYTES: usize = 64 * 1024;
    let options = BrokerOptions {
        max_pending_bytes: 2 * 1024 * 1024,
        // So that it is the amount that counts, and not the time.
        write_deadline: Duration::from_secs(60),
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut slow = Wire::quiet(server.addr()).await;
    slow.say("SUB flood 1\r\n").await;
    slow.sync().await;
    let publisher = server.client().await;
    let mut bystander = subscribe(&publisher, "calm").await;
    let payload = "x".repeat(BYTES);
    for _ in 0..MESSAGES {
        publisher
            .publish("flood", payload.clone().into())
            .await
            .unwrap();
    }
    publisher
        .publish("calm", "still here".into())
        .await
        .unwrap();
    assert_eq!(next(&mut bystander).await, "still here");
    let mut got = 0;
    while let Some(op) = slow.next_of_any_kind().await {
        got += usize::from(matches!(op, ServerOp::Message(_)));
    }
    assert!(got < MESSAGES, "the slow consumer got everything");
}

async fn a_token_is_asked_for(kind: Kind) {
    let auth = Auth::Token("let-me-in".to_owned());
    let server = kind
        .start(BrokerOptions {
            auth,
            ..BrokerOptions::default()
        })
        .await;
    let right = ConnectOptions::with_token("let-me-in".to_owned());
    right.connect(server.url()).await.unwrap();
    for options in [
        ConnectOptions::new(),
        ConnectOptions::with_token("let-me-im".to_owned()),
    ] {
        let error = options.connect(server.url()).await.unwrap_err();
        assert_eq!(
            error.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation
        );
    }
}

async fn a_user_and_password_are_asked_for(kind: Kind) {
    let auth = Auth::UserPassword {
        user: "ann".to_owned(),
        password: "secret".to_owned(),
    };
    let server = kind
        .start(BrokerOptions {
            auth,
            ..BrokerOptions::default()
        })
        .await;
    let show = |user: &str, password: &str| {
        ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            .connect(server.url())
    };
    show("ann", "secret").await.unwrap();
    for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("", "")] {
        let error = show(user, password).await.unwrap_err();
        assert_eq!(
            error.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation
        );
    }
}

async fn nothing_is_done_before_credentials(kind: Kind) {
    let auth = Auth::Token("let-me-in".to_owned());
    let server = kind
        .start(BrokerOptions {
            auth,
            ..BrokerOptions::default()
        })
        .await;
    let mut wire = Wire::open(server.addr()).await;
    assert_eq!(wire.info["auth_required"], true);
    wire.say("SUB > 1\r\n").await;
    assert_eq!(wire.farewell().await, "Authorization Violation");
    // Nor may a connection wait for ever.
    let mut wire = Wire::open(server.addr()).await;
    assert_eq!(wire.farewell().await, "Authentication Timeout");
}

async fn verbose_clients_are_acknowledged(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::open(server.addr()).await;
    let json = r#"{"verbose":true,"pedantic":false,"headers":true}"#;
    wire.say(&format!(
        "CONNECT {json}\r\nSUB a 1\r\nUNSUB 1 5\r\nPUB b 0\r\n\r\nUNSUB 1\r\n"
    ))
    .await;
    wire.say("HPUB b 12 12\r\nNATS/1.0\r\n\r\n\r\n").await;
    assert_eq!(wire.sync().await, [const { ServerOp::Ok }; 6]);
}

async fn pedantic_clients_are_told_of_bad_subjects(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":true}"#;
    let mut wire = Wire::connect(server.addr(), json).await;
    for subject in ["a.*", "a.>", "a..b"] {
        wire.say(&format!("PUB {subject} 0\r\n\r\n")).await;
        assert_eq!(
            wire.sync().await,
            [ServerOp::Error("Invalid Publish Subject".into())]
        );
    }
}

async fn clients_without_echo_do_not_hear_themselves(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":false,"echo":false}"#;
    let mut wire = Wire::connect(server.addr(), json).await;
    wire.say("SUB a 1\r\nSUB a workers 2\r\nPUB a 0\r\n\r\n")
        .await;
    assert_eq!(wire.sync().await, []);
    let other = server.client().await;
    other.publish("a", "from another".into()).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(&wire.message().await.payload[..], b"from another");
    wire.message().await;
    // Of a queue group the others get it.
    wire.say("SUB b workers 3\r\nSUB b workers 4\r\n").await;
    wire.sync().await;
    let mut member = Wire::quiet(server.addr()).await;
    member.say("SUB b workers 1\r\n").await;
    member.sync().await;
    wire.say(&"PUB b 0\r\n\r\n".repeat(20)).await;
    assert_eq!(wire.sync().await, []);
    for _ in 0..20 {
        member.message().await;
    }
}

async fn an_invalid_pattern_is_refused_and_no_more(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    for pattern in ["a..b", ".a", "a.", "a.>.b", ">.a"] {
        wire.say(&format!("SUB {pattern} 1\r\n")).await;
        assert_eq!(
            wire.sync().await,
            [ServerOp::Error("Invalid Subject".into())],
            "{pattern}"
        );
    }
}

async fn what_is_no_operation_ends_the_connection(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    for noise in [
        "HELLO\r\n",
        "PUB a 1\r\nxyz\r\n",
        "\u{0}\u{1}\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        let mut wire = Wire::quiet(server.addr()).await;
        wire.say(noise).await;
        assert_eq!(
            wire.farewell().await,
            "Unknown Protocol Operation",
            "{noise:?}"
        );
    }
    for noise in [
        "PUB\r\n",
        "PUB a b c d\r\n",
        "PUB a x\r\n",
        "SUB a\r\n",
        "HPUB a 9 5\r\n",
    ] {
        let mut wire = Wire::quiet(server.addr()).await;
        wire.say(noise).await;
        while wire.next().await.is_some() {}
    }
    // It has not come to harm.
    Wire::quiet(server.addr()).await;
}

async fn an_endless_line_ends_the_connection(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut wire = Wire::quiet(server.addr()).await;
    let longest = "x".repeat(4096 - "SUB  1".len());
    wire.say(&format!("SUB {longest} 1\r\nPUB {longest} 0\r\n\r\n"))
        .await;
    assert_eq!(sids(wire.sync().await), ["1"]);
    wire.try_say(&format!("SUB {} 1\r\n", "x".repeat(70_000)))
        .await;
    assert_eq!(
        wire.farewell().await.to_lowercase(),
        "maximum control line exceeded"
    );
}

async fn a_client_that_answers_no_ping_is_cut(kind: Kind) {
    let options = BrokerOptions {
        ping_interval: Duration::from_millis(100),
        max_pings_out: 2,
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut answering = Wire::quiet(server.addr()).await;
    let mut mute = Wire::quiet(server.addr()).await;
    let watch = async {
        let mut heard = Vec::new();
        while let Some(op) = mute.next_of_any_kind().await {
            heard.push(op);
        }
        heard
    };
    let heard = tokio::select! {
        heard = watch => heard,
        gone = answering.next() => panic!("{gone:?} for a client that answers"),
    };
    assert!(
        heard.iter().filter(|op| **op == ServerOp::Ping).count() >= 2,
        "{heard:?}"
    );
    assert_eq!(
        heard.last(),
        Some(&ServerOp::Error("Stale Connection".into()))
    );
    answering.sync().await;
}

async fn the_greeting_says_what_clients_need(kind: Kind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (first, second) = (
        Wire::open(server.addr()).await,
        Wire::open(server.addr()).await,
    );
    let info = &first.info;
    assert_eq!(info["proto"], 1);
    assert_eq!(info["headers"], true);
    assert_eq!(info["max_payload"], 1024 * 1024);
    assert_eq!(info["host"], "127.0.0.1");
    assert_eq!(info["port"], server.addr().port());
    assert_eq!(info["client_ip"], "127.0.0.1");
    assert!(info["server_id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(
        info["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("2."))
    );
    assert_ne!(info["client_id"], second.info["client_id"]);
    assert_eq!(info["server_id"], second.info["server_id"]);
}

/// Subscribes, and waits until the server knows.
async fn subscribe(client: &async_nats::Client, pattern: &str) -> Subscriber {
    let subscriber = client.subscribe(pattern.to_owned()).await.unwrap();
    // A request is answered, if only by "no responders", behind everything said before it.
    let _ = client.request("nobody.is.here", "".into()).await;
    subscriber
}

async fn next(subscriber: &mut Subscriber) -> String {
    let message = timeout(PATIENCE, subscriber.next())
        .await
        .expect("no message came");
    String::from_utf8(message.expect("the connection is lost").payload.to_vec()).unwrap()
}

fn sids(ops: Vec<ServerOp>) -> Vec<String> {
    let sids = ops.into_iter().map(|op| match op {
        ServerOp::Message(message) => message.sid.to_string(),
        other => panic!("{other:?}"),
    });
    sids.collect()
}
