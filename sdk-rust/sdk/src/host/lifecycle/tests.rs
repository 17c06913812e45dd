//! The rules of an id's life, one by one.

use super::*;
use crate::host::Reporter;

const NOW: Duration = Duration::ZERO;

/// A table with names for requests in the order in which they were made.
#[derive(Default)]
struct Table {
    lifecycle: Lifecycle,
    requests: u64,
}

impl Table {
    fn ask(&mut self, event: impl FnOnce(RequestId, String) -> Event) -> Vec<Action> {
        self.requests += 1;
        self.lifecycle
            .step(NOW, event(RequestId(self.requests), "a".to_owned()))
    }

    fn start(&mut self) -> Vec<Action> {
        self.ask(|request, id| Event::Start { request, id })
    }

    /// The one answer of the actions: state, message, code.
    fn said(actions: &[Action]) -> (WorkloadState, &str, Option<Code>) {
        let statuses: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Reply { status, .. } => Some(status),
                _ => None,
            })
            .collect();
        assert_eq!(statuses.len(), 1, "{actions:?}");
        (statuses[0].state, &statuses[0].message, statuses[0].code)
    }

    fn state(&mut self) -> WorkloadState {
        Self::said(&self.ask(|request, id| Event::Status { request, id })).0
    }

    fn stop(&mut self) -> Vec<Action> {
        self.ask(|request, id| Event::Stop { request, id })
    }

    /// Starts the id and brings it up.
    fn run(&mut self) -> RunId {
        let run = begun(&self.start());
        self.lifecycle.step(NOW, Event::Up { run });
        run
    }

    fn report(&mut self, run: RunId, report: impl FnOnce(&Reporter)) -> Vec<Action> {
        let (reporter, mut reports) = Reporter::channel();
        report(&reporter);
        let report = futures_util::FutureExt::now_or_never(reports.next())
            .flatten()
            .unwrap();
        self.lifecycle.step(NOW, Event::Reported { run, report })
    }
}

fn begun(actions: &[Action]) -> RunId {
    match actions {
        [Action::Begin { run, .. }] => *run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_workload_lives_and_is_stopped() {
    let mut table = Table::default();
    let run = begun(&table.start());
    assert_eq!(table.state(), WorkloadState::Starting);
    let up = table.lifecycle.step(NOW, Event::Up { run });
    assert_eq!(Table::said(&up).0, WorkloadState::Running);
    assert_eq!(table.lifecycle.workload_count(), 1);
    let stop = table.stop();
    assert_eq!(Table::said(&stop).0, WorkloadState::Stopping);
    assert!(stop.contains(&Action::End { run }));
    assert_eq!(table.state(), WorkloadState::Stopping);
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
    table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(table.state(), WorkloadState::NotFound);
    assert!(table.lifecycle.is_idle() && table.lifecycle.workload_count() == 0);
    assert_ne!(begun(&table.start()), run);
}

#[test]
fn a_known_id_is_refused_in_each_state() {
    let mut table = Table::default();
    let run = begun(&table.start());
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
    table.lifecycle.step(NOW, Event::Up { run });
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
    assert_eq!(
        table.report(run, |r| r.completed("done")),
        [Action::End { run }]
    );
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
    table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
    assert_eq!(table.state(), WorkloadState::Completed);
    assert_eq!(Table::said(&table.stop()).0, WorkloadState::Stopping);
    assert_eq!(table.state(), WorkloadState::NotFound);
}

#[test]
fn an_id_whose_guest_never_ran_may_start_again() {
    let mut table = Table::default();
    let run = begun(&table.start());
    let refused = table.lifecycle.step(
        NOW,
        Event::Refused {
            run,
            refusal: Refusal::new("no such image"),
        },
    );
    assert_eq!(
        Table::said(&refused),
        (WorkloadState::Error, "no such image", None)
    );
    table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(table.state(), WorkloadState::Error);
    let run = begun(&table.start());
    let refusal = Refusal::new("trapped").after_guest_ran();
    table.lifecycle.step(NOW, Event::Refused { run, refusal });
    table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
}

#[test]
fn a_slow_start_is_answered_with_starting_and_goes_on() {
    let mut table = Table::default();
    let run = begun(&table.start());
    table.report(run, |r| r.starting("pulling"));
    assert_eq!(table.lifecycle.next_tick(), Some(STARTING_AFTER));
    assert_eq!(
        table
            .lifecycle
            .step(STARTING_AFTER - Duration::from_millis(1), Event::Tick),
        []
    );
    let late = table.lifecycle.step(STARTING_AFTER, Event::Tick);
    assert_eq!(
        Table::said(&late),
        (WorkloadState::Starting, "pulling", None)
    );
    assert_eq!(table.lifecycle.step(NOW, Event::Up { run }), []);
    assert_eq!(table.state(), WorkloadState::Running);
    assert_eq!(table.lifecycle.next_tick(), None);
}

#[test]
fn a_stop_during_the_start_answers_both() {
    let mut table = Table::default();
    let run = begun(&table.start());
    let actions = table.stop();
    let answered: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Reply { request, status } => Some((request.0, status.state)),
            _ => None,
        })
        .collect();
    assert_eq!(
        answered,
        [(1, WorkloadState::Stopping), (2, WorkloadState::Stopping)]
    );
    assert!(actions.contains(&Action::End { run }));
    assert_eq!(
        table.lifecycle.step(NOW, Event::Up { run }),
        [],
        "up too late"
    );
    table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(table.state(), WorkloadState::NotFound);
}

