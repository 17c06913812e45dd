//! Transport checks of workload ids: any text, distinct texts, and long ids.

use futures_util::future::try_join_all;
use serde_json::json;

use super::sweep::{Request, sweep};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::response::{Headers, State};

/// Checks of the section `wire` about ids.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/ids", run: ids, covers: [HOST_WIRE_007], host: Shared, roles: [],
        budget_s: 150, slow: false,
    },
    check! {
        id: "wire/distinct-ids", run: distinct_ids, covers: [HOST_WIRE_007], host: Shared,
        roles: [], budget_s: 150, slow: false,
    },
    check! {
        id: "wire/short-ids", run: short_ids, covers: [HOST_WIRE_007], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "wire/long-ids", run: long_ids, covers: [HOST_WIRE_009], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "wire/huge-id", run: huge_id, covers: [HOST_WIRE_010], host: Own, roles: [],
        budget_s: 60, slow: false,
    },
];

/// Longest id that every host accepts, in bytes.
const ID_BYTES: usize = 256;

/// Ids with any characters are accepted and echoed unchanged.
async fn ids(cx: &CheckContext) -> Flow {
    let workload = workload_for_ids(cx).await?;
    let names = [
        " blanks around ",
        "line\nbreak\r\n\ttab",
        "dots.and.*.and.>",
        "../../etc/passwd",
        "/absolute/path/",
        "日本語 ünï 🦀",
        "quote\" back\\slash {}[]<>&",
        "NUL\u{0}and\u{7f}",
        "$SYS.REQ",
        "%2e%2e%s%n",
        "\u{2028}\u{feff}\u{e000}\u{10ffff}",
    ];
    let short = cx.id("").len();
    let filled = |text: &str| text.repeat((ID_BYTES - short) / text.len());
    let long = ["x", "ü", "日", "🦀", "\n", "\"", "/", "\u{1}"].map(filled);
    // Escapes and quotes make an id longer in JSON, but not the id itself.
    let escaped = format!("{}{}", "\n".repeat(100), "x".repeat(100));
    let all = names
        .iter()
        .map(|name| (*name).to_owned())
        .chain(long)
        .chain([escaped]);
    let ids: Vec<String> = all.map(|name| cx.id(&name)).collect();
    try_join_all(ids.iter().map(|id| claim_accepted(cx, id, &workload))).await?;
    Ok(())
}

/// Returns a workload with an empty directory, which some hosts name after the id, or without it if
/// the host does not start such a workload under a plain id.
async fn workload_for_ids(cx: &CheckContext) -> Result<Workload<'_>, Blocked> {
    let with_volume = cx.workload().volume("v", json!({ "emptyDir": {} }));
    let start = cx.start(&cx.id("volume"), &with_volume).await?;
    Ok(match start.state {
        State::Running | State::Starting => with_volume,
        _ => cx.workload(),
    })
}

/// Records the claims that an id is accepted in each command, and echoed.
async fn claim_accepted(cx: &CheckContext, id: &str, workload: &Workload<'_>) -> Flow {
    let start = cx.start(id, workload).await?;
    cx.claim(HOST_WIRE_007)
        .about(&start)
        .is("`workloadId` in the reply to start", &*start.id, id);
    let accepted = matches!(start.state, State::Running | State::Starting);
    let description = format!("an id of {} bytes, {id:?}, is accepted", id.len());
    cx.claim(HOST_WIRE_007)
        .about(&start)
        .holds(&description, accepted, || start.to_string());
    let status = cx.status(id).await?;
    cx.claim(HOST_WIRE_007).about(&status).is(
        "`workloadId` in the reply to status",
        &*status.id,
        id,
    );
    let stop = cx.stop(id).await?;
    cx.claim(HOST_WIRE_007)
        .about(&stop)
        .is("`workloadId` in the reply to stop", &*stop.id, id);
    Ok(())
}

/// Returns ids of the check that differ only slightly.
fn similar_ids(cx: &CheckContext) -> Vec<String> {
    let base = cx.id("Same");
    let fill = |end: &str| {
        let filler = ID_BYTES - base.len() - end.len();
        format!("{base}{}{end}", "x".repeat(filler))
    };
    let variants = [
        format!("{base} "),
        format!(" {base}"),
        format!("\t{base}\n"),
        base.to_lowercase(),
        base.to_uppercase(),
        format!("{base}\u{0}"),
        format!("{base}\u{200b}"),
        format!("{base}/"),
        format!("{base}-1"),
        format!("{base}-é"),
        format!("{base}-e\u{301}"),
        format!("{base}-ß"),
        format!("{base}-ss"),
        format!("{base}-\u{fb01}"),
        format!("{base}-fi"),
        format!("\"{base}\""),
        fill("1"),
        fill("2"),
        fill("y"),
    ];
    std::iter::once(base.clone()).chain(variants).collect()
}

