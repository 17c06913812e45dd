//! Extension checks: labels that announce extensions.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::nats::DISCOVER;
use crate::wire::response::Headers;

/// Checks of the section `extensions`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "extensions/labels", run: labels, covers: [HOST_EXT_001], host: Shared,
        roles: [], budget_s: 30, slow: false,
    },
    check! {
        id: "extensions/discovery", run: discovery, covers: [HOST_EXT_003], host: Shared,
        roles: [], budget_s: 30, slow: false,
    },
];

/// Time in which one poll waits for a reply.
const REPLY_POLL: Duration = Duration::from_millis(50);

/// Labels below `berth.dev/` have the value `true`.
async fn labels(cx: &CheckContext) -> Flow {
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let labels = heartbeat.get("labels").and_then(Value::as_object);
    let invalid: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.starts_with("berth.dev/") && *value != "true")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    cx.claim(HOST_EXT_001).holds(
        "labels below `berth.dev/` have the value `true`",
        invalid.is_empty(),
        || invalid.join(", "),
    );
    Ok(())
}

/// A host that announces discovery replies with its heartbeat; all hosts on the bus may reply.
async fn discovery(cx: &CheckContext) -> Flow {
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    if heartbeat.pointer("/labels/berth.dev~1discover") != Some(&Value::from("true")) {
        let claim = cx.claim(HOST_EXT_003);
        claim.holds("the host does not announce discovery", true, String::new);
        return Ok(());
    }
    let replies = Mutex::new(cx.request_on(DISCOVER, "", Headers::none()).await?);
    let description = "the host replies with its heartbeat";
    let probe = || async {
        let reply = replies.lock().await.next(REPLY_POLL).await;
        let heartbeat = reply.map(|reply| serde_json::from_slice::<Value>(&reply.payload));
        match heartbeat {
            Some(Ok(heartbeat)) if heartbeat.get("id") == Some(&Value::from(cx.host_id())) => {
                Ok(())
            }
            Some(_) => Err("only replies of other hosts".to_owned()),
            None => Err("no reply".to_owned()),
        }
    };
    let waited = cx.eventually(deadlines::DISCOVERY, description, probe);
    cx.claim(HOST_EXT_003).met(waited.await);
    Ok(())
}
