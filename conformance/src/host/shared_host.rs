//! Host that most checks share. It is relaunched after a crash.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::target::{LaunchError, Launcher, RunningHost};

/// Maximum number of relaunches in the whole run. After the next crash, the host stays down and its
/// checks fail.
const MAX_RELAUNCHES: usize = 5;

/// Holder of the shared host, with one host at a time.
pub struct SharedHost {
    launcher: Launcher,
    state: Mutex<State>,
}

struct State {
    hosts: Vec<Arc<RunningHost>>,
    unexpected_exits: Vec<UnexpectedExit>,
}

/// Exit of the shared host that the suite did not request.
#[derive(Debug, Clone)]
pub struct UnexpectedExit {
    /// Exit status.
    pub status: String,
    /// End of the log.
    pub log: String,
}

impl SharedHost {
    /// Creates the holder of a host that is already running.
    pub fn new(launcher: Launcher, host: RunningHost) -> SharedHost {
        let state = State {
            hosts: vec![Arc::new(host)],
            unexpected_exits: Vec::new(),
        };
        SharedHost {
            launcher,
            state: Mutex::new(state),
        }
    }

    /// Returns the host; relaunches it after a crash.
    pub async fn get(&self) -> Result<Arc<RunningHost>, LaunchError> {
        let mut state = self.state.lock().await;
        let current = state.hosts.last().cloned();
        if let Some(host) = current {
            if !host.has_crashed() || state.unexpected_exits.len() > MAX_RELAUNCHES {
                return Ok(host);
            }
            let exit = unexpected_exit(&host);
            state.unexpected_exits.push(exit);
        }
        let checks_disturb_host = false;
        let host = Arc::new(self.launcher.bring_up(checks_disturb_host).await?);
        state.hosts.push(host.clone());
        Ok(host)
    }

    /// Removes and returns all hosts of the run and their unexpected exits.
    pub async fn take_all(&self) -> (Vec<Arc<RunningHost>>, Vec<UnexpectedExit>) {
        let mut state = self.state.lock().await;
        if let Some(last) = state.hosts.last().filter(|host| host.has_crashed()) {
            let exit = unexpected_exit(last);
            state.unexpected_exits.push(exit);
        }
        (
            std::mem::take(&mut state.hosts),
            std::mem::take(&mut state.unexpected_exits),
        )
    }
}

fn unexpected_exit(host: &RunningHost) -> UnexpectedExit {
    let process = host.process.as_ref();
    let status = process.and_then(|process| process.exit_status());
    UnexpectedExit {
        status: status.map(|status| status.to_string()).unwrap_or_default(),
        log: process
            .map(|process| crate::check::conclusion::log_tail(&process.log()))
            .unwrap_or_default(),
    }
}
