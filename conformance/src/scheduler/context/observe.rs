//! How scenarios look at the fleet and at what the scheduler says.

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
use crate::testbed::tap::Kind;
use crate::wire::nats::read_command_subject;
use crate::wire::response::State;

/// A workload that runs on a host.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where.
    pub host: SimulatedHost,
    /// Under which id.
    pub id: String,
}

impl std::fmt::Display for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.id, self.host.name())
    }
}

impl ScenarioContext {
    /// The workloads of an app that run on hosts that are connected.
    pub fn running(&self, app: &str) -> Vec<Placed> {
        self.in_state(app, &State::Running, true)
    }

    /// The workloads of an app that run, on hosts that are cut off too.
    pub fn running_anywhere(&self, app: &str) -> Vec<Placed> {
        self.in_state(app, &State::Running, false)
    }

    fn in_state(&self, app: &str, state: &State, connected: bool) -> Vec<Placed> {
        let image = self.image_of(app);
        let hosts = self.lock_hosts().clone();
        let mut placed = Vec::new();
        for host in hosts
            .into_iter()
            .filter(|host| !connected || host.is_connected())
        {
            for (id, workload) in host.workloads() {
                let ours = contains(workload.request.to_string().as_bytes(), &image);
                if ours && workload.state == *state {
                    placed.push(Placed {
                        host: host.clone(),
                        id,
                    });
                }
            }
        }
        placed
    }

    /// Waits until exactly so many workloads of an app run, all with ids of their own. The time counts from the end of
    /// the youngest host's registration.
    pub async fn runs(&self, app: &str, count: usize, within: Duration) -> Waited<Vec<Placed>> {
        let within = within + self.registering();
        let what = format!("{count} of {app} run");
        self.eventually(within, &what, || {
            let running = self.running(app);
            let ids: BTreeSet<&str> = running.iter().map(|placed| &*placed.id).collect();
            let right = running.len() == count && ids.len() == count;
            std::future::ready(if right {
                Ok(running)
            } else {
                Err(format!("{} run: {}", running.len(), shown(&running)))
            })
        })
        .await
    }

    /// [`ScenarioContext::runs`] in the time for placing, as a precondition of the scenario.
    ///
    /// # Errors
    /// They do not run, which breaks `owner`.
    pub async fn placed(
        &self,
        app: &str,
        count: usize,
        owner: Requirement,
    ) -> Result<Vec<Placed>, Blocked> {
        let waited = self.runs(app, count, self.timings().act).await;
        waited.or_blocked(self, owner)
    }

    /// Submits a deployment and waits until all its replicas run.
    ///
    /// # Errors
    /// They do not run in time, which breaks `owner`.
    pub async fn deployed(
        &self,
        app: &str,
        replicas: usize,
        owner: Requirement,
    ) -> Result<(Manifest, Vec<Placed>), Blocked> {
        let manifest = self.deployment(app, i64::try_from(replicas).unwrap_or(i64::MAX));
        self.submit(&manifest).await?;
        let placed = self.placed(app, replicas, owner).await?;
        Ok((manifest, placed))
    }

    /// The starts of an app, oldest first.
    pub fn starts_of(&self, app: &str) -> Vec<(Entry, ReceivedCommand)> {
        let image = self.image_of(app);
        let mut starts = self.journal.starts();
        starts.retain(|(_, came)| contains(&came.payload, &image));
        starts
    }

    /// The ids under which an app was started.
    pub fn ids_of(&self, app: &str) -> BTreeSet<String> {
        self.journal.ids_of(&self.image_of(app))
    }

    /// The first start of an app, as soon as it comes. The time counts as that of [`ScenarioContext::runs`].
    pub async fn started(&self, app: &str, within: Duration) -> Waited<(Entry, ReceivedCommand)> {
        let within = within + self.registering();
        self.eventually(within, &format!("a start of {app}"), || {
            let first = self.starts_of(app).into_iter().next();
            std::future::ready(first.ok_or_else(|| "no start".to_owned()))
        })
        .await
    }

