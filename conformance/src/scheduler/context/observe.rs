//! Observation of the fleet and of the status that the scheduler reports, and claims that many
//! scenarios share.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{ScenarioContext, condition};
use crate::check::outcome::Blocked;
use crate::check::wait::Waited;
use crate::scheduler::journal::{Entry, EventKind, ReceivedCommand, contains};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::Requirement;
use crate::testbed::tap::{FrameKind, Mark};
use crate::wire::nats::parse_command_subject;
use crate::wire::response::State;

/// Workload that runs on a host.
#[derive(Clone, Debug)]
pub struct RunningWorkload {
    /// Host of the workload.
    pub host: SimulatedHost,
    /// ID of the workload.
    pub id: String,
}

impl std::fmt::Display for RunningWorkload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.id, self.host.name())
    }
}

impl ScenarioContext {
    /// Returns the running workloads of an app on connected hosts.
    pub fn running(&self, app: &str) -> Vec<RunningWorkload> {
        self.running_on(app, SimulatedHost::is_connected)
    }

    /// Returns the running workloads of an app on all hosts, connected or not.
    pub fn running_anywhere(&self, app: &str) -> Vec<RunningWorkload> {
        self.running_on(app, |_| true)
    }

    /// Returns the running workloads of an app on the hosts that `is_included` selects.
    fn running_on(
        &self,
        app: &str,
        is_included: impl Fn(&SimulatedHost) -> bool,
    ) -> Vec<RunningWorkload> {
        let image = self.image_prefix(app);
        let hosts = self.lock_hosts().clone();
        let mut running = Vec::new();
        for host in hosts.into_iter().filter(is_included) {
            for (id, workload) in host.workloads() {
                let of_app = contains(workload.request.to_string().as_bytes(), &image);
                if of_app && workload.state == State::Running {
                    running.push(RunningWorkload {
                        host: host.clone(),
                        id,
                    });
                }
            }
        }
        running
    }

    /// Waits until exactly `count` workloads of an app run, each with its own id. `within` begins
    /// when the newest host's `register` has passed.
    pub async fn wait_for_running(
        &self,
        app: &str,
        count: usize,
        within: Duration,
    ) -> Waited<Vec<RunningWorkload>> {
        let within = within + self.remaining_registration();
        let description = format!("{count} workloads of {app} run");
        self.eventually(within, &description, || {
            let running = self.running(app);
            let ids: BTreeSet<&str> = running.iter().map(|workload| &*workload.id).collect();
            let as_expected = running.len() == count && ids.len() == count;
            std::future::ready(if as_expected {
                Ok(running)
            } else {
                Err(format!("{} run: {}", running.len(), describe(&running)))
            })
        })
        .await
    }

    /// Waits until exactly `count` workloads of an app run, at most for `act`.
    ///
    /// # Errors
    /// The workloads do not run in time. This violates `blocked_by` and blocks the scenario.
    pub async fn require_running(
        &self,
        app: &str,
        count: usize,
        blocked_by: Requirement,
    ) -> Result<Vec<RunningWorkload>, Blocked> {
        let waited = self.wait_for_running(app, count, self.timings().act).await;
        waited.or_blocked(self, blocked_by)
    }

    /// Submits a deployment and waits until all its replicas run.
    ///
    /// # Errors
    /// The replicas do not run in time. This violates `blocked_by` and blocks the scenario.
    pub async fn deploy(
        &self,
        app: &str,
        replicas: usize,
        blocked_by: Requirement,
    ) -> Result<(Manifest, Vec<RunningWorkload>), Blocked> {
        let manifest = self.deployment(app, i64::try_from(replicas).unwrap_or(i64::MAX));
        self.submit(&manifest).await?;
        let running = self.require_running(app, replicas, blocked_by).await?;
        Ok((manifest, running))
    }

    /// Returns the starts of an app, oldest first.
    pub fn starts_of(&self, app: &str) -> Vec<(Entry, ReceivedCommand)> {
        let image = self.image_prefix(app);
        let mut starts = self.journal.starts();
        starts.retain(|(_, start)| contains(&start.payload, &image));
        starts
    }

    /// Returns the ids under which an app was started.
    pub fn started_ids(&self, app: &str) -> BTreeSet<String> {
        self.journal.started_ids_containing(&self.image_prefix(app))
    }

