//! How a running workload tells the SDK of its later life.

use tokio::sync::watch;

/// Tells the SDK what became of a workload; a cheap clone that never blocks.
///
/// The latest report wins; reports that overtake one another are not queued. A report after the
/// workload was stopped is ignored, so a task need not know whether it was.
///
/// While [`super::Host::start`] is still under way, [`Reporter::starting`] changes the message that
/// `status` shows. When it returns `Ok` the state is RUNNING, unless this reporter has already said
/// [`Reporter::running`] or an end: then the latest report stands.
#[derive(Clone, Debug)]
pub struct Reporter {
    latest: watch::Sender<Option<Report>>,
}

impl Reporter {
    /// A reporter and the place where its reports arrive. The SDK makes one for each start; a test
    /// of a host makes its own.
    pub fn channel() -> (Self, Reports) {
        let (latest, reports) = watch::channel(None);
        (Self { latest }, Reports { reports })
    }

    /// Not up, or not up again: STARTING, for example between two runs of a service.
    pub fn starting(&self, message: impl Into<String>) {
        self.send(ReportedState::Starting, message.into());
    }

    /// Up: RUNNING.
    pub fn running(&self, message: impl Into<String>) {
        self.send(ReportedState::Running, message.into());
    }

    /// Done, and well: COMPLETED. The SDK then hands the instance to [`super::Host::stop`]; the id
    /// stays visible until it is stopped.
    pub fn completed(&self, message: impl Into<String>) {
        self.send(ReportedState::Completed, message.into());
    }

    /// Over, and not well: ERROR with this message. The SDK then hands the instance to
    /// [`super::Host::stop`]; the id stays visible until it is stopped.
    pub fn failed(&self, message: impl Into<String>) {
        self.send(ReportedState::Failed, message.into());
    }

    fn send(&self, state: ReportedState, message: String) {
        self.latest.send_modify(|latest| {
            let was_up = latest.as_ref().is_some_and(|report| report.was_up);
            let was_up = was_up || state != ReportedState::Starting;
            *latest = Some(Report {
                state,
                message,
                was_up,
            });
        });
    }
}

/// Where the reports of one workload arrive.
#[derive(Debug)]
pub struct Reports {
    reports: watch::Receiver<Option<Report>>,
}

impl Reports {
    /// The next report that was not seen yet; reports in between are skipped. `None` once the last
    /// [`Reporter`] is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Report> {
        loop {
            if self.reports.changed().await.is_err() {
                return None;
            }
            if let Some(report) = self.reports.borrow_and_update().clone() {
                return Some(report);
            }
        }
    }
}

/// What a workload says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The state that it claims.
    pub state: ReportedState,
    /// For people.
    pub message: String,
    /// Whether it has ever claimed a state other than [`ReportedState::Starting`].
    pub was_up: bool,
}

/// The states that a workload can claim for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedState {
    /// STARTING
    Starting,
    /// RUNNING
    Running,
    /// COMPLETED
    Completed,
    /// ERROR
    Failed,
}
