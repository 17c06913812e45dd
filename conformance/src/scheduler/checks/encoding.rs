//! Encoding: the requests that a scheduler writes, and the messages that it must, or cannot,
//! decode.

mod malformed;
mod tolerated;
mod vectors;
mod written;

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::HostConfig;
use crate::spec::requirements::*;

/// Scenarios of the section `encoding`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "encoding/every-field", run: written::every_field,
        covers: [SCHED_ENC_001, SCHED_ENC_002, SCHED_ENC_003, SCHED_ENC_004, SCHED_ENC_005,
                 SCHED_ENC_006],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "encoding/unknown-fields", run: tolerated::unknown_fields, covers: [SCHED_ENC_007],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "encoding/proto-names", run: tolerated::proto_names, covers: [SCHED_ENC_008],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "encoding/integers", run: integers, covers: [SCHED_ENC_009], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "encoding/number-formats", run: tolerated::number_formats, covers: [SCHED_ENC_009],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "encoding/nulls", run: tolerated::nulls, covers: [SCHED_ENC_010], isolation: Shared,
        budget_s: 120,
    },
    scenario! {
        id: "encoding/malformed-heartbeats", run: malformed::heartbeats, covers: [SCHED_ENC_011],
        isolation: Own, needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "encoding/incomplete-replies", run: malformed::start_replies, covers: [SCHED_ENC_012],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "encoding/executed-starts", run: malformed::executed_starts, covers: [SCHED_ENC_012],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "encoding/incomplete-statuses", run: malformed::status_replies,
        covers: [SCHED_ENC_012], isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "encoding/incomplete-stops", run: malformed::stop_replies, covers: [SCHED_ENC_012],
        isolation: Shared, waits: |timings| timings.resend, budget_s: 120,
    },
];

/// Two hosts report low memory, one with JSON numbers and one with strings. The scheduler must
/// choose a third host.
async fn integers(cx: &ScenarioContext) -> Flow {
    let loaded = |config: HostConfig, total: Value, free: Value| {
        config
            .heartbeat_field("systemMemoryTotal", total)
            .heartbeat_field("systemMemoryFree", free)
            .heartbeat_field("workloadCount", json!(7))
    };
    let numbers = cx.host_config("numbers");
    let numbers = cx
        .start_host(loaded(numbers, json!(16_000_000_000_u64), json!(1_000_000)))
        .await?;
    let strings = cx
        .host_config("strings")
        .heartbeat_field("httpPort", json!("8080"));
    let strings = cx
        .start_host(loaded(strings, json!("16000000000"), json!("1000000")))
        .await?;
    let http =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    for (app, host) in [("one", &numbers), ("other", &strings)] {
        let manifest = cx.deployment(app, 1).spec("/hostId", json!(host.id()));
        cx.submit(&manifest.spec("/hostInterfaces", http.clone()))
            .await?;
        let within = cx.timings().register + cx.timings().act;
        let running = cx.wait_for_running(app, 1, within).await;
        cx.claim(SCHED_ENC_009).met(running);
    }
    cx.start_host(cx.host_config("free")).await?;
    cx.wait_until_registered().await?;
    let (_, next) = cx.deploy("next", 1, SCHED_SCALE_001).await?;
    let names = crate::scheduler::context::host_names(&next);
    cx.claim(SCHED_ENC_009)
        .is("host of the next workload", names, vec!["free".to_owned()]);
    Ok(())
}