    /// Waits for the first start of an app. `within` begins as in
    /// [`ScenarioContext::wait_for_running`].
    pub async fn wait_for_start(
        &self,
        app: &str,
        within: Duration,
    ) -> Waited<(Entry, ReceivedCommand)> {
        let within = within + self.remaining_registration();
        self.eventually(within, &format!("a start of {app}"), || {
            let first = self.starts_of(app).into_iter().next();
            std::future::ready(first.ok_or_else(|| "no start".to_owned()))
        })
        .await
    }

    /// Returns the object with its status, as the scheduler reports it.
    pub async fn observe(&self, manifest: &Manifest) -> Result<Value, String> {
        match self.scheduler().intake.observe(&manifest.key()).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(format!("the scheduler reports no {}", manifest.key())),
            Err(error) => Err(crate::check::outcome::error_chain(&error)),
        }
    }

    /// Returns the status of an object and of all objects that were created for it, in one text.
    pub async fn status_text(&self, manifest: &Manifest) -> String {
        let intake = &self.scheduler().intake;
        let objects = intake.object_and_children(&manifest.key()).await;
        let mut text = String::new();
        for object in objects.unwrap_or_default() {
            let status = object.get("status").cloned().unwrap_or_default();
            text.push_str(&format!(
                "{} {status}\n",
                crate::scheduler::manifest::Key::of(&object)
            ));
        }
        text
    }

    /// Returns whether the scheduler reports an object as ready.
    pub async fn is_ready(&self, manifest: &Manifest) -> Result<bool, String> {
        let object = self.observe(manifest).await?;
        let ready = condition(&object, "Ready").and_then(|ready| ready.get("status"));
        Ok(ready.and_then(Value::as_str) == Some("True"))
    }

    /// Waits until the scheduler reports an object as ready.
    pub async fn wait_for_ready(&self, manifest: &Manifest, within: Duration) -> Waited<()> {
        self.wait_for_readiness(manifest, true, within).await
    }

    /// Waits until the scheduler reports an object as not ready.
    pub async fn wait_for_not_ready(&self, manifest: &Manifest, within: Duration) -> Waited<()> {
        self.wait_for_readiness(manifest, false, within).await
    }

    async fn wait_for_readiness(
        &self,
        manifest: &Manifest,
        ready: bool,
        within: Duration,
    ) -> Waited<()> {
        let description = format!(
            "{} is reported as {}ready",
            manifest.key(),
            if ready { "" } else { "not " }
        );
        self.eventually(within, &description, || async move {
            if self.is_ready(manifest).await? == ready {
                return Ok(());
            }
            let object = self.observe(manifest).await?;
            let status = object.get("status").map(Value::to_string);
            Err(crate::wire::response::shortened(
                &status.unwrap_or_default(),
                300,
            ))
        })
        .await
    }

    /// Waits until the status of an object, or of an object that was created for it, contains
    /// `text`.
    pub async fn wait_for_status_text(
        &self,
        manifest: &Manifest,
        text: &str,
        within: Duration,
    ) -> Waited<()> {
        let description = format!("the status of {} contains {text:?}", manifest.key());
        self.eventually(within, &description, || async move {
            let status = self.status_text(manifest).await;
            if status.contains(text) {
                Ok(())
            } else {
                Err(crate::wire::response::shortened(&status, 400))
            }
        })
        .await
    }

    /// Waits until a host has received a stop of `id`.
    pub async fn wait_for_stop(&self, id: &str, within: Duration) -> Waited<Entry> {
        self.eventually(within, &format!("a stop of {id}"), || {
            let mut stops = self.journal.stops().into_iter();
            let stop = stops.find(|(_, stop)| stop.id == id);
            std::future::ready(
                stop.map(|(entry, _)| entry)
                    .ok_or_else(|| "no stop".to_owned()),
            )
        })
        .await
    }
}

/// Waits for requests.
impl ScenarioContext {
    /// Waits until the status of an id has been requested after `from`. The first request may
    /// follow later than `poll`, because `poll` is the time between two requests.
    pub async fn wait_for_status_request(&self, id: &str, from: std::time::Instant) -> Waited<()> {
        let within = self.timings().poll * 2;
        self.eventually(within, &format!("a status request for {id}"), || {
            let entries = self.journal.since(from);
            let mut requests = entries.iter().filter_map(|e| e.command("workload.status"));
            let is_requested = requests.any(|request| request.id == id);
            std::future::ready(is_requested.then_some(()).ok_or("no request".to_owned()))
        })
        .await
    }
}