/// Ids that differ in any byte are different ids: each can be started and stopped by itself.
async fn distinct_ids(cx: &CheckContext) -> Flow {
    let ids = similar_ids(cx);
    ids.iter().for_each(|id| cx.track_id(id));
    let workload = cx.workload();
    for start in try_join_all(ids.iter().map(|id| cx.start(id, &workload))).await? {
        let accepted = matches!(start.state, State::Running | State::Starting);
        cx.claim(HOST_WIRE_007).about(&start).holds(
            "an id is accepted beside similar ids",
            accepted,
            || format!("{start}, id {:?}", start.id),
        );
    }
    let (stopped, kept): (Vec<_>, Vec<_>) = ids
        .iter()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    try_join_all(stopped.iter().map(|(_, id)| cx.stop(id))).await?;
    for (_, id) in stopped {
        let gone = cx.wait_not_found(id).await;
        cx.claim(HOST_WIRE_007).met(gone);
    }
    // The stops of similar ids must not stop these.
    for (_, id) in kept {
        let running = cx.wait_running(id, deadlines::DEFAULT_WAIT).await;
        cx.claim(HOST_WIRE_007).met(running);
    }
    Ok(())
}

/// Ids that a program may confuse with an absent value are ids. The check only requests their
/// status, because they are not unique.
async fn short_ids(cx: &CheckContext) -> Flow {
    let ids = [
        " ",
        "\t",
        "\n",
        "\u{0}",
        "0",
        "-1",
        "00",
        "null",
        "None",
        "nil",
        "undefined",
        "false",
        "NaN",
        "[]",
        "{}",
        "\"\"",
        ".",
        "..",
        "/",
        "*",
        ">",
        "\u{feff}",
        "\u{200b}",
    ];
    let requests = ids.map(|id| Request {
        case: id,
        command: "workload.status",
        payload: json!({ "workloadId": id }).to_string().into(),
        starts: None,
    });
    sweep(cx, requests.into(), |id, reply| {
        let description = format!("the host replies to a status of {id:?}");
        let Some(response) = cx.claim(HOST_WIRE_007).answered(&description, reply) else {
            return;
        };
        let accepted = response.error_code.is_none() && response.id == *id;
        let description = format!("the id {id:?} is accepted and echoed");
        cx.claim(HOST_WIRE_007)
            .about(&response)
            .holds(&description, accepted, || {
                format!("{response}, workloadId {:?}", response.id)
            });
    })
    .await
}

/// An id of more than 256 bytes is echoed unchanged, or refused and omitted from the reply, in each
/// command.
async fn long_ids(cx: &CheckContext) -> Flow {
    let mut requests = Vec::new();
    for bytes in [ID_BYTES + 1, 1000, 20_000] {
        let mut id = cx.id(&format!("{bytes}-"));
        id.extend(std::iter::repeat_n('x', bytes - id.len()));
        cx.track_id(&id);
        let payload = cx.workload().start_request(&id).to_string();
        for command in ["workload.start", "workload.status", "workload.stop"] {
            requests.push(Request {
                case: (command, id.clone()),
                command,
                payload: payload.clone().into(),
                starts: None,
            });
        }
    }
    sweep(cx, requests, |(command, id), reply| {
        let bytes = id.len();
        let description = format!("the host replies to {command} with an id of {bytes} bytes");
        let Some(response) = cx.claim(HOST_WIRE_009).answered(&description, reply) else {
            return;
        };
        let refused = response.state == State::Error
            && response.error_code == Some(413)
            && response.id.is_empty();
        let echoed = response.error_code.is_none() && response.id == *id;
        let description = format!(
            "{command} with an id of {bytes} bytes is refused (ERROR, 413, no `workloadId`), or \
             the id is echoed unchanged"
        );
        cx.claim(HOST_WIRE_009)
            .about(&response)
            .holds(&description, refused || echoed, || {
                format!("{response}, `workloadId` of {} bytes", response.id.len())
            });
    })
    .await
}

/// The host replies to a request whose id, echoed, would exceed the broker's maximum payload.
async fn huge_id(cx: &CheckContext) -> Flow {
    let id = "h".repeat(600 * 1024);
    for command in ["workload.status", "workload.stop", "workload.start"] {
        let payload = json!({ "workloadId": id, "workload": {} }).to_string();
        let reply = cx.send(command, payload, Headers::none()).await?;
        let description = format!("the host replies to {command} with an id of 600 KiB");
        let Some(response) = cx.claim(HOST_WIRE_010).answered(&description, &reply) else {
            continue;
        };
        let omitted_or_echoed = response.id.is_empty() || response.id == id;
        cx.claim(HOST_WIRE_010).holds(
            "the reply omits the id or echoes it unchanged",
            omitted_or_echoed,
            || format!("`workloadId` of {} bytes", response.id.len()),
        );
    }
    Ok(())
}
