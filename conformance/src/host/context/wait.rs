//! Waits for the state of a workload.

use std::future::Future;
use std::time::Duration;

use super::CheckContext;
use crate::check::wait::{ProbeError, Waited};
use crate::spec::deadlines;
use crate::wire::response::{Response, State};

impl CheckContext {
    /// Waits until the id is RUNNING; fails at once in a state from which it cannot become RUNNING.
    pub async fn wait_running(&self, id: &str, within: impl Into<Duration>) -> Waited<Response> {
        let description = format!("{id} is RUNNING");
        let probe = || async {
            let response = self
                .status(id)
                .await
                .map_err(|blocked| ProbeError::Pending(blocked.to_string()))?;
            match response.state {
                State::Running => Ok(response),
                // With NOT_FOUND, the start may still be in flight.
                State::Starting | State::Stopping | State::NotFound => {
                    Err(ProbeError::Pending(response.to_string()))
                }
                _ => Err(ProbeError::Unreachable(response.to_string())),
            }
        };
        self.check_run
            .poll(within.into(), &description, probe)
            .await
    }

    /// Waits until the id is NOT_FOUND.
    pub async fn wait_not_found(&self, id: &str) -> Waited<Response> {
        self.wait_for_state(id, State::NotFound, deadlines::STOP_NOT_FOUND)
            .await
    }

    /// Waits until the id is in the state.
    pub async fn wait_for_state(
        &self,
        id: &str,
        state: State,
        within: impl Into<Duration>,
    ) -> Waited<Response> {
        let description = format!("{id} is {state}");
        let state = &state;
        self.eventually(within, &description, || async move {
            self.status(id).await?.in_state(state.clone())
        })
        .await
    }

    /// Waits until the id is in ERROR; fails at once in a state that a start which fails never has.
    pub async fn wait_failed(&self, id: &str, within: impl Into<Duration>) -> Waited<Response> {
        let description = format!("{id} is ERROR");
        let probe = || async {
            let response = self
                .status(id)
                .await
                .map_err(|blocked| ProbeError::Pending(blocked.to_string()))?;
            match response.state {
                State::Error => Ok(response),
                // With NOT_FOUND, the start may still be in flight.
                State::Starting | State::NotFound => Err(ProbeError::Pending(response.to_string())),
                _ => Err(ProbeError::Unreachable(response.to_string())),
            }
        };
        self.check_run
            .poll(within.into(), &description, probe)
            .await
    }

    /// Calls [`CheckRun::eventually`].
    pub async fn eventually<T, F, Fut>(
        &self,
        within: impl Into<Duration>,
        description: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.eventually(within, description, probe).await
    }

    /// Calls [`CheckRun::consistently`].
    pub async fn consistently<T, F, Fut>(
        &self,
        window: impl Into<Duration>,
        description: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run
            .consistently(window, description, probe)
            .await
    }

    /// Calls [`CheckRun::never`].
    pub async fn never<F, Fut>(
        &self,
        window: impl Into<Duration>,
        description: &str,
        probe: F,
    ) -> Waited<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<String>>,
    {
        self.check_run.never(window, description, probe).await
    }
}