/// Returns the ids and hosts of workloads in one line.
pub fn describe(workloads: &[RunningWorkload]) -> String {
    let words: Vec<String> = workloads.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// Time for which the suite observes that an app is not started.
const NO_START_WINDOW: Duration = Duration::from_millis(2_500);

/// Claims that many scenarios share.
impl ScenarioContext {
    /// Claims that an app is not started.
    pub async fn assert_no_start(&self, requirement: Requirement, app: &str) {
        let mark = self.scheduler().bus.tap().mark();
        let description = format!("a start of {app}");
        let find_start = || self.find_start(app, mark);
        let waited = self.never(NO_START_WINDOW, &description, find_start).await;
        self.claim(requirement).met(waited);
    }

    /// Returns the first start of an app. A start that was sent since `mark` to a host of another
    /// group, or to no host, counts as well.
    pub fn find_start(&self, app: &str, mark: Mark) -> Option<String> {
        let starts = self.starts_of(app);
        let received = starts
            .first()
            .map(|(entry, start)| format!("a start of {} on {}", start.id, entry.host));
        received.or_else(|| {
            let image = self.image_prefix(app);
            let frames = self.scheduler().bus.tap().frames_since(mark);
            let mut sent = frames.iter().filter(|frame| {
                frame.kind == FrameKind::Publish && contains(&frame.payload, &image)
            });
            let subject = sent.next()?.subject.as_ref()?.to_string();
            Some(format!("a start on {subject}"))
        })
    }

    /// Claims that nothing has been started or stopped since `from`, and that this remains so for
    /// `window`.
    pub async fn assert_no_commands(
        &self,
        requirement: Requirement,
        from: std::time::Instant,
        window: Duration,
    ) {
        let waited = self
            .never(window, "a start or a stop", || {
                let commands = self.journal.starts_and_stops_since(from);
                commands.into_iter().next()
            })
            .await;
        self.claim(requirement).met(waited);
    }

    /// Waits until the scheduler no longer reports an object.
    pub async fn wait_for_deletion(&self, manifest: &Manifest, within: Duration) -> Waited<()> {
        let description = format!("{} is no longer reported", manifest.key());
        self.eventually(within, &description, || async move {
            match self.scheduler().intake.observe(&manifest.key()).await {
                Ok(None) => Ok(()),
                Ok(Some(object)) => Err(crate::wire::response::shortened(&object.to_string(), 300)),
                Err(error) => Err(crate::check::outcome::error_chain(&error)),
            }
        })
        .await
    }

    /// Waits until an app has been started under at least `count` ids. `within` begins as in
    /// [`ScenarioContext::wait_for_running`].
    pub async fn wait_for_ids(
        &self,
        app: &str,
        count: usize,
        within: Duration,
    ) -> Waited<BTreeSet<String>> {
        let within = within + self.remaining_registration();
        let description = format!("{count} ids of {app} have been started");
        self.eventually(within, &description, || {
            let ids = self.started_ids(app);
            std::future::ready(if ids.len() >= count {
                Ok(ids)
            } else {
                Err(format!("{ids:?}"))
            })
        })
        .await
    }
}

/// Returns the names of the hosts of workloads, sorted.
pub fn host_names(workloads: &[RunningWorkload]) -> Vec<String> {
    let mut names: Vec<String> = workloads
        .iter()
        .map(|workload| workload.host.name())
        .collect();
    names.sort();
    names
}

/// Returns the ids of workloads.
pub fn workload_ids(workloads: &[RunningWorkload]) -> BTreeSet<String> {
    workloads
        .iter()
        .map(|workload| workload.id.clone())
        .collect()
}

/// Command that changes whether an id is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartOrStop {
    Start,
    Stop,
}

impl StartOrStop {
    fn of(command: &str) -> Option<StartOrStop> {
        match command {
            "workload.start" => Some(StartOrStop::Start),
            "workload.stop" => Some(StartOrStop::Stop),
            _ => None,
        }
    }
}

impl ScenarioContext {
    /// Returns the largest number of ids of an app that were wanted at the same time: a start of
    /// each had been sent, and no stop since.
    ///
    /// The order is that of sending, because two hosts may receive their commands in another order.
    /// Without a tap between scheduler and broker, the order is that of arrival.
    pub fn max_wanted_ids(&self, app: &str) -> usize {
        let [max, _] = wanted_ids(self.commands_of(app));
        max
    }

