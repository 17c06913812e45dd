//! Properties that hold for any order of requests and host events.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A random input. A request has the number of a workload ID; the number in an event of the host
/// selects one of the existing runs.
#[derive(Clone, Debug)]
enum Input {
    Start(u8),
    Stop(u8),
    Status(u8),
    HostStarts(u8),
    /// The flag is true if guest code has run.
    HostFailsStart(u8, bool),
    HostReports(u8, ReportedState),
    HostReleases(u8),
    Wait(u16),
}

fn input() -> impl Strategy<Value = Input> {
    use ReportedState::{Completed, Failed, Running, Starting};
    let id = 0..3u8;
    let run = any::<u8>();
    prop_oneof![
        3 => id.clone().prop_map(Input::Start),
        2 => id.clone().prop_map(Input::Stop),
        1 => id.prop_map(Input::Status),
        3 => run.prop_map(Input::HostStarts),
        1 => (run, any::<bool>())
            .prop_map(|(run, guest_ran)| Input::HostFailsStart(run, guest_ran)),
        2 => (run, prop::sample::select(vec![Starting, Running, Completed, Failed]))
            .prop_map(|(run, state)| Input::HostReports(run, state)),
        3 => run.prop_map(Input::HostReleases),
        1 => (0..6000u16).prop_map(Input::Wait),
    ]
}

/// State of one run in the host.
#[derive(Debug, Default)]
struct Run {
    id: String,
    started: bool,
    failed: bool,
    guest_ran: bool,
    /// Whether a state other than STARTING was ever reported.
    has_run: bool,
    stops: u32,
}

/// The state machine, its host, and the observed replies and states.
#[derive(Debug, Default)]
struct World {
    lifecycle: Lifecycle,
    now: Duration,
    requests: u64,
    /// Send time of each request, and whether it has a reply.
    requests_sent: BTreeMap<RequestId, (Duration, bool)>,
    runs: BTreeMap<RunId, Run>,
    ids_in_use: BTreeMap<String, bool>,
    last_states: BTreeMap<String, WorkloadState>,
}

impl World {
    fn apply(&mut self, input: &Input) {
        match input {
            Input::Start(id) => self.request(*id, |request, id| Event::Start { request, id }),
            Input::Stop(id) => {
                self.ids_in_use.remove(&id.to_string());
                self.request(*id, |request, id| Event::Stop { request, id });
            }
            Input::Status(id) => self.request(*id, |request, id| Event::Status { request, id }),
            Input::Wait(ms) => {
                self.wait(Duration::from_millis(u64::from(*ms)));
            }
            Input::HostStarts(number) => {
                if let Some(run) = self.choose(*number, |run| !run.started && !run.failed) {
                    let state = self.runs.get_mut(&run).unwrap();
                    (state.started, state.guest_ran) = (true, true);
                    self.mark_guest_ran(run);
                    self.step(Event::Started { run });
                }
            }
            Input::HostFailsStart(number, guest_ran) => {
                if let Some(run) = self.choose(*number, |run| !run.started && !run.failed) {
                    self.runs.get_mut(&run).unwrap().failed = true;
                    let error = StartError::new("no");
                    let error = if *guest_ran {
                        error.non_retryable()
                    } else {
                        error
                    };
                    if *guest_ran {
                        self.mark_guest_ran(run);
                    }
                    self.step(Event::StartFailed { run, error });
                }
            }
            Input::HostReports(number, state) => {
                if let Some(run) = self.choose(*number, |_| true) {
                    let chosen = self.runs.get_mut(&run).unwrap();
                    chosen.has_run |= *state != ReportedState::Starting;
                    let (has_run, failed) = (chosen.has_run, chosen.failed);
                    if has_run && !failed {
                        self.mark_guest_ran(run);
                    }
                    let report = StatusReport {
                        state: *state,
                        message: String::new(),
                        has_run,
                    };
                    self.step(Event::Reported { run, report });
                }
            }
            Input::HostReleases(number) => {
                if let Some(run) = self.choose(*number, |run| run.failed || run.stops > 0) {
                    self.runs.remove(&run);
                    self.step(Event::Released { run });
                }
            }
        }
    }

    /// Marks that guest code of this run has run: its ID stays in use until it is stopped.
    fn mark_guest_ran(&mut self, run: RunId) {
        if self.runs[&run].stops == 0 {
            self.ids_in_use.insert(self.runs[&run].id.clone(), true);
        }
    }

