//! `wasi:logging/logging`: a component's messages go to the host's log under the workload's id.

use berth_proto::WitInterface;
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{Grant, Plugin};
use crate::engine::guest::Guest;
use crate::engine::log_budget::{Allowed, LogBudget};
use crate::interface::InterfaceName;

/// A longer message or context is cut to so many bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

pub struct Logging;

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[allow(dead_code, reason = "guests make these values")]
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
    fn offers(&self) -> WitInterface {
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
                let Allowed::After(left_out) = budget.ask() else {
                    return Ok(());
                };
                if left_out > 0 {
                    let words = format!("({left_out} messages were left out)");
                    log(Level::Warn, &workload, &component, "", &words);
                }
                log(level, &workload, &component, cut(&context), cut(&message));
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

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_MESSAGE_BYTES))
        .unwrap_or(text)
}
