//! Suite as a library, as in the `cargo test` of a host.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use berth_conformance::Suite;
use berth_conformance::check::executor::Observer;
use berth_conformance::check::meta::CheckMeta;
use berth_conformance::check::outcome::Outcome;
use berth_conformance::check::verdict::Verdict;

const PROGRAM: &str = env!("CARGO_BIN_EXE_berth-conformance");
const MODEL: [&str; 6] = [
    PROGRAM,
    "model-host",
    "--nats-url",
    "{nats_url}",
    "--host-id",
    "{host_id}",
];

/// Counts concurrent checks.
#[derive(Default)]
struct ConcurrencyObserver {
    current: AtomicUsize,
    max: AtomicUsize,
}

impl Observer for ConcurrencyObserver {
    fn check_started(&self, _: &'static CheckMeta) {
        let current = self.current.fetch_add(1, Ordering::SeqCst) + 1;
        self.max.fetch_max(current, Ordering::SeqCst);
    }

    fn check_finished(&self, _: &Outcome) {
        self.current.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn model_host_passes_a_selection() {
    let report = Suite::builder()
        .command(MODEL)
        .only("status/*")
        .only("wire/unknown-command")
        .run()
        .await;
    report.assert_conformant();
    assert_eq!(report.verdict, Verdict::Partial);
    assert_eq!(report.target.name, "berth-conformance");
    assert!(report.environment.rtt_ms > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_limit_concurrent_checks() {
    for (jobs, expected) in [(1, 1..=1), (8, 2..=8)] {
        let observer = Arc::new(ConcurrencyObserver::default());
        let suite = Suite::builder()
            .command(MODEL)
            .only("json/*")
            .jobs(jobs)
            .observer(observer.clone());
        suite.run().await;
        let max = observer.max.load(Ordering::SeqCst);
        assert!(expected.contains(&max), "{max} concurrent with {jobs} jobs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_that_cannot_start_is_an_error() {
    let report = Suite::builder()
        .command(["/no/such/program", "{nats_url}"])
        .run()
        .await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Error, 3));
    assert!(report.error.unwrap().contains("/no/such/program"));
    let report = Suite::builder()
        .command(MODEL)
        .only("no/such-check")
        .run()
        .await;
    assert!(report.error.unwrap().contains("matches no check"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_a_target_whose_processes_share_an_id() {
    let fixed_id = MODEL.map(|argument| match argument {
        "{host_id}" => "fixed",
        other => other,
    });
    let report = Suite::builder()
        .command(fixed_id)
        .only("status/*")
        .run()
        .await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Error, 3));
    let error = report.error.unwrap();
    assert!(
        error.contains("\"fixed\"") && error.contains("{host_id}"),
        "{error}"
    );
}

#[test]
fn every_requirement_has_a_check_and_every_id_is_unique() {
    use berth_conformance::host::{checks, monitors};
    use berth_conformance::spec::requirements;
    use berth_conformance::spec::requirements::Level;
    let mut ids: Vec<&str> = checks::all().map(|check| check.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two checks with one id");
    let monitored = monitors::covered();
    for requirement in requirements::ALL {
        let checked = checks::all().any(|check| check.covers.contains(requirement))
            || monitored.contains(requirement.id);
        let judged = requirement.level != Level::May && requirement.excluded.is_none();
        assert_eq!(checked, judged, "{}", requirement.id);
    }
    for check in checks::all() {
        let (section, name) = check.id.split_once('/').unwrap();
        let is_valid =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(
            !name.is_empty()
                && [section, name]
                    .iter()
                    .all(|part| part.bytes().all(is_valid)),
            "{}",
            check.id
        );
        assert!(
            !check.covers.is_empty() && check.budget_s > 0,
            "{}",
            check.id
        );
    }
}
