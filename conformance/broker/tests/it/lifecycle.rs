//! Starting, stopping, restarting and dropping the embedded broker, and what it counts.

use std::time::Duration;

use berth_broker::{Auth, Broker, BrokerError, BrokerOptions, Stats};
use tokio::net::TcpStream;

use crate::server::eventually;
use crate::wire::Wire;

#[tokio::test]
async fn a_stopped_broker_refuses_and_comes_back_on_its_port() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let addr = broker.addr();
    let mut wire = Wire::quiet(addr).await;
    wire.say("SUB a 1\r\n").await;
    wire.sync().await;
    assert_eq!(broker.stats().subscriptions, 1);
    broker.stop().await;
    assert_eq!(wire.next().await, None);
    assert!(TcpStream::connect(addr).await.is_err());
    broker.stop().await;
    broker.restart().await.unwrap();
    assert_eq!(broker.addr(), addr);
    assert_eq!(broker.url(), format!("nats://{addr}"));
    assert_eq!(broker.stats(), Stats::default());
    Wire::quiet(addr).await;
    for _ in 0..20 {
        broker.restart().await.unwrap();
        Wire::quiet(addr).await;
    }
}

#[tokio::test]
async fn a_dropped_broker_ends_everything() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let addr = broker.addr();
    let mut wire = Wire::quiet(addr).await;
    drop(broker);
    assert_eq!(wire.next().await, None);
    eventually("connections are refused", async || {
        TcpStream::connect(addr).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let first = Broker::start(BrokerOptions::default()).await.unwrap();
    let options = BrokerOptions {
        addr: first.addr(),
        ..BrokerOptions::default()
    };
    let BrokerError::Listen { addr, .. } = Broker::start(options).await.unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(addr, first.addr());
}

#[tokio::test]
async fn nothing_is_left_of_clients_that_went_away() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    for _ in 0..50 {
        let mut wire = Wire::quiet(broker.addr()).await;
        wire.say("SUB a.* 1\r\nSUB a.b workers 2\r\nSUB > 3\r\nPUB a.b 0\r\n\r\n")
            .await;
        assert_eq!(wire.sync().await.len(), 3);
    }
    eventually("connections and subscriptions are gone", async || {
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
async fn one_subscription_per_request_adds_up_to_nothing() {
    let options = BrokerOptions {
        max_subscriptions: 100,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut wire = Wire::quiet(broker.addr()).await;
    for number in 0..5000 {
        wire.say(&format!("SUB i{number} {number}\r\nUNSUB {number} 1\r\n"))
            .await;
        wire.say(&format!("PUB i{number} 0\r\n\r\n")).await;
        assert_eq!(wire.message().await.sid, *number.to_string());
    }
    assert_eq!(broker.stats().subscriptions, 0);
}

#[tokio::test]
async fn connections_and_subscriptions_have_a_limit() {
    let options = BrokerOptions {
        max_connections: 2,
        max_subscriptions: 3,
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut first = Wire::quiet(broker.addr()).await;
    let second = Wire::quiet(broker.addr()).await;
    let mut third = Wire::open(broker.addr()).await;
    assert_eq!(third.farewell().await, "maximum connections exceeded");
    drop(second);
    eventually("there is room again", async || {
        broker.stats().connections == 1
    })
    .await;
    Wire::quiet(broker.addr()).await;
    first
        .say("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nSUB d 4\r\n")
        .await;
    let heard = first.sync().await;
    assert_eq!(
        heard,
        [berth_broker::frame::ServerOp::Error(
            "maximum subscriptions exceeded".into()
        )]
    );
}

#[tokio::test]
async fn very_deep_subjects_do_no_harm() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    let mut wire = Wire::quiet(broker.addr()).await;
    let deep = |token: &str| vec![token; 2040].join(".");
    wire.say(&format!("SUB {} 1\r\nSUB {} 2\r\n", deep("a"), deep("*")))
        .await;
    wire.say(&format!("SUB {}.> 3\r\n", vec!["*"; 2039].join(".")))
        .await;
    wire.say(&format!("PUB {} 0\r\n\r\n", deep("a"))).await;
    assert_eq!(wire.sync().await.len(), 3);
    wire.say("UNSUB 1\r\n").await;
    wire.sync().await;
    drop(wire);
    eventually("nothing is left", async || {
        broker.stats().subscriptions == 0
    })
    .await;
    let mut wire = Wire::quiet(broker.addr()).await;
    wire.say(&format!("SUB {} 1\r\n", deep("a"))).await;
    wire.sync().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_the_deadline_is_cut() {
    let options = BrokerOptions {
        write_deadline: Duration::from_millis(200),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut stuck = Wire::quiet(broker.addr()).await;
    stuck.say("SUB flood 1\r\n").await;
    stuck.sync().await;
    let mut publisher = Wire::quiet(broker.addr()).await;
    // More than sockets of loopback keep, and less than the broker keeps.
    let message = format!("PUB flood 65536\r\n{}\r\n", "x".repeat(65_536));
    for _ in 0..512 {
        publisher.say(&message).await;
    }
    eventually("it is cut", async || broker.stats().connections == 1).await;
    assert_eq!(broker.stats().slow_consumers, 1);
    publisher.sync().await;
}

#[tokio::test]
async fn an_error_is_heard_by_a_client_that_goes_on_talking() {
    let broker = Broker::start(BrokerOptions::default()).await.unwrap();
    for _ in 0..10 {
        let mut wire = Wire::quiet(broker.addr()).await;
        let size = 8 * 1024 * 1024;
        wire.say(&format!("PUB big {size}\r\n{}\r\n", "x".repeat(size)))
            .await;
        assert_eq!(wire.farewell().await, "Maximum Payload Violation");
    }
}

#[test]
fn debug_output_shows_no_secret() {
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
