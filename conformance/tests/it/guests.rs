//! The suite's own guests, each run for real: they must do what their role's contract says.

use std::time::Duration;

use berth_conformance::spec::roles::{Kind, Role};
use berth_conformance::testbed::beacon::{Beacon, Beacons};
use berth_conformance::testbed::guest;

mod core_world;
mod wasmtime_world;

use wasmtime_world::{End, Setup, World};

const SOON: Duration = Duration::from_secs(20);

fn calling(beacon: &Beacon) -> Setup {
    Setup::with_variable("BEACON", &beacon.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guest_that_can_run_instantiates() {
    let world = World::new();
    for role in Role::ALL {
        let instantiated = world.instantiate(*role).await;
        match role.kind() {
            Kind::Broken if *role != Role::NoRun => {
                assert!(instantiated.is_err(), "{role} is broken and yet starts");
            }
            _ => instantiated.unwrap_or_else(|error| panic!("{role}: {error}")),
        }
    }
    let unmet = world.instantiate(Role::Unmet).await.unwrap_err();
    assert!(unmet.contains("acme:nope/thing@1.0.0"), "{unmet}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_says_hello() {
    let world = World::new();
    let answer = world.get(Role::Hello, "/", Setup::default()).await.unwrap();
    assert_eq!(answer, "hello");
    let answer = world
        .get(Role::HelloTwo, "/", Setup::default())
        .await
        .unwrap();
    assert_eq!(answer, "hello");
    let other = Setup::with_variable("BEACON", "other words");
    assert_eq!(
        world.get(Role::HelloTwo, "/", other).await.unwrap(),
        "other words"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_tells_the_request_and_returns_its_body() {
    let world = World::new();
    let answer = world
        .get(Role::HttpEcho, "/a/b?c=d", Setup::default())
        .await
        .unwrap();
    assert_eq!(answer, "GET\n/a/b?c=d\n-\n");
    // Larger than what one read or one write takes.
    let body = "0123456789".repeat(20_000);
    let request = hyper::Request::builder()
        .method("POST")
        .uri("http://berth.example/x")
        .header("X-Berth", "marked")
        .body(body.clone())
        .unwrap();
    let answer = world
        .request(Role::HttpEcho, request, Setup::default())
        .await
        .unwrap();
    assert_eq!(answer, format!("POST\n/x\nmarked\n{body}"));
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BERTH"] {
        let request = hyper::Request::builder()
            .method(method)
            .uri("http://berth.example/")
            .body(String::new())
            .unwrap();
        let answer = world
            .request(Role::HttpEcho, request, Setup::default())
            .await
            .unwrap();
        assert_eq!(answer, format!("{method}\n/\n-\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trapping_and_spinning_guests_answer_only_ok() {
    let world = World::new();
    let beacons = Beacons::start().await.unwrap();
    let beacon = beacons.beacon();
    for role in [Role::HttpTrap, Role::HttpSpin] {
        assert_eq!(
            world.get(role, "/ok", calling(&beacon)).await.unwrap(),
            "ok"
        );
    }
    let trap = world
        .get(Role::HttpTrap, "/", Setup::default())
        .await
        .unwrap_err();
    assert!(trap.contains("unreachable"), "{trap}");
    let spin = world
        .get(Role::HttpSpin, "/", calling(&beacon).cut_after_ms(300))
        .await;
    assert!(spin.unwrap_err().contains("interrupt"));
    assert_eq!(beacon.count("spin"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alloc_gets_what_the_limit_grants() {
    let world = World::new();
    let limited = || Setup::default().memory_mib(8);
    assert_eq!(
        world.get(Role::HttpAlloc, "/4", limited()).await.unwrap(),
        "ok"
    );
    assert_eq!(
        world.get(Role::HttpAlloc, "/0", limited()).await.unwrap(),
        "ok"
    );
    assert_eq!(
        world.get(Role::HttpAlloc, "/16", limited()).await.unwrap(),
        "refused"
    );
    let endless = world
        .get(Role::HttpAlloc, "/endless", limited())
        .await
        .unwrap_err();
    assert!(endless.contains("unreachable"), "{endless}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn env_tells_every_variable() {
    let world = World::new();
    let setup = Setup::with_variable("A", "1").and_variable("B", "two = 2");
    assert_eq!(
        world.get(Role::HttpEnv, "/", setup).await.unwrap(),
        "A=1\nB=two = 2\n"
    );
    assert_eq!(
        world
            .get(Role::HttpEnv, "/", Setup::default())
            .await
            .unwrap(),
        ""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_tells_the_status_or_that_there_was_none() {
    let world = World::new();
    let beacons = Beacons::start().await.unwrap();
    let beacon = beacons.beacon();
    let to = |value: String| Setup::with_variable("BEACON", &value);
    let known = to(format!("{}/fetched", beacon.value));
    assert_eq!(world.get(Role::HttpFetch, "/", known).await.unwrap(), "200");
    assert_eq!(beacon.count("fetched"), 1);
    let unknown = to(format!("{}/nobody/x", beacon.authority));
    assert_eq!(
        world.get(Role::HttpFetch, "/", unknown).await.unwrap(),
        "404"
    );
    let bare = to(beacon.authority.clone());
    assert_eq!(world.get(Role::HttpFetch, "/", bare).await.unwrap(), "404");
    let nowhere = to("127.0.0.1:1/x".to_owned());
    assert_eq!(
        world.get(Role::HttpFetch, "/", nowhere).await.unwrap(),
        "denied"
    );
    assert_eq!(
        world
            .get(Role::HttpFetch, "/", Setup::default())
            .await
            .unwrap(),
        "denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_and_written_below_the_mount_only() {
    let world = World::new();
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let writable = || Setup::default().directory(&inner, true);
    let readable = || Setup::default().directory(&inner, false);
    let get = |path: &'static str, setup| world.get(Role::HttpFiles, path, setup);
    assert_eq!(get("/list", Setup::default()).await.unwrap(), "0");
    assert_eq!(get("/list", writable()).await.unwrap(), "1");
    assert_eq!(get("/read/file", writable()).await.unwrap(), "denied");
    assert_eq!(get("/write/file", writable()).await.unwrap(), "ok");
    assert_eq!(
        std::fs::read_to_string(inner.join("file")).unwrap(),
        "berth"
    );
    assert_eq!(get("/read/file", readable()).await.unwrap(), "berth");
    assert_eq!(get("/write/file", readable()).await.unwrap(), "denied");
    assert_eq!(get("/read/../secret", writable()).await.unwrap(), "denied");
    assert_eq!(get("/read/", writable()).await.unwrap(), "denied");
    assert_eq!(
        get("/write/file", Setup::default()).await.unwrap(),
        "denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugin_guests_use_their_interface() {
    let world = World::new();
    let config = Setup::default().config("colour", "green");
    assert_eq!(
        world
            .get(Role::HttpConfig, "/colour", config)
            .await
            .unwrap(),
        "green"
    );
    let none = world
        .get(Role::HttpConfig, "/colour", Setup::default())
        .await
        .unwrap();
    assert_eq!(none, "none");

    let store = Setup::default();
    let get = |path: &'static str| world.get(Role::HttpKeyvalue, path, store.clone());
    assert_eq!(get("/get/a").await.unwrap(), "none");
    assert_eq!(get("/set/a").await.unwrap(), "ok");
    assert_eq!(get("/get/a").await.unwrap(), "berth");
    assert_eq!(get("/get/b").await.unwrap(), "none");
    assert_eq!(get("/delete/a").await.unwrap(), "ok");
    assert_eq!(get("/get/a").await.unwrap(), "none");

    let logged = Setup::default();
    let answer = world
        .get(Role::HttpLogging, "/a line", logged.clone())
        .await;
    assert!(answer.is_err(), "a path with a blank is no path");
    assert_eq!(
        world
            .get(Role::HttpLogging, "/line", logged.clone())
            .await
            .unwrap(),
        "ok"
    );
    assert_eq!(logged.log_lines(), ["info berth /line"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_tells_open_from_denied() {
    let world = World::new();
    let beacons = Beacons::start().await.unwrap();
    let open = || calling(&beacons.beacon());
    let get = |setup| world.get(Role::HttpSocket, "/", setup);
    assert_eq!(get(open().sockets()).await.unwrap(), "open");
    assert_eq!(get(open()).await.unwrap(), "denied");
    let closed = Setup::with_variable("BEACON", "127.0.0.1:1/x").sockets();
    assert_eq!(get(closed).await.unwrap(), "denied");
    assert_eq!(get(Setup::default().sockets()).await.unwrap(), "denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_end_as_their_role_says() {
    let world = World::new();
    let beacons = Beacons::start().await.unwrap();
    for (role, word, end) in [
        (Role::ServiceOk, "run", End::Well),
        (Role::ServiceErr, "run", End::Failed),
        (Role::ServiceTrap, "run", End::Trap("unreachable")),
        (Role::ServiceExit0, "run", End::Exit(0)),
        (Role::ServiceExit1, "run", End::Exit(1)),
        (Role::ServiceSlowFail, "run", End::Failed),
        (Role::ServiceOnce, "run", End::Well),
        (Role::ServiceFresh, "fresh", End::Trap("unreachable")),
    ] {
        let beacon = beacons.beacon();
        assert_eq!(world.run(role, calling(&beacon)).await, end, "{role}");
        let heard: Vec<_> = beacon.hits().into_iter().map(|hit| hit.what).collect();
        assert_eq!(heard, [word], "{role}");
        // No variable, nobody there: the guest goes on.
        assert_eq!(
            world.run(role, Setup::default()).await,
            end,
            "{role} without a beacon"
        );
        let nobody = Setup::with_variable("BEACON", "127.0.0.1:1/token");
        assert_eq!(
            world.run(role, nobody).await,
            end,
            "{role} with a beacon that is off"
        );
    }
}

/// A component that has trapped cannot be entered again, so the mark is shown on its core module.
#[test]
fn fresh_tells_used_memory() {
    let words = core_world::words_of_two_runs(&guest::image(Role::ServiceFresh).unwrap());
    assert_eq!(words, ["/token/fresh", "/token/stale"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_last_show_life_until_they_are_ended() {
    let world = World::new();
    let beacons = Beacons::start().await.unwrap();

    let beacon = beacons.beacon();
    let run = world.run(Role::ServiceRun, calling(&beacon));
    let up = beacon.wait("up", 1, SOON);
    tokio::select! {
        end = run => panic!("service-run ended: {end:?}"),
        heard = up => assert_eq!(heard.unwrap().len(), 1),
    }

    let beacon = beacons.beacon();
    let run = world.run(Role::ServiceBeat, calling(&beacon));
    let beats = beacon.wait("beat", 4, SOON);
    tokio::select! {
        end = run => panic!("service-beat ended: {end:?}"),
        heard = beats => {
            let heard = heard.unwrap();
            assert!(heard[3].at - heard[0].at >= Duration::from_millis(600));
        }
    }

    let beacon = beacons.beacon();
    let end = world
        .run(Role::ServiceSpin, calling(&beacon).cut_after_ms(300))
        .await;
    assert_eq!(end, End::Trap("interrupt"));
    assert_eq!(beacon.count("spin"), 1);
}

#[test]
fn images_are_the_same_in_every_call() {
    for role in Role::ALL {
        assert_eq!(guest::image(*role).unwrap(), guest::image(*role).unwrap());
    }
}
