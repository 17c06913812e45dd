//! The suite's own guests on Wasmtime: each must fulfill the contract of its role.

use std::time::Duration;

use berth_conformance::spec::roles::{Kind, Role};
use berth_conformance::testbed::beacon::{Beacon, BeaconServer};
use berth_conformance::testbed::guest;

mod component_runner;
mod core_runner;

use component_runner::{End, Runner, Setup};

const LIMIT: Duration = Duration::from_secs(20);

fn with_beacon(beacon: &Beacon) -> Setup {
    Setup::with_variable("BEACON", &beacon.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_but_broken_guests_instantiate() {
    let runner = Runner::new();
    for role in Role::ALL {
        let instantiated = runner.instantiate(*role).await;
        match role.kind() {
            Kind::Broken if *role != Role::NoRun => {
                assert!(instantiated.is_err(), "{role} is broken but instantiates");
            }
            _ => instantiated.unwrap_or_else(|error| panic!("{role}: {error}")),
        }
    }
    let unmet = runner.instantiate(Role::Unmet).await.unwrap_err();
    assert!(unmet.contains("acme:nope/thing@1.0.0"), "{unmet}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_responds_with_its_text() {
    let runner = Runner::new();
    let response = runner
        .get(Role::Hello, "/", Setup::default())
        .await
        .unwrap();
    assert_eq!(response, "hello");
    let response = runner
        .get(Role::HelloTwo, "/", Setup::default())
        .await
        .unwrap();
    assert_eq!(response, "hello");
    let other = Setup::with_variable("BEACON", "other text");
    assert_eq!(
        runner.get(Role::HelloTwo, "/", other).await.unwrap(),
        "other text"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_echo_responds_with_the_request() {
    let runner = Runner::new();
    let response = runner
        .get(Role::HttpEcho, "/a/b?c=d", Setup::default())
        .await
        .unwrap();
    assert_eq!(response, "GET\n/a/b?c=d\n-\n");
    // Larger than one read or one write.
    let body = "0123456789".repeat(20_000);
    let request = hyper::Request::builder()
        .method("POST")
        .uri("http://berth.example/x")
        .header("X-Berth", "marked")
        .body(body.clone())
        .unwrap();
    let response = runner
        .request(Role::HttpEcho, request, Setup::default())
        .await
        .unwrap();
    assert_eq!(response, format!("POST\n/x\nmarked\n{body}"));
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BERTH"] {
        let request = hyper::Request::builder()
            .method(method)
            .uri("http://berth.example/")
            .body(String::new())
            .unwrap();
        let response = runner
            .request(Role::HttpEcho, request, Setup::default())
            .await
            .unwrap();
        assert_eq!(response, format!("{method}\n/\n-\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_trap_and_http_spin_respond_only_on_ok() {
    let runner = Runner::new();
    let beacons = BeaconServer::start().await.unwrap();
    let beacon = beacons.new_beacon();
    for role in [Role::HttpTrap, Role::HttpSpin] {
        assert_eq!(
            runner.get(role, "/ok", with_beacon(&beacon)).await.unwrap(),
            "ok"
        );
    }
    let trap = runner
        .get(Role::HttpTrap, "/", Setup::default())
        .await
        .unwrap_err();
    assert!(trap.contains("unreachable"), "{trap}");
    let spin = runner
        .get(
            Role::HttpSpin,
            "/",
            with_beacon(&beacon).interrupt_after_ms(300),
        )
        .await;
    assert!(spin.unwrap_err().contains("interrupt"));
    assert_eq!(beacon.count("spin"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_alloc_respects_the_memory_limit() {
    let runner = Runner::new();
    let limited = || Setup::default().memory_mib(8);
    assert_eq!(
        runner.get(Role::HttpAlloc, "/4", limited()).await.unwrap(),
        "ok"
    );
    assert_eq!(
        runner.get(Role::HttpAlloc, "/0", limited()).await.unwrap(),
        "ok"
    );
    assert_eq!(
        runner.get(Role::HttpAlloc, "/16", limited()).await.unwrap(),
        "refused"
    );
    let endless = runner
        .get(Role::HttpAlloc, "/endless", limited())
        .await
        .unwrap_err();
    assert!(endless.contains("unreachable"), "{endless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_env_responds_with_all_variables() {
    let runner = Runner::new();
    let setup = Setup::with_variable("A", "1").and_variable("B", "two = 2");
    assert_eq!(
        runner.get(Role::HttpEnv, "/", setup).await.unwrap(),
        "A=1\nB=two = 2\n"
    );
    assert_eq!(
        runner
            .get(Role::HttpEnv, "/", Setup::default())
            .await
            .unwrap(),
        ""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_fetch_responds_with_the_status_or_denied() {
    let runner = Runner::new();
    let beacons = BeaconServer::start().await.unwrap();
    let beacon = beacons.new_beacon();
    let to = |value: String| Setup::with_variable("BEACON", &value);
    let known = to(format!("{}/fetched", beacon.value));
    assert_eq!(
        runner.get(Role::HttpFetch, "/", known).await.unwrap(),
        "200"
    );
    assert_eq!(beacon.count("fetched"), 1);
    let unknown = to(format!("{}/unknown/x", beacon.authority));
    assert_eq!(
        runner.get(Role::HttpFetch, "/", unknown).await.unwrap(),
        "404"
    );
    let bare = to(beacon.authority.clone());
    assert_eq!(runner.get(Role::HttpFetch, "/", bare).await.unwrap(), "404");
    let nowhere = to("127.0.0.1:1/x".to_owned());
    assert_eq!(
        runner.get(Role::HttpFetch, "/", nowhere).await.unwrap(),
        "denied"
    );
    assert_eq!(
        runner
            .get(Role::HttpFetch, "/", Setup::default())
            .await
            .unwrap(),
        "denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_files_is_confined_to_the_mount() {
    let runner = Runner::new();
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let writable = || Setup::default().writable_directory(&inner);
    let read_only = || Setup::default().read_only_directory(&inner);
    let get = |path: &'static str, setup| runner.get(Role::HttpFiles, path, setup);
    assert_eq!(get("/list", Setup::default()).await.unwrap(), "0");
    assert_eq!(get("/list", writable()).await.unwrap(), "1");
    assert_eq!(get("/read/file", writable()).await.unwrap(), "denied");
    assert_eq!(get("/write/file", writable()).await.unwrap(), "ok");
    assert_eq!(
        std::fs::read_to_string(inner.join("file")).unwrap(),
        "berth"
    );
    assert_eq!(get("/read/file", read_only()).await.unwrap(), "berth");
    assert_eq!(get("/write/file", read_only()).await.unwrap(), "denied");
    assert_eq!(get("/read/../secret", writable()).await.unwrap(), "denied");
    assert_eq!(get("/read/", writable()).await.unwrap(), "denied");
    assert_eq!(
        get("/write/file", Setup::default()).await.unwrap(),
        "denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugin_guests_use_their_interface() {
    let runner = Runner::new();
    let config = Setup::default().config("color", "green");
    assert_eq!(
        runner
            .get(Role::HttpConfig, "/color", config)
            .await
            .unwrap(),
        "green"
    );
    let none = runner
        .get(Role::HttpConfig, "/color", Setup::default())
        .await
        .unwrap();
    assert_eq!(none, "none");

    let store = Setup::default();
    let get = |path: &'static str| runner.get(Role::HttpKeyvalue, path, store.clone());
    assert_eq!(get("/get/a").await.unwrap(), "none");
    assert_eq!(get("/set/a").await.unwrap(), "ok");
    assert_eq!(get("/get/a").await.unwrap(), "berth");
    assert_eq!(get("/get/b").await.unwrap(), "none");
    assert_eq!(get("/delete/a").await.unwrap(), "ok");
    assert_eq!(get("/get/a").await.unwrap(), "none");

    let logged = Setup::default();
    let response = runner
        .get(Role::HttpLogging, "/a line", logged.clone())
        .await;
    assert!(response.is_err(), "a path with a space is invalid");
    assert_eq!(
        runner
            .get(Role::HttpLogging, "/line", logged.clone())
            .await
            .unwrap(),
        "ok"
    );
    assert_eq!(logged.log_lines(), ["info berth /line"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_socket_responds_with_open_or_denied() {
    let runner = Runner::new();
    let beacons = BeaconServer::start().await.unwrap();
    let open = || with_beacon(&beacons.new_beacon());
    let get = |setup| runner.get(Role::HttpSocket, "/", setup);
    assert_eq!(get(open().sockets()).await.unwrap(), "open");
    assert_eq!(get(open()).await.unwrap(), "denied");
    let closed = Setup::with_variable("BEACON", "127.0.0.1:1/x").sockets();
    assert_eq!(get(closed).await.unwrap(), "denied");
    assert_eq!(get(Setup::default().sockets()).await.unwrap(), "denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_end_as_their_contract_says() {
    let runner = Runner::new();
    let beacons = BeaconServer::start().await.unwrap();
    for (role, name, end) in [
        (Role::ServiceOk, "run", End::Success),
        (Role::ServiceErr, "run", End::Failed),
        (Role::ServiceTrap, "run", End::Trap("unreachable")),
        (Role::ServiceExit0, "run", End::Exit(0)),
        (Role::ServiceExit1, "run", End::Exit(1)),
        (Role::ServiceErrAfter300Ms, "run", End::Failed),
        (Role::ServiceOkAfter300Ms, "run", End::Success),
        (Role::ServiceFresh, "fresh", End::Trap("unreachable")),
    ] {
        let beacon = beacons.new_beacon();
        assert_eq!(runner.run(role, with_beacon(&beacon)).await, end, "{role}");
        let hits: Vec<_> = beacon.hits().into_iter().map(|hit| hit.name).collect();
        assert_eq!(hits, [name], "{role}");
        // Without the variable or a beacon server, the guest continues.
        assert_eq!(
            runner.run(role, Setup::default()).await,
            end,
            "{role} without a variable"
        );
        let no_server = Setup::with_variable("BEACON", "127.0.0.1:1/token");
        assert_eq!(
            runner.run(role, no_server).await,
            end,
            "{role} without a beacon server"
        );
    }
}

/// A component cannot be entered again after a trap, so the test runs its core module.
#[test]
fn service_fresh_detects_reused_memory() {
    let paths = core_runner::beacon_paths_of_two_runs(&guest::image(Role::ServiceFresh).unwrap());
    assert_eq!(paths, ["/token/fresh", "/token/stale"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_running_services_send_their_beacons() {
    let runner = Runner::new();
    let beacons = BeaconServer::start().await.unwrap();

    let beacon = beacons.new_beacon();
    let run = runner.run(Role::ServiceRun, with_beacon(&beacon));
    let up = beacon.wait("up", 1, LIMIT);
    tokio::select! {
        end = run => panic!("service-run ended: {end:?}"),
        hits = up => assert_eq!(hits.unwrap().len(), 1),
    }

    let beacon = beacons.new_beacon();
    let run = runner.run(Role::ServicePing, with_beacon(&beacon));
    let beacons_received = beacon.wait("ping", 4, LIMIT);
    tokio::select! {
        end = run => panic!("service-ping ended: {end:?}"),
        hits = beacons_received => {
            let hits = hits.unwrap();
            assert!(hits[3].at - hits[0].at >= Duration::from_millis(600));
        }
    }

    let beacon = beacons.new_beacon();
    let end = runner
        .run(
            Role::ServiceSpin,
            with_beacon(&beacon).interrupt_after_ms(300),
        )
        .await;
    assert_eq!(end, End::Trap("interrupt"));
    assert_eq!(beacon.count("spin"), 1);
}

#[test]
fn image_is_identical_in_every_call() {
    for role in Role::ALL {
        assert_eq!(guest::image(*role).unwrap(), guest::image(*role).unwrap());
    }
}
