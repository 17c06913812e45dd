//! Requests find their workload by its host name.

use crate::role::Role;
use berth_sdk::host::Host;
use berth_sdk::proto::LocalResources;

use crate::http;
use crate::stage::{Stage, environment, http_interface, within, workload};

fn plain() -> LocalResources {
    LocalResources::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_answers_from_start_to_stop() {
    let stage = Stage::set().await;
    let hello = stage
        .start(stage.http(Role::Hello, "hello.test", plain()))
        .await
        .unwrap();
    let answer = stage.get("hello.test", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(stage.host.describe().component_count, 1);
    within(stage.host.stop(hello)).await;
    assert_eq!(stage.get("hello.test", "/").await.status, 404);
    assert_eq!(stage.host.describe().component_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_found_by_every_spelling_and_nothing_else() {
    let stage = Stage::set().await;
    let component = stage.component(Role::Hello, plain());
    let spec = workload(
        vec![component],
        vec![http_interface("Hello.test", "www.hello.test, x_y")],
    );
    let _hello = stage.start(spec).await.unwrap();
    for host in [
        "hello.test",
        "HELLO.Test",
        "hello.test:8080",
        "www.hello.test",
    ] {
        assert_eq!(stage.get(host, "/").await.status, 200, "{host}");
    }
    for host in ["other.test", "x_y", "a.hello.test"] {
        assert_eq!(stage.get(host, "/").await.status, 404, "{host}");
    }
    let answer = http::send(stage.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_of_one_name_share_its_requests() {
    let stage = Stage::set().await;
    let mut replicas = Vec::new();
    for name in ["one", "two"] {
        let spec = stage.http(Role::HelloTwo, "shared.test", environment(name));
        replicas.push(stage.start(spec).await.unwrap());
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(stage.get("shared.test", "/").await.body);
    }
    assert_eq!(seen, ["one", "two", "one", "two"]);
    within(stage.host.stop(replicas.remove(0))).await;
    assert_eq!(stage.get("shared.test", "/").await.body, "two");
    assert_eq!(stage.get("shared.test", "/").await.body, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_500_and_the_next_request_is_served() {
    let stage = Stage::set().await;
    let _trap = stage
        .start(stage.http(Role::HttpTrap, "trap.test", plain()))
        .await
        .unwrap();
    assert_eq!(stage.get("trap.test", "/").await.status, 500);
    assert_eq!(stage.get("trap.test", "/ok").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_arrive_whole() {
    let stage = Stage::set().await;
    let _echo = stage
        .start(stage.http(Role::HttpEcho, "echo.test", plain()))
        .await
        .unwrap();
    let request = "PUT /a/b?c=d HTTP/1.1\r\nHost: echo.test\r\nX-Berth: me\r\n\
                   Content-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answer = within(http::send(stage.address, request)).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "PUT\n/a/b?c=d\nme\nbody")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_without_a_declaration_is_out_of_reach() {
    let stage = Stage::set().await;
    let spec = workload(vec![stage.component(Role::Hello, plain())], vec![]);
    let _hidden = stage.start(spec).await.unwrap();
    assert_eq!(stage.get("test", "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_host_name_is_refused() {
    let stage = Stage::set().await;
    for host in ["a_b", "a:80", "*", ""] {
        let message = stage.refusal(stage.http(Role::Hello, host, plain())).await;
        assert!(message.contains("not a host name"), "{message}");
    }
    let mut nameless = http_interface("x", "");
    nameless.config.clear();
    let component = stage.component(Role::Hello, plain());
    let message = stage
        .refusal(workload(vec![component], vec![nameless]))
        .await;
    assert!(message.contains("without a 'host'"), "{message}");
    let unserved = stage.component(Role::Idle, plain());
    let spec = workload(vec![unserved], vec![http_interface("idle.test", "")]);
    assert!(stage.start(spec).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn spinning_handlers_leave_room_for_others_and_end_with_their_workload() {
    let stage = Stage::set().await;
    let spec = stage.http(Role::HttpSpin, "spin.test", environment("127.0.0.1:1/x"));
    let spin = stage.start(spec).await.unwrap();
    let spinning: Vec<_> = (0..4)
        .map(|_| tokio::spawn(http::get(stage.address, "spin.test", "/")))
        .collect();
    for _ in 0..3 {
        assert_eq!(stage.get("spin.test", "/ok").await.status, 200);
    }
    within(stage.host.stop(spin)).await;
    for request in spinning {
        assert_eq!(within(request).await.unwrap().status, 503);
    }
}
