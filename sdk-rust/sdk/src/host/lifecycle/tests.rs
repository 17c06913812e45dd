//! Rules of the lifecycle, one by one.

use super::*;
use crate::host::StatusReporter;

const NOW: Duration = Duration::ZERO;

/// A state machine with requests numbered in their order.
#[derive(Default)]
struct Machine {
    lifecycle: Lifecycle,
    requests: u64,
}

impl Machine {
    fn request(&mut self, event: impl FnOnce(RequestId, String) -> Event) -> Vec<Action> {
        self.requests += 1;
        self.lifecycle
            .step(NOW, event(RequestId(self.requests), "a".to_owned()))
    }

    fn start_id(&mut self, id: &str) -> Vec<Action> {
        let id = id.to_owned();
        self.request(|request, _| Event::Start { request, id })
    }

    fn start(&mut self) -> Vec<Action> {
        self.request(|request, id| Event::Start { request, id })
    }

    /// Returns state, message and code of the only reply among the actions.
    fn reply(actions: &[Action]) -> (WorkloadState, &str, Option<Code>) {
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
        Self::reply(&self.request(|request, id| Event::Status { request, id })).0
    }

    fn stop(&mut self) -> Vec<Action> {
        self.request(|request, id| Event::Stop { request, id })
    }

    /// Starts a workload and returns its run.
    fn run(&mut self) -> RunId {
        let run = started_run(&self.start());
        self.lifecycle.step(NOW, Event::Started { run });
        run
    }

    fn report(&mut self, run: RunId, report: impl FnOnce(&StatusReporter)) -> Vec<Action> {
        let (reporter, mut reports) = StatusReporter::channel();
        report(&reporter);
        let report = futures_util::FutureExt::now_or_never(reports.next())
            .flatten()
            .unwrap();
        self.lifecycle.step(NOW, Event::Reported { run, report })
    }
}

fn started_run(actions: &[Action]) -> RunId {
    match actions {
        [Action::StartRun { run, .. }] => *run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn workload_runs_until_it_is_stopped() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    assert_eq!(machine.state(), WorkloadState::Starting);
    let started = machine.lifecycle.step(NOW, Event::Started { run });
    assert_eq!(Machine::reply(&started).0, WorkloadState::Running);
    assert_eq!(machine.lifecycle.workload_count(), 1);
    let stop = machine.stop();
    assert_eq!(Machine::reply(&stop).0, WorkloadState::Stopping);
    assert!(stop.contains(&Action::StopRun { run }));
    assert_eq!(machine.state(), WorkloadState::Stopping);
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
    machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(machine.state(), WorkloadState::NotFound);
    assert!(machine.lifecycle.is_idle() && machine.lifecycle.workload_count() == 0);
    assert_ne!(started_run(&machine.start()), run);
}

#[test]
fn refuses_an_id_in_use_in_every_state() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
    machine.lifecycle.step(NOW, Event::Started { run });
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
    assert_eq!(
        machine.report(run, |r| r.completed("done")),
        [Action::StopRun { run }]
    );
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
    machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
    assert_eq!(machine.state(), WorkloadState::Completed);
    assert_eq!(Machine::reply(&machine.stop()).0, WorkloadState::Stopping);
    assert_eq!(machine.state(), WorkloadState::NotFound);
}

#[test]
fn id_may_start_again_if_no_guest_ran() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    let failed = machine.lifecycle.step(
        NOW,
        Event::StartFailed {
            run,
            error: StartError::new("no such image"),
        },
    );
    assert_eq!(
        Machine::reply(&failed),
        (WorkloadState::Error, "no such image", None)
    );
    machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(machine.state(), WorkloadState::Error);
    let run = started_run(&machine.start());
    let error = StartError::new("trapped").non_retryable();
    machine
        .lifecycle
        .step(NOW, Event::StartFailed { run, error });
    machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
}

#[test]
fn slow_start_is_answered_with_starting_and_continues() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    machine.report(run, |r| r.starting("pulling"));
    assert_eq!(machine.lifecycle.next_tick_at(), Some(REPLY_STARTING_AFTER));
    assert_eq!(
        machine
            .lifecycle
            .step(REPLY_STARTING_AFTER - Duration::from_millis(1), Event::Tick),
        []
    );
    let late = machine.lifecycle.step(REPLY_STARTING_AFTER, Event::Tick);
    assert_eq!(
        Machine::reply(&late),
        (WorkloadState::Starting, "pulling", None)
    );
    assert_eq!(machine.lifecycle.step(NOW, Event::Started { run }), []);
    assert_eq!(machine.state(), WorkloadState::Running);
    assert_eq!(machine.lifecycle.next_tick_at(), None);
}

