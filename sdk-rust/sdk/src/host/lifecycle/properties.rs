//! What must hold whatever is asked in whatever order, whatever the host does meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One turn of the world. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Turn {
    Start(u8),
    Stop(u8),
    Status(u8),
    HostIsUp(u8),
    HostRefuses(u8, bool),
    HostReports(u8, ReportedState),
    HostLetsGo(u8),
    Wait(u16),
}

fn turn() -> impl Strategy<Value = Turn> {
    use ReportedState::{Completed, Failed, Running, Starting};
    let id = 0..3u8;
    let which = any::<u8>();
    prop_oneof![
        3 => id.clone().prop_map(Turn::Start),
        2 => id.clone().prop_map(Turn::Stop),
        1 => id.prop_map(Turn::Status),
        3 => which.prop_map(Turn::HostIsUp),
        1 => (which, any::<bool>()).prop_map(|(run, ran)| Turn::HostRefuses(run, ran)),
        2 => (which, prop::sample::select(vec![Starting, Running, Completed, Failed]))
            .prop_map(|(run, state)| Turn::HostReports(run, state)),
        3 => which.prop_map(Turn::HostLetsGo),
        1 => (0..6000u16).prop_map(Turn::Wait),
    ]
}

/// What the shell and the host are doing with one run.
#[derive(Debug, Default)]
struct Run {
    id: String,
    up: bool,
    over: bool,
    guest_ran: bool,
    /// It has claimed a state other than STARTING; a reporter never takes that back.
    claimed: bool,
    told_to_end: u32,
}

/// A shell and a host that take turns, and everything that was seen of them.
#[derive(Debug, Default)]
struct World {
    lifecycle: Lifecycle,
    now: Duration,
    requests: u64,
    asked: BTreeMap<RequestId, (Duration, bool)>,
    runs: BTreeMap<RunId, Run>,
    taken: BTreeMap<String, bool>,
    seen: BTreeMap<String, WorkloadState>,
}

impl World {
    fn take(&mut self, turn: &Turn) {
        match turn {
            Turn::Start(id) => self.ask(*id, |request, id| Event::Start { request, id }),
            Turn::Stop(id) => {
                self.taken.remove(&id.to_string());
                self.ask(*id, |request, id| Event::Stop { request, id });
            }
            Turn::Status(id) => self.ask(*id, |request, id| Event::Status { request, id }),
            Turn::Wait(ms) => {
                self.wait(Duration::from_millis(u64::from(*ms)));
            }
            Turn::HostIsUp(which) => {
                if let Some(run) = self.choose(*which, |run| !run.up && !run.over) {
                    let state = self.runs.get_mut(&run).unwrap();
                    (state.up, state.guest_ran) = (true, true);
                    self.guest_ran(run);
                    self.step(Event::Up { run });
                }
            }
            Turn::HostRefuses(which, ran) => {
                if let Some(run) = self.choose(*which, |run| !run.up && !run.over) {
                    self.runs.get_mut(&run).unwrap().over = true;
                    let refusal = Refusal::new("no");
                    let refusal = if *ran {
                        refusal.after_guest_ran()
                    } else {
                        refusal
                    };
                    if *ran {
                        self.guest_ran(run);
                    }
                    self.step(Event::Refused { run, refusal });
                }
            }
            Turn::HostReports(which, state) => {
                if let Some(run) = self.choose(*which, |_| true) {
                    let chosen = self.runs.get_mut(&run).unwrap();
                    chosen.claimed |= *state != ReportedState::Starting;
                    let (was_up, over) = (chosen.claimed, chosen.over);
                    if was_up && !over {
                        self.guest_ran(run);
                    }
                    let report = Report {
                        state: *state,
                        message: String::new(),
                        was_up,
                    };
                    self.step(Event::Reported { run, report });
                }
            }
            Turn::HostLetsGo(which) => {
                if let Some(run) = self.choose(*which, |run| run.over || run.told_to_end > 0) {
                    self.runs.remove(&run);
                    self.step(Event::Gone { run });
                }
            }
        }
    }

