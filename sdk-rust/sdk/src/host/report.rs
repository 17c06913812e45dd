//! Reports of state changes of a workload after its start.

use tokio::sync::watch;

/// Reports state changes of a workload after its start to the SDK; cheap to clone, never blocks.
///
/// Only the latest report counts; earlier ones are not queued. Reports after the workload was
/// stopped are ignored, so the reporting task need not know about the stop.
///
/// While [`super::Host::start`] is in progress, [`StatusReporter::starting`] changes the message
/// of `status`. When it returns `Ok` the state is RUNNING, unless this reporter has already
/// reported [`StatusReporter::running`] or an end; then the latest report counts.
#[derive(Clone, Debug)]
pub struct StatusReporter {
    latest: watch::Sender<Option<StatusReport>>,
}

impl StatusReporter {
    /// Creates a reporter and the receiver of its reports. The SDK calls this for each start; tests
    /// of a host call it themselves.
    pub fn channel() -> (Self, StatusReports) {
        let (latest, reports) = watch::channel(None);
        (Self { latest }, StatusReports { reports })
    }

    /// Reports STARTING, for example while a service waits for its restart.
    pub fn starting(&self, message: impl Into<String>) {
        self.send(ReportedState::Starting, message.into());
    }

    /// Reports RUNNING.
    pub fn running(&self, message: impl Into<String>) {
        self.send(ReportedState::Running, message.into());
    }

    /// Reports COMPLETED. The SDK then passes the instance to [`super::Host::stop`]; the ID stays
    /// visible until it is stopped.
    pub fn completed(&self, message: impl Into<String>) {
        self.send(ReportedState::Completed, message.into());
    }

    /// Reports ERROR with this message. The SDK then passes the instance to
    /// [`super::Host::stop`]; the ID stays visible until it is stopped.
    pub fn failed(&self, message: impl Into<String>) {
        self.send(ReportedState::Failed, message.into());
    }

    fn send(&self, state: ReportedState, message: String) {
        self.latest.send_modify(|latest| {
            let has_run = latest.as_ref().is_some_and(|report| report.has_run);
            let has_run = has_run || state != ReportedState::Starting;
            *latest = Some(StatusReport {
                state,
                message,
                has_run,
            });
        });
    }
}

/// Receiver of the reports of one workload.
#[derive(Debug)]
pub struct StatusReports {
    reports: watch::Receiver<Option<StatusReport>>,
}

impl StatusReports {
    /// Returns the next report; skips reports that were superseded in the meantime. Returns `None`
    /// after the last [`StatusReporter`] is dropped. Cancel safe.
    pub async fn next(&mut self) -> Option<StatusReport> {
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

/// A reported state of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The reported state.
    pub state: ReportedState,
    /// Message for users.
    pub message: String,
    /// Whether a state other than [`ReportedState::Starting`] was ever reported for the workload.
    pub has_run: bool,
}

/// States that can be reported.
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
