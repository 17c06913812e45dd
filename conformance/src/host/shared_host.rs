//! The host that most checks share, launched again when it dies.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::target::{LaunchError, Launcher, RunningHost};

/// A host that dies more often than this stays dead: its checks say so.
const MAX_RELAUNCHES: usize = 5;

/// One host at a time.
pub struct SharedHost {
    launcher: Launcher,
    state: Mutex<State>,
}

struct State {
    hosts: Vec<Arc<RunningHost>>,
    deaths: Vec<Death>,
}

/// The shared host ended although nobody asked it to.
#[derive(Debug, Clone)]
pub struct Death {
    /// How.
    pub status: String,
    /// The end of its log.
    pub log: String,
}

impl SharedHost {
    /// The host that is up already.
    pub fn new(launcher: Launcher, host: RunningHost) -> SharedHost {
        let state = State {
            hosts: vec![Arc::new(host)],
            deaths: Vec::new(),
        };
        SharedHost {
            launcher,
            state: Mutex::new(state),
        }
    }

    /// The host, launched again when it has died.
    pub async fn get(&self) -> Result<Arc<RunningHost>, LaunchError> {
        let mut state = self.state.lock().await;
        let current = state.hosts.last().cloned();
        if let Some(host) = current {
            if !host.has_died() || state.deaths.len() > MAX_RELAUNCHES {
                return Ok(host);
            }
            let death = death(&host);
            state.deaths.push(death);
        }
        let host = Arc::new(self.launcher.bring_up(false).await?);
        state.hosts.push(host.clone());
        Ok(host)
    }

    /// Every host there was, and how they died.
    pub async fn take_all(&self) -> (Vec<Arc<RunningHost>>, Vec<Death>) {
        let mut state = self.state.lock().await;
        if let Some(last) = state.hosts.last().filter(|host| host.has_died()) {
            let death = death(last);
            state.deaths.push(death);
        }
        (
            std::mem::take(&mut state.hosts),
            std::mem::take(&mut state.deaths),
        )
    }
}

fn death(host: &RunningHost) -> Death {
    let process = host.process.as_ref();
    let status = process.and_then(|process| process.exit_status());
    Death {
        status: status.map(|status| status.to_string()).unwrap_or_default(),
        log: process
            .map(|process| crate::check::conclusion::log_end(&process.log()))
            .unwrap_or_default(),
    }
}
