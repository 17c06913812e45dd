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
        // With NOT_FOUND, the start may still be in flight.
        let before = [State::Starting, State::Stopping, State::NotFound];
        self.wait_after(&before, id, State::Running, within.into())
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
        // With NOT_FOUND, the start may still be in flight.
        let before = [State::Starting, State::NotFound];
        self.wait_after(&before, id, State::Error, within.into())
            .await
    }

    /// Waits until the id is in the state; fails at once in a state that is not in `before`.
    async fn wait_after(
        &self,
        before: &[State],
        id: &str,
        state: State,
        within: Duration,
    ) -> Waited<Response> {
        let description = format!("{id} is {state}");
        let state = &state;
        let probe = || async move {
            let response = self
                .status(id)
                .await
                .map_err(|blocked| ProbeError::Pending(blocked.to_string()))?;
            if response.state == *state {
                Ok(response)
            } else if before.contains(&response.state) {
                Err(ProbeError::Pending(response.to_string()))
            } else {
                Err(ProbeError::Unreachable(response.to_string()))
            }
        };
        self.check_run.poll(within, &description, probe).await
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