    /// Returns the number of ids of an app that are wanted now.
    pub fn wanted_ids(&self, app: &str) -> usize {
        let [_, now] = wanted_ids(self.commands_of(app));
        now
    }

    /// Returns the starts and stops of all ids of an app, in the order of sending.
    fn commands_of(&self, app: &str) -> impl Iterator<Item = (StartOrStop, String)> {
        let ids = self.started_ids(app);
        let commands = match self.sent_commands() {
            Some(sent) => sent,
            None => self.received_commands(),
        };
        let of_app = move |(_, id): &(StartOrStop, String)| ids.contains(id);
        commands.into_iter().filter(of_app)
    }

    /// Returns the commands in the order of sending, or `None` if the tap has not recorded all
    /// commands with their payloads.
    fn sent_commands(&self) -> Option<Vec<(StartOrStop, String)>> {
        // Only a scheduler that the suite launches connects through the tap.
        self.scheduler().process()?;
        self.tapped_commands()
    }

    /// Returns the commands that the tap has recorded in the order of sending, or `None` if it has
    /// not recorded all payloads.
    fn tapped_commands(&self) -> Option<Vec<(StartOrStop, String)>> {
        let mut commands = Vec::new();
        for frame in self.scheduler().bus.tap().frames_since(self.mark) {
            let subject = frame.subject.as_deref().unwrap_or_default();
            let command = parse_command_subject(subject).map(|(_, command)| command);
            let command = command.and_then(StartOrStop::of);
            if let (FrameKind::Publish, Some(command)) = (frame.kind, command) {
                let payload: Value = serde_json::from_slice(&frame.payload).ok()?;
                let id = payload.get("workloadId").and_then(Value::as_str);
                commands.push((command, id.unwrap_or_default().to_owned()));
            }
        }
        Some(commands)
    }

    /// Returns the ids of starts that the scheduler has sent and no host has received.
    pub(super) fn undelivered_ids(&self) -> BTreeSet<String> {
        let started = |commands: Vec<(StartOrStop, String)>| -> BTreeSet<String> {
            let starts = commands.into_iter();
            let starts = starts.filter(|(command, _)| *command == StartOrStop::Start);
            starts.map(|(_, id)| id).collect()
        };
        let received = started(self.received_commands());
        let mut sent = started(self.tapped_commands().unwrap_or_default());
        sent.retain(|id| !received.contains(id));
        sent
    }

    /// Returns the commands in the order of arrival.
    fn received_commands(&self) -> Vec<(StartOrStop, String)> {
        let entries = self.journal.entries().into_iter();
        let command = |entry: Entry| match entry.kind {
            EventKind::ReceivedCommand(received) => {
                Some((StartOrStop::of(&received.command)?, received.id))
            }
            _ => None,
        };
        entries.filter_map(command).collect()
    }
}

/// Returns the largest number of wanted ids after any of `commands`, which are ordered by time, and
/// the number after the last one. Pure.
fn wanted_ids(commands: impl Iterator<Item = (StartOrStop, String)>) -> [usize; 2] {
    let (mut wanted, mut max) = (BTreeSet::new(), 0);
    for (command, id) in commands {
        match command {
            StartOrStop::Start => wanted.insert(id),
            StartOrStop::Stop => wanted.remove(&id),
        };
        max = max.max(wanted.len());
    }
    [max, wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_id_as_wanted_from_first_start_to_first_stop() {
        let wanted_of = |commands: &[(StartOrStop, &str)]| {
            let commands = commands.iter();
            wanted_ids(commands.map(|(command, id)| (*command, (*id).to_owned())))
        };
        let (start, stop) = (StartOrStop::Start, StartOrStop::Stop);
        assert_eq!(
            wanted_of(&[(start, "a"), (start, "a"), (start, "b")]),
            [2, 2]
        );
        assert_eq!(
            wanted_of(&[(start, "a"), (stop, "a"), (stop, "a"), (start, "b")]),
            [1, 1]
        );
        assert_eq!(wanted_of(&[(start, "a"), (stop, "a")]), [1, 0]);
        assert_eq!(wanted_of(&[(stop, "a")]), [0, 0]);
    }
}
