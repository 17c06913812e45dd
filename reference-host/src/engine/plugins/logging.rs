//! `wasi:logging/logging`: a component's messages, written to the host's log with the workload's
//! id.

use berth_proto::WitInterface;
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{Grant, Plugin};
use crate::engine::guest::Guest;
use crate::engine::log_budget::{LogBudget, Permit};
use crate::interface::InterfaceName;

/// Length at which a message or context is truncated, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

pub struct Logging;

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[allow(dead_code, reason = "guests construct these values")]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Plugin for Logging {
    fn offer(&self) -> WitInterface {
        WitInterface {
            namespace: "wasi".into(),
            package: "logging".into(),
            interfaces: vec!["logging".into()],
            ..Default::default()
        }
    }

    fn link(
        &self,
        name: &InterfaceName,
        grant: &Grant<'_>,
        linker: &mut Linker<Guest>,
    ) -> Result<()> {
        let workload = grant.sandbox.workload_id.clone();
        let component = grant.sandbox.component.clone();
        let budget = LogBudget::default();
        linker.instance(&name.to_string())?.func_wrap(
            "log",
            move |_, (level, context, message): (Level, String, String)| {
                let Permit::Granted { omitted } = budget.request() else {
                    return Ok(());
                };
                if omitted > 0 {
                    let note = format!("({omitted} messages omitted)");
                    log(Level::Warn, &workload, &component, "", &note);
                }
                let (context, message) = (truncate(&context), truncate(&message));
                log(level, &workload, &component, context, message);
                Ok(())
            },
        )
    }
}

fn log(level: Level, workload: &str, component: &str, context: &str, message: &str) {
    let message = message.escape_debug();
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target: "berth_host::guest", ?workload, ?component, ?context, "{message}"
            )
        };
    }
    match level {
        Level::Trace => event!(trace),
        Level::Debug => event!(debug),
        Level::Info => event!(info),
        Level::Warn => event!(warn),
        Level::Error | Level::Critical => event!(error),
    }
}

fn truncate(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_MESSAGE_BYTES))
        .unwrap_or(text)
}