    fn choose(&self, number: u8, eligible: impl Fn(&Run) -> bool) -> Option<RunId> {
        let eligible: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, run)| eligible(run))
            .map(|(id, _)| *id)
            .collect();
        (!eligible.is_empty()).then(|| eligible[usize::from(number) % eligible.len()])
    }

    fn request(&mut self, id: u8, event: impl FnOnce(RequestId, String) -> Event) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let event = event(request, id.to_string());
        let may_wait = matches!(event, Event::Start { .. });
        self.requests_sent.insert(request, (self.now, false));
        self.step(event);
        let answered = self.requests_sent[&request].1;
        assert!(
            answered || may_wait,
            "stop and status are answered immediately"
        );
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.lifecycle.next_tick_at().filter(|due| *due <= until) {
            self.now = due;
            self.step(Event::Tick);
        }
        self.now = until;
    }

    fn step(&mut self, event: Event) {
        for action in self.lifecycle.step(self.now, event) {
            match action {
                Action::Reply { request, status } => self.check_reply(request, &status),
                Action::StartRun { run, id, .. } => {
                    let rivals = self.runs.values().filter(|run| run.id == id && !run.failed);
                    assert_eq!(rivals.count(), 0, "at most one run per ID");
                    assert!(
                        !self.ids_in_use.contains_key(&id),
                        "a guest that ran is not run again"
                    );
                    let earlier = self.runs.insert(
                        run,
                        Run {
                            id,
                            ..Run::default()
                        },
                    );
                    assert!(earlier.is_none(), "a run is started once");
                }
                Action::StopRun { run } => {
                    let run = self
                        .runs
                        .get_mut(&run)
                        .expect("only existing runs are stopped");
                    run.stops += 1;
                    assert_eq!(run.stops, 1, "an instance is stopped once");
                }
            }
        }
        self.check_transitions();
    }

    fn check_reply(&mut self, request: RequestId, status: &Status) {
        let (sent_at, answered) = self
            .requests_sent
            .get_mut(&request)
            .expect("only requests get replies");
        assert!(!*answered, "one reply per request");
        assert!(self.now - *sent_at <= REPLY_STARTING_AFTER, "in time");
        assert_ne!(status.state, WorkloadState::Unspecified);
        assert!(!status.message.is_empty(), "a state has a reason");
        *answered = true;
    }

    /// Checks that each observed state follows its predecessor along a legal transition.
    fn check_transitions(&mut self) {
        use WorkloadState::{Completed, Error, NotFound, Running, Starting, Stopping};
        for id in ["0", "1", "2"] {
            let now = self.lifecycle.status(id.to_owned()).state;
            let before = self
                .last_states
                .insert(id.to_owned(), now)
                .unwrap_or(NotFound);
            let legal = match before {
                NotFound => matches!(now, NotFound | Starting),
                Starting => now != NotFound,
                Running => !matches!(now, NotFound),
                Completed => matches!(now, Completed | Stopping | NotFound),
                Error => matches!(now, Error | Starting | Stopping | NotFound),
                Stopping => matches!(now, Stopping | NotFound),
                WorkloadState::Unspecified => false,
            };
            assert!(legal, "{id}: {before:?} -> {now:?}");
        }
    }

    /// Stops all workloads and lets the host release them.
    fn drain(&mut self) {
        for id in 0..3 {
            self.apply(&Input::Stop(id));
        }
        for _ in 0..self.runs.len() {
            self.apply(&Input::HostReleases(0));
        }
        self.wait(REPLY_STARTING_AFTER);
        assert!(self.runs.is_empty(), "no stop is lost: {:?}", self.runs);
        assert!(self.lifecycle.is_idle() && self.lifecycle.workload_count() == 0);
        assert_eq!(self.lifecycle.next_tick_at(), None);
        for id in ["0", "1", "2"] {
            assert_eq!(
                self.lifecycle.status(id.to_owned()).state,
                WorkloadState::NotFound
            );
        }
        for (request, (_, answered)) in &self.requests_sent {
            assert!(answered, "{request:?} has no reply");
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_for_any_order_of_events(inputs in prop::collection::vec(input(), 0..60)) {
        let mut world = World::default();
        for input in &inputs {
            world.apply(input);
        }
        world.drain();
    }
}
