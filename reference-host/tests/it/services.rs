//! Services run, fail, are restarted and end, and their workload with them.

use crate::role::Role;
use berth_sdk::host::{Host, ReportedState};
use berth_sdk::proto::LocalResources;

use crate::stage::{Instance, Stage, environment, http_interface, reported, within, workload};

/// Nobody listens there; the services go on when their beacon is not heard.
const NOWHERE: &str = "127.0.0.1:1/x";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_well_or_not() {
    let stage = Stage::set().await;
    for (role, state, reason) in [
        (Role::ServiceOk, ReportedState::Completed, ""),
        (Role::ServiceExit0, ReportedState::Completed, ""),
        (Role::ServiceErr, ReportedState::Failed, "returned an error"),
        (
            Role::ServiceExit1,
            ReportedState::Failed,
            "exit with code 1",
        ),
        (Role::ServiceTrap, ReportedState::Failed, "unreachable"),
    ] {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(stage.service(role, 0, environment(NOWHERE)));
        let (service, mut reports) = stage.start_reported(spec).await.unwrap();
        let report = reported(&mut reports, state).await;
        assert!(
            report.message.contains(reason),
            "{role}: {}",
            report.message
        );
        within(stage.host.stop(service)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_reported_and_used_up() {
    let stage = Stage::set().await;
    let mut spec = workload(vec![], vec![]);
    spec.service = Some(stage.service(Role::ServiceSlowFail, 2, environment(NOWHERE)));
    let (_service, mut reports) = stage.start_reported(spec).await.unwrap();
    let waiting = reported(&mut reports, ReportedState::Starting).await;
    assert!(
        waiting.message.contains("restart 1 of 2"),
        "{}",
        waiting.message
    );
    reported(&mut reports, ReportedState::Running).await;
    let waiting = reported(&mut reports, ReportedState::Starting).await;
    assert!(
        waiting.message.contains("restart 2 of 2"),
        "{}",
        waiting.message
    );
    let failed = reported(&mut reports, ReportedState::Failed).await;
    assert!(
        failed.message.contains("2 restarts are used up"),
        "{}",
        failed.message
    );
}

async fn with_routes(stage: &Stage, role: Role) -> (Instance, berth_sdk::host::Reports) {
    let hello = stage.component(Role::Hello, LocalResources::default());
    let mut spec = workload(vec![hello], vec![http_interface("hello.test", "")]);
    spec.service = Some(stage.service(role, 0, environment(NOWHERE)));
    stage.start_reported(spec).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_live_and_end_with_the_service() {
    let stage = Stage::set().await;
    let (running, _reports) = with_routes(&stage, Role::ServiceRun).await;
    assert_eq!(stage.get("hello.test", "/").await.status, 200);
    within(stage.host.stop(running)).await;
    assert_eq!(stage.get("hello.test", "/").await.status, 404);
    for (role, end) in [
        (Role::ServiceOk, ReportedState::Completed),
        (Role::ServiceErr, ReportedState::Failed),
    ] {
        let (_ended, mut reports) = with_routes(&stage, role).await;
        reported(&mut reports, end).await;
        assert_eq!(stage.get("hello.test", "/").await.status, 404, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_yields_is_stopped() {
    let stage = Stage::set().await;
    let mut spinning = Vec::new();
    for _ in 0..4 {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(stage.service(Role::ServiceSpin, 0, environment(NOWHERE)));
        spinning.push(stage.start(spec).await.unwrap());
    }
    let hello = stage.http(Role::Hello, "hello.test", LocalResources::default());
    let _hello = stage.start(hello).await.unwrap();
    assert_eq!(stage.get("hello.test", "/").await.status, 200);
    for service in spinning {
        within(stage.host.stop(service)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_must_have_something_to_run() {
    let stage = Stage::set().await;
    for role in [Role::NoRun, Role::Hello] {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(stage.service(role, 0, LocalResources::default()));
        let message = stage.refusal(spec).await;
        assert!(
            message.contains("does not export wasi:cli/run"),
            "{message}"
        );
    }
}
