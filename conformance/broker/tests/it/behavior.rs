//! Behavior of a broker; each test runs against the embedded broker and against a real nats-server.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap, Subscriber};
use berth_broker::frame::{Headers, ServerOp};
use berth_broker::{Auth, BrokerOptions};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::raw_client::RawClient;
use crate::server::{PATIENCE, ServerKind, eventually};

macro_rules! on_both {
    ($($name:ident)*) => {
        mod embedded {
            use crate::server::ServerKind;
            $(#[tokio::test] async fn $name() { super::$name(ServerKind::Embedded).await })*
        }
        mod nats_server {
            use crate::server::ServerKind;
            $(#[tokio::test] async fn $name() { super::$name(ServerKind::NatsServer).await })*
        }
    };
}

on_both! {
    delivers_to_every_subscriber
    preserves_order
    delivers_by_pattern
    treats_wildcards_in_subjects_as_literals
    delivers_once_per_queue_group
    queue_group_spans_several_patterns
    serves_request_and_reply
    reports_no_responders
    reports_no_responders_only_on_request
    delivers_headers
    strips_headers_for_clients_without_support
    accepts_maximum_payload
    closes_on_oversized_payload
    subscription_ends_after_its_maximum
    subscription_ends_immediately_if_maximum_is_reached
    subscription_id_can_be_reused
    clients_reconnect_after_restart
    buffers_for_slow_readers_in_order
    disconnects_only_the_slow_consumer
    requires_token
    requires_user_and_password
    rejects_operations_before_authentication
    acknowledges_verbose_clients
    reports_invalid_subjects_to_pedantic_clients
    excludes_publisher_without_echo
    rejects_invalid_pattern_without_closing
    closes_on_unknown_operation
    closes_on_overlong_line
    disconnects_client_without_pong
    info_contains_required_fields
}

async fn delivers_to_every_subscriber(kind: ServerKind) {
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

async fn preserves_order(kind: ServerKind) {
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

async fn delivers_by_pattern(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    let patterns = [
        "a.b", "a.*", "*.b", "a.>", ">", "*", "a.*.c", "a.b.c", "*.*.*", "a*", "a.>b",
    ];
    for (sid, pattern) in patterns.iter().enumerate() {
        raw.send(&format!("SUB {pattern} {sid}\r\n")).await;
    }
    for subject in [
        "a", "a.b", "a.c", "b.b", "a.b.c", "a.x.c", "a.b.c.d", "a*", "a.>b", "x",
    ] {
        raw.send(&format!("PUB {subject} 0\r\n\r\n")).await;
        let reached = raw.sync().await.into_iter().map(|op| match op {
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

async fn treats_wildcards_in_subjects_as_literals(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB a.b plain\r\nSUB a.* any\r\nSUB a.> rest\r\n")
        .await;
    for (subject, expected) in [
        ("a.*", vec!["any", "rest"]),
        ("a.>", vec!["any", "rest"]),
        ("a..b", vec![]),
        ("a.", vec![]),
    ] {
        raw.send(&format!("PUB {subject} 0\r\n\r\n")).await;
        let mut reached = sids(raw.sync().await);
        reached.sort_unstable();
        assert_eq!(reached, expected, "{subject}");
    }
}

async fn delivers_once_per_queue_group(kind: ServerKind) {
    const MESSAGES: usize = 300;
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB work workers a\r\nSUB work workers b\r\nSUB work workers c\r\n")
        .await;
    raw.send("SUB work others d\r\nSUB work plain\r\n").await;
    raw.sync().await;
    let publisher = server.client().await;
    for _ in 0..MESSAGES {
        publisher.publish("work", "".into()).await.unwrap();
    }
    let mut reached = Vec::new();
    for _ in 0..3 * MESSAGES {
        reached.push(raw.message().await.sid.to_string());
    }
    let count = |sid: &str| reached.iter().filter(|reached| *reached == sid).count();
    assert_eq!((count("d"), count("plain")), (MESSAGES, MESSAGES));
    assert_eq!(count("a") + count("b") + count("c"), MESSAGES);
    for member in ["a", "b", "c"] {
        // A fair draw falls below half of this less than once in a million runs.
        assert!(
            count(member) > MESSAGES / 6,
            "{member} got {} of {MESSAGES}",
            count(member)
        );
    }
    assert_eq!(raw.sync().await, []);
}

async fn queue_group_spans_several_patterns(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB a.* workers x\r\nSUB a.b workers y\r\nSUB > workers z\r\n")
        .await;
    for _ in 0..50 {
        raw.send("PUB a.b 0\r\n\r\n").await;
        assert_eq!(raw.sync().await.len(), 1);
    }
}

async fn serves_request_and_reply(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (client, service) = (server.client().await, server.client().await);
    let mut requests = subscribe(&service, "double.*").await;
    let serve = async {
        while let Some(request) = requests.next().await {
            let reply = [&request.payload[..], &request.payload[..]].concat();
            service
                .publish(request.reply.unwrap(), reply.into())
                .await
                .unwrap();
        }
    };
    let calls = futures_util::future::join_all((0..200).map(|number| {
        let client = client.clone();
        async move {
            let subject = format!("double.{number}");
            let reply = client
                .request(subject, number.to_string().into())
                .await
                .unwrap();
            assert_eq!(reply.payload, format!("{number}{number}"));
        }
    }));
    tokio::select! {
        () = serve => panic!("the service lost its connection"),
        _ = timeout(PATIENCE, calls) => {}
    }
}

async fn reports_no_responders(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let client = server.client().await;
    let error = client.request("unserved", "".into()).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);

    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB inbox.* 7\r\nPUB unserved inbox.1 2\r\nhi\r\n")
        .await;
    let message = raw.message().await;
    assert_eq!(
        (message.subject.as_str(), message.sid.as_str()),
        ("inbox.1", "7")
    );
    assert_eq!((message.reply, message.payload.len()), (None, 0));
    let headers = Headers::parse(&message.headers.unwrap()).unwrap();
    assert_eq!(headers.status, Some(503));
}

async fn reports_no_responders_only_on_request(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":false,"headers":true}"#;
    let mut raw = RawClient::connect(server.addr(), json).await;
    raw.send("SUB inbox.* 7\r\nPUB unserved inbox.1 2\r\nhi\r\n")
        .await;
    assert_eq!(raw.sync().await, []);
    // A publication without a reply subject is not reported either.
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB inbox.* 7\r\nPUB unserved 2\r\nhi\r\n").await;
    assert_eq!(raw.sync().await, []);
}

async fn delivers_headers(kind: ServerKind) {
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

async fn strips_headers_for_clients_without_support(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect(server.addr(), r#"{"verbose":false,"pedantic":false}"#).await;
    raw.send("SUB greet 1\r\n").await;
    raw.sync().await;
    let mut headers = HeaderMap::new();
    headers.append("A", "b");
    let client = server.client().await;
    client
        .publish_with_headers("greet", headers, "hello".into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    let message = raw.message().await;
    assert_eq!(
        (message.headers, &message.payload[..]),
        (None, &b"hello"[..])
    );
}

async fn accepts_maximum_payload(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let client = server.client().await;
    let mut subscriber = subscribe(&client, "big").await;
    let payload = "x".repeat(1024 * 1024);
    for _ in 0..3 {
        client.publish("big", payload.clone().into()).await.unwrap();
        assert_eq!(next(&mut subscriber).await, payload);
    }
}

async fn closes_on_oversized_payload(kind: ServerKind) {
    let options = BrokerOptions {
        max_payload_bytes: 1000,
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    assert_eq!(raw.info["max_payload"], 1000);
    raw.send(&format!("PUB big 1001\r\n{}\r\n", "x".repeat(1001)))
        .await;
    assert_eq!(raw.close_error().await, "Maximum Payload Violation");
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("HPUB big 12 1001\r\nNATS/1.0\r\n\r\n").await;
    assert_eq!(raw.close_error().await, "Maximum Payload Violation");
}

async fn subscription_ends_after_its_maximum(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB count 1\r\nUNSUB 1 3\r\n").await;
    raw.send(&"PUB count 0\r\n\r\n".repeat(5)).await;
    assert_eq!(raw.sync().await.len(), 3);
    raw.send("PUB count inbox 0\r\n\r\nSUB inbox 2\r\nPUB count inbox 0\r\n\r\n")
        .await;
    // No subscriber is left: the second request, whose inbox exists, gets a no-responders status.
    assert_eq!(sids(raw.sync().await), ["2"]);
}

async fn subscription_ends_immediately_if_maximum_is_reached(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB count 1\r\nPUB count 0\r\n\r\nPUB count 0\r\n\r\n")
        .await;
    assert_eq!(raw.sync().await.len(), 2);
    raw.send("UNSUB 1 2\r\nPUB count 0\r\n\r\n").await;
    assert_eq!(raw.sync().await, []);
}

async fn subscription_id_can_be_reused(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    raw.send("SUB a 1\r\nUNSUB 1\r\nSUB b 1\r\nPUB a 0\r\n\r\nPUB b 0\r\n\r\n")
        .await;
    let received = raw.sync().await;
    assert!(matches!(&received[..], [ServerOp::Message(message)] if message.subject == "b"));
    raw.send("UNSUB 1 2\r\nPUB b 0\r\n\r\nSUB a 1\r\nPUB a 0\r\n\r\n")
        .await;
    assert_eq!(raw.sync().await.len(), 2);
}

async fn clients_reconnect_after_restart(kind: ServerKind) {
    let mut server = kind.start(BrokerOptions::default()).await;
    let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(20));
    let client = options.connect(server.url()).await.unwrap();
    let mut subscriber = subscribe(&client, "greet").await;
    let mut old = RawClient::connect_default(server.addr()).await;
    server.restart().await;
    eventually("the old connection is closed", async || {
        old.next().await.is_none()
    })
    .await;
    let publisher = server.client().await;
    eventually("the subscription is restored", async || {
        publisher.publish("greet", "again".into()).await.unwrap();
        timeout(Duration::from_millis(100), subscriber.next())
            .await
            .is_ok()
    })
    .await;
}

async fn buffers_for_slow_readers_in_order(kind: ServerKind) {
    // In total more than loopback sockets buffer, and less than the broker buffers.
    const MESSAGES: usize = 512;
    let server = kind.start(BrokerOptions::default()).await;
    let mut slow_reader = RawClient::connect_default(server.addr()).await;
    slow_reader.send("SUB flood 1\r\n").await;
    slow_reader.sync().await;
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
        let message = slow_reader.message().await;
        assert_eq!(message.payload.len(), format!("{number} {filler}").len());
        assert!(message.payload.starts_with(format!("{number} ").as_bytes()));
    }
}

async fn disconnects_only_the_slow_consumer(kind: ServerKind) {
    // In total far more than loopback sockets and the broker buffer.
    const MESSAGES: usize = 1000;
    const BYTES: usize = 64 * 1024;
    let options = BrokerOptions {
        max_pending_bytes: 2 * 1024 * 1024,
        // Disabled, so that the amount decides and not the time.
        write_deadline: Duration::from_secs(60),
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut slow = RawClient::connect_default(server.addr()).await;
    slow.send("SUB flood 1\r\n").await;
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
    let mut received = 0;
    while let Some(op) = slow.next_including_pings().await {
        received += usize::from(matches!(op, ServerOp::Message(_)));
    }
    assert!(received < MESSAGES, "the slow consumer received everything");
}

async fn requires_token(kind: ServerKind) {
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

async fn requires_user_and_password(kind: ServerKind) {
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
    let connect = |user: &str, password: &str| {
        ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            .connect(server.url())
    };
    connect("ann", "secret").await.unwrap();
    for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("", "")] {
        let error = connect(user, password).await.unwrap_err();
        assert_eq!(
            error.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation
        );
    }
}

async fn rejects_operations_before_authentication(kind: ServerKind) {
    let auth = Auth::Token("let-me-in".to_owned());
    let server = kind
        .start(BrokerOptions {
            auth,
            ..BrokerOptions::default()
        })
        .await;
    let mut raw = RawClient::open(server.addr()).await;
    assert_eq!(raw.info["auth_required"], true);
    raw.send("SUB > 1\r\n").await;
    assert_eq!(raw.close_error().await, "Authorization Violation");
    // A connection without CONNECT is closed after a timeout.
    let mut raw = RawClient::open(server.addr()).await;
    assert_eq!(raw.close_error().await, "Authentication Timeout");
}

async fn acknowledges_verbose_clients(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::open(server.addr()).await;
    let json = r#"{"verbose":true,"pedantic":false,"headers":true}"#;
    raw.send(&format!(
        "CONNECT {json}\r\nSUB a 1\r\nUNSUB 1 5\r\nPUB b 0\r\n\r\nUNSUB 1\r\n"
    ))
    .await;
    raw.send("HPUB b 12 12\r\nNATS/1.0\r\n\r\n\r\n").await;
    assert_eq!(raw.sync().await, [const { ServerOp::Ok }; 6]);
}

async fn reports_invalid_subjects_to_pedantic_clients(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":true}"#;
    let mut raw = RawClient::connect(server.addr(), json).await;
    for subject in ["a.*", "a.>", "a..b"] {
        raw.send(&format!("PUB {subject} 0\r\n\r\n")).await;
        assert_eq!(
            raw.sync().await,
            [ServerOp::Error("Invalid Publish Subject".into())]
        );
    }
}

async fn excludes_publisher_without_echo(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let json = r#"{"verbose":false,"pedantic":false,"echo":false}"#;
    let mut raw = RawClient::connect(server.addr(), json).await;
    raw.send("SUB a 1\r\nSUB a workers 2\r\nPUB a 0\r\n\r\n")
        .await;
    assert_eq!(raw.sync().await, []);
    let other = server.client().await;
    other.publish("a", "from another".into()).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(&raw.message().await.payload[..], b"from another");
    raw.message().await;
    // In a queue group the other members receive the message.
    raw.send("SUB b workers 3\r\nSUB b workers 4\r\n").await;
    raw.sync().await;
    let mut member = RawClient::connect_default(server.addr()).await;
    member.send("SUB b workers 1\r\n").await;
    member.sync().await;
    raw.send(&"PUB b 0\r\n\r\n".repeat(20)).await;
    assert_eq!(raw.sync().await, []);
    for _ in 0..20 {
        member.message().await;
    }
}

async fn rejects_invalid_pattern_without_closing(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    for pattern in ["a..b", ".a", "a.", "a.>.b", ">.a"] {
        raw.send(&format!("SUB {pattern} 1\r\n")).await;
        assert_eq!(
            raw.sync().await,
            [ServerOp::Error("Invalid Subject".into())],
            "{pattern}"
        );
    }
}

async fn closes_on_unknown_operation(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    for noise in [
        "HELLO\r\n",
        "PUB a 1\r\nxyz\r\n",
        "\u{0}\u{1}\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        let mut raw = RawClient::connect_default(server.addr()).await;
        raw.send(noise).await;
        assert_eq!(
            raw.close_error().await,
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
        let mut raw = RawClient::connect_default(server.addr()).await;
        raw.send(noise).await;
        while raw.next().await.is_some() {}
    }
    // The server still accepts clients.
    RawClient::connect_default(server.addr()).await;
}

async fn closes_on_overlong_line(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let mut raw = RawClient::connect_default(server.addr()).await;
    let longest = "x".repeat(4096 - "SUB  1".len());
    raw.send(&format!("SUB {longest} 1\r\nPUB {longest} 0\r\n\r\n"))
        .await;
    assert_eq!(sids(raw.sync().await), ["1"]);
    raw.try_send(&format!("SUB {} 1\r\n", "x".repeat(70_000)))
        .await;
    assert_eq!(
        raw.close_error().await.to_lowercase(),
        "maximum control line exceeded"
    );
}

async fn disconnects_client_without_pong(kind: ServerKind) {
    let options = BrokerOptions {
        ping_interval: Duration::from_millis(100),
        max_pings_out: 2,
        ..BrokerOptions::default()
    };
    let server = kind.start(options).await;
    let mut answering = RawClient::connect_default(server.addr()).await;
    let mut silent = RawClient::connect_default(server.addr()).await;
    let watch = async {
        let mut received = Vec::new();
        while let Some(op) = silent.next_including_pings().await {
            received.push(op);
        }
        received
    };
    let received = tokio::select! {
        received = watch => received,
        received = answering.next() => panic!("{received:?} for a client that answers pings"),
    };
    assert!(
        received.iter().filter(|op| **op == ServerOp::Ping).count() >= 2,
        "{received:?}"
    );
    assert_eq!(
        received.last(),
        Some(&ServerOp::Error("Stale Connection".into()))
    );
    answering.sync().await;
}

async fn info_contains_required_fields(kind: ServerKind) {
    let server = kind.start(BrokerOptions::default()).await;
    let (first, second) = (
        RawClient::open(server.addr()).await,
        RawClient::open(server.addr()).await,
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

/// Subscribes, and waits until the server has processed the subscription.
async fn subscribe(client: &async_nats::Client, pattern: &str) -> Subscriber {
    let subscriber = client.subscribe(pattern.to_owned()).await.unwrap();
    // The reply to a request, here "no responders", follows everything that was sent before it.
    let _ = client.request("no.responders", "".into()).await;
    subscriber
}

async fn next(subscriber: &mut Subscriber) -> String {
    let message = timeout(PATIENCE, subscriber.next())
        .await
        .expect("no message arrived");
    String::from_utf8(message.expect("the connection is lost").payload.to_vec()).unwrap()
}

fn sids(ops: Vec<ServerOp>) -> Vec<String> {
    let sids = ops.into_iter().map(|op| match op {
        ServerOp::Message(message) => message.sid.to_string(),
        other => panic!("{other:?}"),
    });
    sids.collect()
}