#[test]
fn reports_during_the_start_count_when_it_is_over() {
    let mut table = Table::default();
    let run = begun(&table.start());
    table.report(run, |r| r.starting("compiling"));
    assert_eq!(
        Table::said(&table.lifecycle.step(NOW, Event::Up { run })).0,
        WorkloadState::Running
    );

    let mut table = Table::default();
    let run = begun(&table.start());
    table.report(run, |r| {
        r.running("first run");
        r.starting("attempt 2 of 3");
    });
    let up = table.lifecycle.step(NOW, Event::Up { run });
    assert_eq!(Table::said(&up).0, WorkloadState::Starting);

    let mut table = Table::default();
    let run = begun(&table.start());
    table.report(run, |r| r.completed("at once"));
    let up = table.lifecycle.step(NOW, Event::Up { run });
    assert_eq!(Table::said(&up).0, WorkloadState::Completed);
    assert!(up.contains(&Action::End { run }));
}

#[test]
fn reports_after_a_stop_are_ignored() {
    let mut table = Table::default();
    let run = table.run();
    table.stop();
    assert_eq!(table.report(run, |r| r.failed("too late")), []);
    assert_eq!(table.state(), WorkloadState::Stopping);
    table.lifecycle.step(NOW, Event::Gone { run });
    let second = table.run();
    assert_eq!(table.report(run, |r| r.failed("of the first")), []);
    assert_eq!(table.state(), WorkloadState::Running);
    assert_ne!(run, second);
}

#[test]
fn ended_workloads_are_kept_in_bounds() {
    let mut lifecycle = Lifecycle::default();
    let request = RequestId(0);
    let end = |lifecycle: &mut Lifecycle, id: usize| {
        let run = begun(&lifecycle.step(
            NOW,
            Event::Start {
                request,
                id: id.to_string(),
            },
        ));
        lifecycle.step(
            NOW,
            Event::Refused {
                run,
                refusal: Refusal::new("no"),
            },
        );
        lifecycle.step(NOW, Event::Gone { run });
    };
    for id in 0..=MAX_ENDED {
        end(&mut lifecycle, id);
    }
    let mut state = |id: usize| {
        let status = Event::Status {
            request,
            id: id.to_string(),
        };
        Table::said(&lifecycle.step(NOW, status)).0
    };
    assert_eq!(state(0), WorkloadState::NotFound, "the oldest is forgotten");
    assert_eq!(state(1), WorkloadState::Error);
    assert_eq!(state(MAX_ENDED), WorkloadState::Error);
}

#[test]
fn shutdown_ends_everything_and_begins_nothing() {
    let mut table = Table::default();
    let run = table.run();
    assert_eq!(
        table.lifecycle.step(NOW, Event::Shutdown),
        [Action::End { run }]
    );
    assert_eq!(table.lifecycle.step(NOW, Event::Shutdown), []);
    assert_eq!(Table::said(&table.start()).2, Some(Code::Unavailable));
    assert!(!table.lifecycle.is_idle());
    table.lifecycle.step(NOW, Event::Gone { run });
    assert!(table.lifecycle.is_idle());
}

#[test]
fn a_run_that_is_lost_is_an_error() {
    let mut table = Table::default();
    let run = begun(&table.start());
    let gone = table.lifecycle.step(NOW, Event::Gone { run });
    assert_eq!(Table::said(&gone).0, WorkloadState::Error);
    assert_eq!(Table::said(&table.start()).2, Some(Code::Conflict));
}
