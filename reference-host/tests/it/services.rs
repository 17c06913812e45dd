//! Services: runs, failures, restarts, and the effect on their workload.

use berth_conformance::spec::roles::Role;
use berth_sdk::host::{Host, ReportedState};
use berth_sdk::proto::LocalResources;

use crate::fixture::{
    Fixture, Instance, NO_RESTARTS, UNREACHABLE_BEACON, http_interface, resources_with_beacon,
    wait_for_report, within, workload,
};

#[tokio::test(flavor = "multi_thread")]
async fn reports_result_of_each_run() {
    let fixture = Fixture::new().await;
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
        spec.service =
            Some(fixture.service(role, NO_RESTARTS, resources_with_beacon(UNREACHABLE_BEACON)));
        let (service, mut reports) = fixture.start_with_reports(spec).await.unwrap();
        let report = wait_for_report(&mut reports, state).await;
        assert!(
            report.message.contains(reason),
            "{role}: {}",
            report.message
        );
        within(fixture.host.stop(service)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_restarts_until_they_are_used_up() {
    let fixture = Fixture::new().await;
    let mut spec = workload(vec![], vec![]);
    spec.service = Some(fixture.service(
        Role::ServiceErrAfter300Ms,
        2,
        resources_with_beacon(UNREACHABLE_BEACON),
    ));
    let (_service, mut reports) = fixture.start_with_reports(spec).await.unwrap();
    let waiting = wait_for_report(&mut reports, ReportedState::Starting).await;
    assert!(
        waiting.message.contains("restart 1 of 2"),
        "{}",
        waiting.message
    );
    wait_for_report(&mut reports, ReportedState::Running).await;
    let waiting = wait_for_report(&mut reports, ReportedState::Starting).await;
    assert!(
        waiting.message.contains("restart 2 of 2"),
        "{}",
        waiting.message
    );
    let failed = wait_for_report(&mut reports, ReportedState::Failed).await;
    assert!(
        failed.message.contains("2 restarts are used up"),
        "{}",
        failed.message
    );
}

async fn start_with_routes(
    fixture: &Fixture,
    role: Role,
) -> (Instance, berth_sdk::host::StatusReports) {
    let hello = fixture.component(Role::Hello, LocalResources::default());
    let mut spec = workload(vec![hello], vec![http_interface("hello.test")]);
    spec.service =
        Some(fixture.service(role, NO_RESTARTS, resources_with_beacon(UNREACHABLE_BEACON)));
    fixture.start_with_reports(spec).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_end_with_the_service() {
    let fixture = Fixture::new().await;
    let (running, _reports) = start_with_routes(&fixture, Role::ServiceRun).await;
    assert_eq!(fixture.get("hello.test", "/").await.status, 200);
    within(fixture.host.stop(running)).await;
    assert_eq!(fixture.get("hello.test", "/").await.status, 404);
    for (role, end) in [
        (Role::ServiceOk, ReportedState::Completed),
        (Role::ServiceErr, ReportedState::Failed),
    ] {
        let (_ended, mut reports) = start_with_routes(&fixture, role).await;
        wait_for_report(&mut reports, end).await;
        assert_eq!(fixture.get("hello.test", "/").await.status, 404, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_services_that_never_yield() {
    let fixture = Fixture::new().await;
    let mut spinning = Vec::new();
    for _ in 0..4 {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(fixture.service(
            Role::ServiceSpin,
            NO_RESTARTS,
            resources_with_beacon(UNREACHABLE_BEACON),
        ));
        spinning.push(fixture.start(spec).await.unwrap());
    }
    let hello = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let _hello = fixture.start(hello).await.unwrap();
    assert_eq!(fixture.get("hello.test", "/").await.status, 200);
    for service in spinning {
        within(fixture.host.stop(service)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_service_without_run_export() {
    let fixture = Fixture::new().await;
    for role in [Role::NoRun, Role::Hello] {
        let mut spec = workload(vec![], vec![]);
        spec.service = Some(fixture.service(role, NO_RESTARTS, LocalResources::default()));
        let message = fixture.start_error(spec).await;
        assert!(
            message.contains("cannot find export wasi:cli/run"),
            "{message}"
        );
    }
}
