//! The suite as a library: what somebody puts into a `cargo test` of their own.

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

#[derive(Default)]
struct Together {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Observer for Together {
    fn began(&self, _: &'static CheckMeta) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn ended(&self, _: &Outcome) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_passes_on_the_model_host() {
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
async fn jobs_bound_what_runs_at_once() {
    for (jobs, expected) in [(1, 1..=1), (8, 2..=8)] {
        let together = Arc::new(Together::default());
        let suite = Suite::builder()
            .command(MODEL)
            .only("json/*")
            .jobs(jobs)
            .observer(together.clone());
        suite.run().await;
        let most = together.most.load(Ordering::SeqCst);
        assert!(expected.contains(&most), "{most} at once with {jobs} jobs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_an_error_and_not_a_verdict_about_the_host() {
    let report = Suite::builder()
        .command(["/no/such/program", "{nats_url}"])
        .run()
        .await;
    assert_eq!((report.verdict, report.exit_code), (Verdict::Error, 3));
    assert!(report.trouble.unwrap().contains("/no/such/program"));
    let report = Suite::builder()
        .command(MODEL)
        .only("no/such-check")
        .run()
        .await;
    assert!(report.trouble.unwrap().contains("matches no check"));
}

/// Every requirement that can be judged has a check or a monitor, and every id is unique.
#[test]
fn the_tables_are_whole() {
    use berth_conformance::host::{checks, monitors};
    use berth_conformance::spec::requirements;
    use berth_conformance::spec::requirements::Level;
    let mut ids: Vec<&str> = checks::all().map(|check| check.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two checks of one id");
    let monitored = monitors::covered();
    for requirement in requirements::ALL {
        let checked = checks::all().any(|check| check.covers.contains(requirement))
            || monitored.contains(requirement.id);
        let judged = requirement.level != Level::May && requirement.excluded.is_none();
        assert_eq!(checked, judged, "{}", requirement.id);
    }
    for check in checks::all() {
        let (section, name) = check.id.split_once('/').unwrap();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(
            !name.is_empty() && [section, name].iter().all(|part| part.bytes().all(legal)),
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
