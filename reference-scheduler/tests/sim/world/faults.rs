//! What fails, and comes back.

use std::time::Duration;

use berth_scheduler::core::{Action, Event, Outcome, Scheduler};

use super::super::host::Trouble;
use super::{Happening, World};

impl World {
    /// The scheduler is killed, and another begins.
    pub fn restart_scheduler(&mut self) {
        // What it had sent to the store arrives, or does not.
        let sent: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, happening)| matches!(happening, Happening::Store { .. }))
            .map(|(at, _)| *at)
            .collect();
        for at in sent {
            if let Some(Happening::Store { write, .. }) = self.queue.remove(&at) {
                self.ledger.write_ended(&write);
                if self.chance.percent(50) {
                    let _ = self.store.write(self.now, *write);
                }
            }
        }
        self.incarnation += 1;
        self.open.clear();
        self.watch_at.clear();
        self.scheduler = Scheduler::new(self.options.clone());
        self.ledger.scheduler_restarted();
        self.begin();
    }

    /// The scheduler is told to end: its calls are dropped, what it writes is written.
    pub fn end_scheduler(&mut self) {
        for action in self.scheduler.step(self.now, Event::Ending) {
            if let Action::Write { write, .. } = action {
                let _ = self.store.write(self.now, write);
            }
        }
    }

    pub fn broker_down(&mut self) {
        if !std::mem::replace(&mut self.broker_up, false) {
            return;
        }
        self.tell_in(Duration::from_millis(1), Event::BusDown);
        for call in std::mem::take(&mut self.open).into_keys() {
            let outcome = Outcome::Disconnected;
            self.tell_in(
                Duration::from_millis(2),
                Event::Answered {
                    call_id: call,
                    outcome,
                },
            );
        }
        for host in &mut self.hosts {
            if host.trouble == Trouble::None {
                host.trouble = Trouble::Disconnected;
            }
        }
    }

    /// The broker is back; hosts come within `spread_ms`.
    pub fn broker_back(&mut self, spread_ms: u64) {
        if std::mem::replace(&mut self.broker_up, true) {
            return;
        }
        self.tell_in(Duration::from_millis(1), Event::BusUp);
        for host in 0..self.hosts.len() {
            if self.hosts[host].trouble == Trouble::Disconnected {
                let after = Duration::from_millis(self.chance.between(0, spread_ms.max(1)));
                self.at(after, Happening::Reconnect { host });
            }
        }
    }

    pub fn trouble(&mut self, host: usize, trouble: Trouble) {
        self.note(|| format!("host {host} {trouble:?}"));
        match trouble {
            Trouble::Dead => self.hosts[host].die(),
            Trouble::None if !self.broker_up => self.hosts[host].trouble = Trouble::Disconnected,
            trouble => self.hosts[host].trouble = trouble,
        }
        if trouble == Trouble::None && self.broker_up {
            self.at(Duration::from_millis(5), Happening::Reconnect { host });
        }
    }
}
