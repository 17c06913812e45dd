//! One incarnation, from its start to its end.

use std::time::Duration;

use berth_sdk::proto::WorkloadState;
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use tokio::time::{Instant, sleep};

use super::{Outcome, RETRY_DELAY, START_TIMEOUT, Scheduler, State};
use crate::manifest::DesiredWorkload;

/// Interval between status requests for a running ID.
const RUNNING_POLL: Duration = Duration::from_secs(5);

/// Maximum time in state STARTING, which includes the pull of the images.
const STARTING_TIMEOUT: Duration = Duration::from_secs(600);

impl Scheduler {
    /// Runs an incarnation until it ends or its host is lost. `may_have_run` means that an earlier
    /// process may have started the ID.
    pub(super) async fn run_incarnation(
        &self,
        desired: &DesiredWorkload,
        id: &str,
        host: &str,
        may_have_run: bool,
    ) -> Outcome {
        let losses = |state: &State| state.losses.get(host).copied().unwrap_or_default();
        let before = losses(&self.state());
        tokio::select! {
            () = self.wait_until(|state| losses(state) > before) => Outcome::HostLost,
            outcome = self.start_and_watch(desired, id, host, may_have_run) => outcome,
        }
    }

    async fn start_and_watch(
        &self,
        desired: &DesiredWorkload,
        id: &str,
        host: &str,
        may_have_run: bool,
    ) -> Outcome {
        let client = match self.client(host) {
            Ok(client) => client,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let mut status = match self.start(&client, desired, id, may_have_run).await {
            Ok(status) => status,
            Err(outcome) => return outcome,
        };
        let deadline = Instant::now() + STARTING_TIMEOUT;
        loop {
            let state = status
                .state
                .as_str_name()
                .trim_start_matches("WORKLOAD_STATE_");
            let message = format!("{state} on host {host}: {}", status.message);
            match status.state {
                WorkloadState::Error | WorkloadState::NotFound => return Outcome::Failed(message),
                WorkloadState::Completed => {
                    return Outcome::Completed(format!(
                        "completed on host {host}: {}",
                        status.message
                    ));
                }
                WorkloadState::Running => self.write_status(desired, "Running", &message, id),
                _ if Instant::now() > deadline => return Outcome::Failed(message),
                _ => self.write_status(desired, "Progressing", &message, id),
            }
            let is_running = status.state == WorkloadState::Running;
            sleep(if is_running {
                RUNNING_POLL
            } else {
                RETRY_DELAY
            })
            .await;
            // A failed status request proves nothing; the fleet detects a lost host.
            status = client.status(id).await.unwrap_or(status);
        }
    }

    /// Starts an ID at most once, even if replies are lost.
    async fn start(
        &self,
        client: &HostClient,
        desired: &DesiredWorkload,
        id: &str,
        mut may_have_run: bool,
    ) -> Result<Status, Outcome> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.adopt_or_start(client, desired, id, may_have_run).await {
                Ok(status) => return Ok(status),
                Err(ClientError::Refused { code, message, .. })
                    if !may_have_run && code != Some(409) =>
                {
                    return Err(Outcome::Failed(message));
                }
                Err(ClientError::NoResponders) if !may_have_run => {
                    return Err(Outcome::NoResponders);
                }
                Err(ClientError::NoResponders) if self.is_lost(client.host_id()) => {
                    return Err(Outcome::HostLost);
                }
                // The host may be reconnecting: retry without a delay until it is lost.
                Err(ClientError::NoResponders) => attempts = 0,
                // This attempt sent nothing. If no earlier attempt did, the ID needs no stop.
                Err(error @ (ClientError::RequestTooLarge | ClientError::Encode(_))) => {
                    self.mark_unsent(id, may_have_run);
                    return Err(Outcome::Failed(error.to_string()));
                }
                Err(ClientError::Disconnected) => self.mark_unsent(id, may_have_run),
                // This or an earlier attempt may have succeeded: check the status first.
                Err(_) => may_have_run = true,
            }
            // The delay grows while the host sends no valid reply.
            sleep(RETRY_DELAY * attempts.min(10)).await;
        }
    }

    /// Adopts an ID that may have been started, and starts it if the host does not know it.
    async fn adopt_or_start(
        &self,
        client: &HostClient,
        desired: &DesiredWorkload,
        id: &str,
        may_have_run: bool,
    ) -> Result<Status, ClientError> {
        if may_have_run {
            let status = client.status(id).await?;
            if status.state != WorkloadState::NotFound {
                return Ok(status);
            }
        }
        self.state().unsent.remove(id);
        let _busy = self
            .fleet
            .expect_busy(client.host_id(), Instant::now() + START_TIMEOUT);
        client.start(id, &desired.workload).await
    }

    /// Records that no start of the ID was sent, unless an earlier attempt may have sent one.
    fn mark_unsent(&self, id: &str, may_have_run: bool) {
        if !may_have_run {
            self.state().unsent.insert(id.to_owned());
        }
    }
}
