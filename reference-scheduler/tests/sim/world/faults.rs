//! Faults that a test injects, and their end.

use std::time::Duration;

use berth_scheduler::core::{Action, Event, Outcome, Scheduler};

use super::super::host::HostFault;
use super::{SimEvent, World};

impl World {
    /// Kills the scheduler and starts a new scheduler.
    pub fn restart_scheduler(&mut self) {
        // Half of the writes in flight take effect.
        let sent: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, event)| matches!(event, SimEvent::StoreWrite { .. }))
            .map(|(at, _)| *at)
            .collect();
        for at in sent {
            if let Some(SimEvent::StoreWrite { write, .. }) = self.queue.remove(&at) {
                self.invariants.on_write_finished(&write);
                if self.rng.percent(50) {
                    let _ = self.store.write(self.now, *write);
                }
            }
        }
        self.incarnation += 1;
        self.calls_in_flight.clear();
        self.last_watch_at.clear();
        self.scheduler = Scheduler::new(self.options.clone());
        self.invariants.on_scheduler_restarted();
        self.start_scheduler();
    }

    /// Shuts the scheduler down: its calls are dropped, and its writes take effect.
    pub fn shut_down_scheduler(&mut self) {
        for action in self.scheduler.step(self.now, Event::ShuttingDown) {
            if let Action::Write { write, .. } = action {
                let _ = self.store.write(self.now, write);
            }
        }
    }

    /// Delivers the reply of a host to discovery, within a second.
    pub fn discover(&mut self, host: usize) {
        let heartbeat = Box::new(self.hosts[host].heartbeat());
        let delay = Duration::from_millis(self.rng.between(20, 1100));
        self.deliver_in(delay, Event::Heartbeat(heartbeat));
    }

    /// Sets the clock of the scheduler's machine.
    pub fn set_clock(&mut self, unix_time: Duration) {
        self.deliver_in(Duration::from_millis(1), Event::ClockChanged { unix_time });
    }

    pub fn stop_broker(&mut self) {
        if !std::mem::replace(&mut self.broker_up, false) {
            return;
        }
        self.deliver_in(Duration::from_millis(1), Event::BusDisconnected);
        for call in std::mem::take(&mut self.calls_in_flight).into_keys() {
            let outcome = Outcome::Disconnected;
            self.deliver_in(
                Duration::from_millis(2),
                Event::CallFinished {
                    call_id: call,
                    outcome,
                },
            );
        }
        for host in &mut self.hosts {
            if host.fault == HostFault::None {
                host.fault = HostFault::Disconnected;
            }
        }
    }

    /// Restarts the broker; the hosts reconnect within `spread_ms`.
    pub fn restart_broker(&mut self, spread_ms: u64) {
        if std::mem::replace(&mut self.broker_up, true) {
            return;
        }
        self.deliver_in(Duration::from_millis(1), Event::BusConnected);
        for host in 0..self.hosts.len() {
            if self.hosts[host].fault == HostFault::Disconnected {
                let delay = Duration::from_millis(self.rng.between(0, spread_ms.max(1)));
                self.schedule(delay, SimEvent::Reconnect { host });
            }
        }
    }

    pub fn set_fault(&mut self, host: usize, fault: HostFault) {
        self.log_fault(|| format!("host {host} {fault:?}"));
        match fault {
            HostFault::Dead => self.hosts[host].die(),
            HostFault::None if !self.broker_up => self.hosts[host].fault = HostFault::Disconnected,
            fault => self.hosts[host].fault = fault,
        }
        if fault == HostFault::None && self.broker_up {
            self.schedule(Duration::from_millis(5), SimEvent::Reconnect { host });
        }
    }
}