    /// Guest code of this run has run: its id is taken until it is stopped.
    fn guest_ran(&mut self, run: RunId) {
        if self.runs[&run].told_to_end == 0 {
            self.taken.insert(self.runs[&run].id.clone(), true);
        }
    }

    fn choose(&self, which: u8, fit: impl Fn(&Run) -> bool) -> Option<RunId> {
        let fit: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, run)| fit(run))
            .map(|(id, _)| *id)
            .collect();
        (!fit.is_empty()).then(|| fit[usize::from(which) % fit.len()])
    }

    fn ask(&mut self, id: u8, event: impl FnOnce(RequestId, String) -> Event) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let event = event(request, id.to_string());
        let may_wait = matches!(event, Event::Start { .. });
        self.asked.insert(request, (self.now, false));
        self.step(event);
        let answered = self.asked[&request].1;
        assert!(answered || may_wait, "stop and status are answered at once");
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.lifecycle.next_tick().filter(|due| *due <= until) {
            self.now = due;
            self.step(Event::Tick);
        }
        self.now = until;
    }

    fn step(&mut self, event: Event) {
        for action in self.lifecycle.step(self.now, event) {
            match action {
                Action::Reply { request, status } => self.answered(request, &status),
                Action::Begin { run, id, .. } => {
                    let rivals = self.runs.values().filter(|run| run.id == id && !run.over);
                    assert_eq!(rivals.count(), 0, "one winner");
                    assert!(
                        !self.taken.contains_key(&id),
                        "a guest that ran is not run again"
                    );
                    let begun = self.runs.insert(
                        run,
                        Run {
                            id,
                            ..Run::default()
                        },
                    );
                    assert!(begun.is_none(), "a run is begun once");
                }
                Action::End { run } => {
                    let run = self.runs.get_mut(&run).expect("only what runs is ended");
                    run.told_to_end += 1;
                    assert_eq!(run.told_to_end, 1, "an instance is ended once");
                }
            }
        }
        self.edges_are_legal();
    }

    fn answered(&mut self, request: RequestId, status: &Status) {
        let (asked, answered) = self
            .asked
            .get_mut(&request)
            .expect("only who asked is answered");
        assert!(!*answered, "one reply per request");
        assert!(self.now - *asked <= STARTING_AFTER, "in time");
        assert_ne!(status.state, WorkloadState::Unspecified);
        assert!(!status.message.is_empty(), "a state has a reason");
        *answered = true;
    }

    /// After each step the states that `status` shows have moved along drawn edges only.
    fn edges_are_legal(&mut self) {
        use WorkloadState::{Completed, Error, NotFound, Running, Starting, Stopping};
        for id in ["0", "1", "2"] {
            let now = self.lifecycle.status(id.to_owned()).state;
            let before = self.seen.insert(id.to_owned(), now).unwrap_or(NotFound);
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

    /// The host finishes what it has been told, and everything that is left is stopped.
    fn come_to_rest(&mut self) {
        for id in 0..3 {
            self.take(&Turn::Stop(id));
        }
        for _ in 0..self.runs.len() {
            self.take(&Turn::HostLetsGo(0));
        }
        self.wait(STARTING_AFTER);
        assert!(self.runs.is_empty(), "no stop is lost: {:?}", self.runs);
        assert!(self.lifecycle.is_idle() && self.lifecycle.workload_count() == 0);
        assert_eq!(self.lifecycle.next_tick(), None);
        for id in ["0", "1", "2"] {
            assert_eq!(
                self.lifecycle.status(id.to_owned()).state,
                WorkloadState::NotFound
            );
        }
        for (request, (_, answered)) in &self.asked {
            assert!(answered, "{request:?} has no reply");
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_promises(turns in prop::collection::vec(turn(), 0..60)) {
        let mut world = World::default();
        for turn in &turns {
            world.take(turn);
        }
        world.come_to_rest();
    }
}
