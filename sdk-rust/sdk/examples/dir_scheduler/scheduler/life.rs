//! One incarnation, from its start to its end: whoever does not know, asks.

use std::time::Duration;

use berth_sdk::proto::WorkloadState;
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use tokio::time::{Instant, sleep};

use super::{ASK_AGAIN, Ended, START, Scheduler, State};
use crate::manifest::Manifest;

/// How often each id that runs is asked for.
const POLL: Duration = Duration::from_secs(5);

/// How long an id may be STARTING: pulls take their time.
const STARTING_PATIENCE: Duration = Duration::from_secs(600);

impl Scheduler {
    /// An incarnation from its start to its end, at the latest to the end of its host.
    pub(super) async fn life(
        &self,
        manifest: &Manifest,
        id: &str,
        host: &str,
        begun: bool,
    ) -> Ended {
        let losses = |state: &State| state.losses.get(host).copied().unwrap_or_default();
        let before = losses(&self.state());
        tokio::select! {
            () = self.until(|state| losses(state) > before) => Ended::HostIsAway,
            ended = self.start_and_watch(manifest, id, host, begun) => ended,
        }
    }

    async fn start_and_watch(
        &self,
        manifest: &Manifest,
        id: &str,
        host: &str,
        begun: bool,
    ) -> Ended {
        let client = match self.client(host) {
            Ok(client) => client,
            Err(error) => return Ended::Over(error.to_string()),
        };
        let mut status = match self.start(&client, manifest, id, begun).await {
            Ok(status) => status,
            Err(ended) => return ended,
        };
        let deadline = Instant::now() + STARTING_PATIENCE;
        loop {
            let said = status
                .state
                .as_str_name()
                .trim_start_matches("WORKLOAD_STATE_");
            let message = format!("{said} on host {host}: {}", status.message);
            match status.state {
                WorkloadState::Error | WorkloadState::NotFound => return Ended::Over(message),
                WorkloadState::Completed => {
                    return Ended::Completed(format!(
                        "completed on host {host}: {}",
                        status.message
                    ));
                }
                WorkloadState::Running => self.show(manifest, "Running", &message, id),
                _ if Instant::now() > deadline => return Ended::Over(message),
                _ => self.show(manifest, "Progressing", &message, id),
            }
            let is_running = status.state == WorkloadState::Running;
            sleep(if is_running { POLL } else { ASK_AGAIN }).await;
            // One question without an answer says nothing; of a lost host the fleet tells.
            status = client.status(id).await.unwrap_or(status);
        }
    }

    /// Starts it, once, whatever becomes of the answer.
    async fn start(
        &self,
        client: &HostClient,
        manifest: &Manifest,
        id: &str,
        mut begun: bool,
    ) -> Result<Status, Ended> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.start_or_ask(client, manifest, id, begun).await {
                Ok(Some(status)) => return Ok(status),
                // The host does not have it: the same start again.
                Ok(None) => continue,
                Err(ClientError::Refused { code, message, .. }) if !begun && code != Some(409) => {
                    return Err(Ended::Over(message));
                }
                Err(ClientError::NoResponders) if !begun => return Err(Ended::NobodyListened),
                Err(ClientError::NoResponders) if self.is_away(client.host_id()) => {
                    return Err(Ended::HostIsAway);
                }
                Err(ClientError::NoResponders) => attempts = 0,
                Err(error @ (ClientError::TooLarge | ClientError::Request(_))) => {
                    self.is_unsent(id, begun);
                    return Err(Ended::Over(error.to_string()));
                }
                Err(ClientError::Disconnected) => self.is_unsent(id, begun),
                // It may have been carried out, or an earlier attempt of ours was: ask.
                Err(_) => begun = true,
            }
            // Ever more slowly, so that a host that answers nonsense is not sent one start after the other.
            sleep(ASK_AGAIN * attempts.min(10)).await;
        }
    }

    /// Asks for what was begun, and starts what the host does not have.
    async fn start_or_ask(
        &self,
        client: &HostClient,
        manifest: &Manifest,
        id: &str,
        begun: bool,
    ) -> Result<Option<Status>, ClientError> {
        if begun {
            let status = client.status(id).await?;
            if status.state != WorkloadState::NotFound {
                return Ok(Some(status));
            }
        }
        self.state().unsent.remove(id);
        let _busy = self
            .fleet
            .expect_busy(client.host_id(), Instant::now() + START);
        client.start(id, &manifest.workload).await.map(Some)
    }

    fn is_unsent(&self, id: &str, begun: bool) {
        if !begun {
            self.state().unsent.insert(id.to_owned());
        }
    }
}