#[test]
fn stop_during_start_answers_both_requests() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    let actions = machine.stop();
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
    assert!(actions.contains(&Action::StopRun { run }));
    assert_eq!(
        machine.lifecycle.step(NOW, Event::Started { run }),
        [],
        "too late"
    );
    machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(machine.state(), WorkloadState::NotFound);
}

#[test]
fn reports_during_start_apply_when_it_ends() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    machine.report(run, |r| r.starting("compiling"));
    assert_eq!(
        Machine::reply(&machine.lifecycle.step(NOW, Event::Started { run })).0,
        WorkloadState::Running
    );

    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    machine.report(run, |r| {
        r.running("first run");
        r.starting("attempt 2 of 3");
    });
    let started = machine.lifecycle.step(NOW, Event::Started { run });
    assert_eq!(Machine::reply(&started).0, WorkloadState::Starting);

    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    machine.report(run, |r| r.completed("at once"));
    let started = machine.lifecycle.step(NOW, Event::Started { run });
    assert_eq!(Machine::reply(&started).0, WorkloadState::Completed);
    assert!(started.contains(&Action::StopRun { run }));
}

#[test]
fn reports_after_stop_are_ignored() {
    let mut machine = Machine::default();
    let run = machine.run();
    machine.stop();
    assert_eq!(machine.report(run, |r| r.failed("too late")), []);
    assert_eq!(machine.state(), WorkloadState::Stopping);
    machine.lifecycle.step(NOW, Event::Released { run });
    let second = machine.run();
    assert_eq!(machine.report(run, |r| r.failed("of the first run")), []);
    assert_eq!(machine.state(), WorkloadState::Running);
    assert_ne!(run, second);
}

#[test]
fn number_of_ended_workloads_is_bounded() {
    let mut lifecycle = Lifecycle::default();
    let request = RequestId(0);
    let end = |lifecycle: &mut Lifecycle, id: usize| {
        let run = started_run(&lifecycle.step(
            NOW,
            Event::Start {
                request,
                id: id.to_string(),
            },
        ));
        lifecycle.step(
            NOW,
            Event::StartFailed {
                run,
                error: StartError::new("no"),
            },
        );
        lifecycle.step(NOW, Event::Released { run });
    };
    for id in 0..=MAX_ENDED {
        end(&mut lifecycle, id);
    }
    let mut state = |id: usize| {
        let status = Event::Status {
            request,
            id: id.to_string(),
        };
        Machine::reply(&lifecycle.step(NOW, status)).0
    };
    assert_eq!(state(0), WorkloadState::NotFound, "the oldest is forgotten");
    assert_eq!(state(1), WorkloadState::Error);
    assert_eq!(state(MAX_ENDED), WorkloadState::Error);
}

#[test]
fn shutdown_stops_all_runs_and_refuses_starts() {
    let mut machine = Machine::default();
    let run = machine.run();
    assert_eq!(
        machine.lifecycle.step(NOW, Event::Shutdown),
        [Action::StopRun { run }]
    );
    assert_eq!(machine.lifecycle.step(NOW, Event::Shutdown), []);
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Unavailable));
    assert!(!machine.lifecycle.is_idle());
    machine.lifecycle.step(NOW, Event::Released { run });
    assert!(machine.lifecycle.is_idle());
}

#[test]
fn drain_cancels_starts_and_keeps_workloads() {
    let mut machine = Machine::default();
    let run = machine.run();
    let starting = started_run(&machine.start_id("b"));
    let drained = machine.lifecycle.step(NOW, Event::Drain);
    assert_eq!(Machine::reply(&drained).0, WorkloadState::Stopping);
    assert!(drained.contains(&Action::StopRun { run: starting }));
    assert!(!drained.contains(&Action::StopRun { run }));
    assert_eq!(
        Machine::reply(&machine.start_id("c")).2,
        Some(Code::Unavailable)
    );
    assert_eq!(
        machine.lifecycle.step(NOW, Event::Shutdown),
        [Action::StopRun { run }]
    );
}

#[test]
fn lost_run_is_an_error() {
    let mut machine = Machine::default();
    let run = started_run(&machine.start());
    let released = machine.lifecycle.step(NOW, Event::Released { run });
    assert_eq!(Machine::reply(&released).0, WorkloadState::Error);
    assert_eq!(Machine::reply(&machine.start()).2, Some(Code::Conflict));
}