    /// The object with its status, as the scheduler tells it.
    pub async fn observe(&self, manifest: &Manifest) -> Result<Value, String> {
        match self.stage.live.intake.observe(&manifest.key()).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(format!("nothing is told of {}", manifest.key())),
            Err(cause) => Err(crate::check::outcome::chain(&cause)),
        }
    }

    /// Everything that is told of an object and of what was made for it, in one text.
    pub async fn told(&self, manifest: &Manifest) -> String {
        let family = self.stage.live.intake.family(&manifest.key()).await;
        let mut text = String::new();
        for object in family.unwrap_or_default() {
            let status = object.get("status").cloned().unwrap_or_default();
            text.push_str(&format!(
                "{} {status}\n",
                crate::scheduler::manifest::Key::of(&object)
            ));
        }
        text
    }

    /// Whether the scheduler says that an object is ready.
    pub async fn is_ready(&self, manifest: &Manifest) -> Result<bool, String> {
        let object = self.observe(manifest).await?;
        let ready = condition(&object, "Ready").and_then(|ready| ready.get("status"));
        Ok(ready.and_then(Value::as_str) == Some("True"))
    }

    /// Waits until the scheduler says that an object is ready, or is not.
    pub async fn says_ready(
        &self,
        manifest: &Manifest,
        ready: bool,
        within: Duration,
    ) -> Waited<()> {
        let what = format!(
            "{} is said to be {}ready",
            manifest.key(),
            if ready { "" } else { "not " }
        );
        self.eventually(within, &what, || async move {
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

    /// Waits until a text stands in what the scheduler tells of an object and its family.
    pub async fn tells(&self, manifest: &Manifest, text: &str, within: Duration) -> Waited<()> {
        let what = format!("{text:?} is told of {}", manifest.key());
        self.eventually(within, &what, || async move {
            let told = self.told(manifest).await;
            if told.contains(text) {
                Ok(())
            } else {
                Err(crate::wire::response::shortened(&told, 400))
            }
        })
        .await
    }

    /// Waits until the host has got a stop of that id.
    pub async fn stopped(&self, id: &str, within: Duration) -> Waited<Entry> {
        self.eventually(within, &format!("a stop of {id}"), || {
            let mut stops = self.journal.stops().into_iter();
            let stop = stops.find(|(_, came)| came.id == id);
            std::future::ready(
                stop.map(|(entry, _)| entry)
                    .ok_or_else(|| "no stop".to_owned()),
            )
        })
        .await
    }
}

/// Ids and hosts in one line.
pub fn shown(placed: &[Placed]) -> String {
    let words: Vec<String> = placed.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// How long the suite looks for a start that must not come.
const NO_START: Duration = Duration::from_millis(2_500);

/// Claims that many scenarios make.
impl ScenarioContext {
    /// Claims that no start of an app comes.
    pub async fn no_start(&self, requirement: Requirement, app: &str) {
        let mark = self.live().bus.tap().mark();
        let image = self.image_of(app);
        let started = || {
            let starts = self.starts_of(app);
            let first = starts.first();
            let here =
                first.map(|(entry, came)| format!("a start of {} on {}", came.id, entry.host));
            // To a host of another group, or to nobody.
            here.or_else(|| {
                let frames = self.live().bus.tap().frames_since(mark);
                let mut sent = frames.iter().filter(|frame| {
                    frame.kind == crate::testbed::tap::Kind::Publish
                        && contains(&frame.payload, &image)
                });
                let subject = sent.next()?.subject.as_ref()?.to_string();
                Some(format!("a start on {subject}"))
            })
        };
        let what = format!("a start of {app}");
        let waited = self.never(NO_START, &what, started).await;
        self.claim(requirement).met(waited);
    }

    /// Claims that nothing has been started or stopped since a moment, nor is for that long.
    pub async fn assert_no_commands(
        &self,
        requirement: Requirement,
        from: std::time::Instant,
        window: Duration,
    ) {
        let waited = self
            .never(window, "a start or a stop", || {
                self.journal.orders_since(from).into_iter().next()
            })
            .await;
        self.claim(requirement).met(waited);
    }

    /// Waits until nothing is told of an object any more.
    pub async fn says_gone(&self, manifest: &Manifest, within: Duration) -> Waited<()> {
        let what = format!("{} is shown as deleted", manifest.key());
        self.eventually(within, &what, || async move {
            match self.stage.live.intake.observe(&manifest.key()).await {
                Ok(None) => Ok(()),
                Ok(Some(object)) => Err(crate::wire::response::shortened(&object.to_string(), 300)),
                Err(cause) => Err(crate::check::outcome::chain(&cause)),
            }
        })
        .await
    }

    /// Waits until an app has been started under so many ids. The time counts as that of [`ScenarioContext::runs`].
    pub async fn ids(&self, app: &str, count: usize, within: Duration) -> Waited<BTreeSet<String>> {
        let within = within + self.registering();
        self.eventually(within, &format!("{count} ids of {app}"), || {
            let ids = self.ids_of(app);
            std::future::ready(if ids.len() >= count {
                Ok(ids)
            } else {
                Err(format!("{ids:?}"))
            })
        })
        .await
    }
}

/// The names of the hosts that something runs on, in order.
pub fn hosts_of(placed: &[Placed]) -> Vec<String> {
    let mut names: Vec<String> = placed.iter().map(|placed| placed.host.name()).collect();
    names.sort();
    names
}

/// The ids, in order.
pub fn ids_of(placed: &[Placed]) -> BTreeSet<String> {
    placed.iter().map(|placed| placed.id.clone()).collect()
}

/// What of a workload was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Start,
    Stop,
}

impl Order {
    fn of(command: &str) -> Option<Order> {
        match command {
            "workload.start" => Some(Order::Start),
            "workload.stop" => Some(Order::Stop),
            _ => None,
        }
    }
}

impl ScenarioContext {
    /// The largest number of ids of an app that were wanted at once: started, and no stop of them sent since.
    ///
    /// In the order in which they were sent: two hosts may get what is sent to them the other way round. Only where the
    /// suite does not stand between scheduler and broker, it is the order in which they arrived.
    pub fn most_wanted(&self, app: &str) -> usize {
        let ids = self.ids_of(app);
        let orders = match self.orders_sent() {
            Some(sent) => sent,
            None => self.orders_arrived(),
        };
        most_wanted(orders.into_iter().filter(|(_, id)| ids.contains(id)))
    }

    /// `None` when they were not all seen, or not kept.
    fn orders_sent(&self) -> Option<Vec<(Order, String)>> {
        self.live().process()?;
        let mut orders = Vec::new();
        for frame in self.live().bus.tap().frames_since(self.mark) {
            let subject = frame.subject.as_deref().unwrap_or_default();
            let command = read_command_subject(subject).map(|(_, command)| command);
            let order = command.and_then(Order::of);
            if let (Kind::Publish, Some(order)) = (frame.kind, order) {
                let payload: Value = serde_json::from_slice(&frame.payload).ok()?;
                let id = payload.get("workloadId").and_then(Value::as_str);
                orders.push((order, id.unwrap_or_default().to_owned()));
            }
        }
        Some(orders)
    }

    fn orders_arrived(&self) -> Vec<(Order, String)> {
        let entries = self.journal.entries().into_iter();
        let order = |entry: Entry| match entry.what {
            EventKind::ReceivedCommand(came) => Some((Order::of(&came.command)?, came.id)),
            _ => None,
        };
        entries.filter_map(order).collect()
    }
}

/// Of orders, oldest first. Pure.
fn most_wanted(orders: impl Iterator<Item = (Order, String)>) -> usize {
    let (mut wanted, mut most) = (BTreeSet::new(), 0);
    for (order, id) in orders {
        match order {
            Order::Start => wanted.insert(id),
            Order::Stop => wanted.remove(&id),
        };
        most = most.max(wanted.len());
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_wanted_from_its_start_to_its_first_stop() {
        let of = |orders: &[(Order, &str)]| {
            most_wanted(orders.iter().map(|(order, id)| (*order, (*id).to_owned())))
        };
        let (start, stop) = (Order::Start, Order::Stop);
        assert_eq!(of(&[(start, "a"), (start, "a"), (start, "b")]), 2);
        assert_eq!(
            of(&[(start, "a"), (stop, "a"), (stop, "a"), (start, "b")]),
            1
        );
        assert_eq!(of(&[(stop, "a")]), 0);
    }
}
