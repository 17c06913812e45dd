//! Start, stop, restart and drop of the embedded broker, and its counters.

use std::time::Duration;

use berth_broker::{Auth, Broker, BrokerError, BrokerOptions, Stats};
use tokio::net::TcpStream;

use crate::raw_client::RawClient;
use crate::server::eventually;

#[tokio::test]
async fn refuses_connections_while_stopped_and_keeps_its_port() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let addr = broker.addr();
    let mut raw = RawClient::connect_default(addr).await;
    raw.send("SUB a 1\r\n").await;
    raw.sync().await;
    assert_eq!(broker.stats().subscriptions, 1);
    broker.stop().await;
    assert_eq!(raw.next().await, None);
    assert!(TcpStream::connect(addr).await.is_err());
    broker.stop().await;
    broker.restart().await.unwrap();
    assert_eq!(broker.addr(), addr);
    assert_eq!(broker.url(), format!("nats://{addr}"));
    assert_eq!(broker.stats(), Stats::default());
    RawClient::connect_default(addr).await;
    for _ in 0..20 {
        broker.restart().await.unwrap();
        RawClient::connect_default(addr).await;
    }
}

#[tokio::test]
async fn drop_closes_listener_and_connections() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let addr = broker.addr();
    let mut raw = RawClient::connect_default(addr).await;
    drop(broker);
    assert_eq!(raw.next().await, None);
    eventually("connections are refused", async || {
        TcpStream::connect(addr).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn start_fails_if_port_is_in_use() {
    let first = Broker::start(BrokerOptions::default()).await.unwrap();
    let options = BrokerOptions {
        addr: first.addr(),
        ..BrokerOptions::default()
    };
    let BrokerError::Listen { addr, .. } = Broker::start(options).await.unwrap_err() else {
        panic!("unexpected error")
    };
    assert_eq!(addr, first.addr());
}

#[tokio::test]
async fn removes_connection_and_subscriptions_of_disconnected_clients() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    for _ in 0..50 {
        let mut raw = RawClient::connect_default(broker.addr()).await;
        raw.send("SUB a.* 1\r\nSUB a.b workers 2\r\nSUB > 3\r\nPUB a.b 0\r\n\r\n")
            .await;
        assert_eq!(raw.sync().await.len(), 3);
    }
    eventually("connections and subscriptions are removed", async || {
        let stats = broker.stats();
        (stats.connections, stats.subscriptions) == (0, 0)
    })
    .await;
    assert_eq!(
        (broker.stats().messages_in, broker.stats().messages_out),
        (50, 150)
    );
}

#[tokio::test]
async fn exhausted_subscriptions_do_not_count_towards_the_limit() {
    let options = BrokerOptions {
        max_subscriptions: 100,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut raw = RawClient::connect_default(broker.addr()).await;
    for number in 0..5000 {
        raw.send(&format!("SUB i{number} {number}\r\nUNSUB {number} 1\r\n"))
            .await;
        raw.send(&format!("PUB i{number} 0\r\n\r\n")).await;
        assert_eq!(raw.message().await.sid, *number.to_string());
    }
    assert_eq!(broker.stats().subscriptions, 0);
}

#[tokio::test]
async fn silent_clients_lose_their_places() {
    let options = BrokerOptions {
        max_connections: 2,
        auth_timeout: Duration::from_millis(50),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut silent = RawClient::open(broker.addr()).await;
    let mut client = RawClient::connect_default(broker.addr()).await;
    assert_eq!(silent.close_error().await, "Authentication Timeout");
    eventually("a connection is free", async || {
        broker.stats().connections == 1
    })
    .await;
    RawClient::connect_default(broker.addr()).await;
    assert_eq!(client.sync().await, []);
}

#[tokio::test]
async fn limits_connections_and_subscriptions() {
    let options = BrokerOptions {
        max_connections: 2,
        max_subscriptions: 3,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut first = RawClient::connect_default(broker.addr()).await;
    let second = RawClient::connect_default(broker.addr()).await;
    let mut third = RawClient::open(broker.addr()).await;
    assert_eq!(third.close_error().await, "maximum connections exceeded");
    drop(second);
    eventually("a connection is free", async || {
        broker.stats().connections == 1
    })
    .await;
    RawClient::connect_default(broker.addr()).await;
    first
        .send("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nSUB d 4\r\n")
        .await;
    let received = first.sync().await;
    assert_eq!(
        received,
        [berth_broker::frame::ServerOp::Error(
            "maximum subscriptions exceeded".into()
        )]
    );
}

#[tokio::test]
async fn handles_very_deep_subjects() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let mut raw = RawClient::connect_default(broker.addr()).await;
    let deep = |token: &str| vec![token; 2040].join(".");
    raw.send(&format!("SUB {} 1\r\nSUB {} 2\r\n", deep("a"), deep("*")))
        .await;
    raw.send(&format!("SUB {}.> 3\r\n", vec!["*"; 2039].join(".")))
        .await;
    raw.send(&format!("PUB {} 0\r\n\r\n", deep("a"))).await;
    assert_eq!(raw.sync().await.len(), 3);
    raw.send("UNSUB 1\r\n").await;
    raw.sync().await;
    drop(raw);
    eventually("the subscriptions are removed", async || {
        broker.stats().subscriptions == 0
    })
    .await;
    let mut raw = RawClient::connect_default(broker.addr()).await;
    raw.send(&format!("SUB {} 1\r\n", deep("a"))).await;
    raw.sync().await;
    broker.stop().await;
}

#[tokio::test]
async fn disconnects_client_that_reads_nothing_for_the_write_deadline() {
    let options = BrokerOptions {
        write_deadline: Duration::from_millis(200),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut stuck = RawClient::connect_default(broker.addr()).await;
    stuck.send("SUB flood 1\r\n").await;
    stuck.sync().await;
    let mut publisher = RawClient::connect_default(broker.addr()).await;
    // More than loopback sockets buffer, and less than the broker buffers.
    let message = format!("PUB flood 65536\r\n{}\r\n", "x".repeat(65_536));
    for _ in 0..512 {
        publisher.send(&message).await;
    }
    eventually("the client is disconnected", async || {
        broker.stats().connections == 1
    })
    .await;
    assert_eq!(broker.stats().slow_consumers, 1);
    publisher.sync().await;
}

#[tokio::test]
async fn error_reaches_client_that_continues_to_send() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    for _ in 0..10 {
        let mut raw = RawClient::connect_default(broker.addr()).await;
        let size = 8 * 1024 * 1024;
        raw.send(&format!("PUB big {size}\r\n{}\r\n", "x".repeat(size)))
            .await;
        assert_eq!(raw.close_error().await, "Maximum Payload Violation");
    }
}

#[test]
fn debug_output_contains_no_secret() {
    let token = Auth::Token("hush-1".to_owned());
    let user = Auth::UserPassword {
        user: "hush-2".to_owned(),
        password: "hush-3".to_owned(),
    };
    for auth in [token, user] {
        let shown = format!(
            "{:?}",
            BrokerOptions {
                auth,
                ..BrokerOptions::default()
            }
        );
        assert!(!shown.contains("hush"), "{shown}");
    }
}
