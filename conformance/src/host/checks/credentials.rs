//! Pull credentials: where they are used, and where they must never be seen.

use serde_json::Value;

use super::image_support::{credentials, fails, idle, own_registry, succeeds};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Behaviour, Demand, Request};
use crate::wire::response::{Response, State};

/// Of the sections `img` and `sec`, what concerns credentials.
pub const CHECKS: &[Check] = &[
    check! {
        id: "img/pull-secret", run: pull_secret, covers: [HOST_IMG_015], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/unauthorised", run: unauthorised, covers: [HOST_IMG_016], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/credentials-stay", run: credentials_stay, covers: [HOST_IMG_017],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/bearer", run: bearer, covers: [HOST_IMG_018], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "sec/replies", run: replies, covers: [HOST_SEC_001], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "sec/log", run: log, covers: [HOST_SEC_002], host: Own, roles: [Idle],
        needs: [Registry, Process], budget_s: 90, slow: false,
    },
];

async fn pull_secret(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    succeeds(
        cx,
        HOST_IMG_015,
        "a private image with its credentials",
        &cx.id("a"),
        &workload,
    )
    .await?;
    Ok(())
}

async fn unauthorised(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    fails(
        cx,
        HOST_IMG_016,
        "a private image without credentials",
        &cx.id("a"),
        &idle(cx, &pushed),
    )
    .await?;
    let wrong = idle(cx, &pushed).pull_secret(&account.user, "not-the-password");
    fails(
        cx,
        HOST_IMG_016,
        "a private image with wrong credentials",
        &cx.id("b"),
        &wrong,
    )
    .await?;
    Ok(())
}

/// A public registry never sees the credentials, nor does the server that a redirect names.
async fn credentials_stay(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let public = cx.push_as("public", Role::Idle, Behaviour::Healthy);
    let workload = idle(cx, &public).pull_secret(&account.user, &account.password);
    cx.started(&cx.id("a"), &workload).await?;
    let shown = |log: Vec<Request>| {
        log.iter()
            .filter(|request| request.authorization.is_some())
            .count()
    };
    let unasked = shown(cx.registry().log(&cx.repository("public")));
    cx.claim(HOST_IMG_017)
        .is("requests with credentials that nobody demanded", unasked, 0);

    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("moved/idle", "v1", cx.artifact(Role::Idle));
    registry.behave("moved/idle", Behaviour::RedirectBlob);
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    let id = cx.id("b");
    if cx.start(&id, &workload).await?.state == State::Starting {
        // Whether it follows the redirect at all is its own affair; what it showed there is not.
        let settled = cx.eventually(deadlines::LOOK, "the start settles", || async {
            let status = cx.status(&id).await?;
            match status.state {
                State::Starting => Err(status.to_string()),
                _ => Ok(()),
            }
        });
        settled.await.or_blocked(cx, HOST_IMG_007)?;
    }
    let elsewhere = shown(registry.elsewhere_log("moved/idle"));
    cx.claim(HOST_IMG_017).is(
        "requests with credentials where the redirect leads",
        elsewhere,
        0,
    );
    Ok(())
}

async fn bearer(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Bearer(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    succeeds(
        cx,
        HOST_IMG_018,
        "an image behind a token server",
        &cx.id("a"),
        &workload,
    )
    .await?;
    Ok(())
}

/// Starts with credentials that fail and that work, and a request that cannot be read.
async fn use_credentials(cx: &CheckContext) -> Result<(String, Vec<Response>), Blocked> {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let right = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    let missing = pushed.reference.replace(":v1", ":v9");
    let failing = idle(cx, missing).pull_secret(&account.user, &account.password);
    let unreadable = right.clone().field("poolSize", Value::Bool(true));
    let mut answers = Vec::new();
    for (name, workload) in [
        ("right", right),
        ("failing", failing),
        ("unreadable", unreadable),
    ] {
        let id = cx.id(name);
        answers.push(cx.start(&id, &workload).await?);
        answers.push(cx.status(&id).await?);
    }
    answers.push(cx.heartbeat().await?);
    Ok((account.password, answers))
}

async fn replies(cx: &CheckContext) -> Flow {
    let (password, answers) = use_credentials(cx).await?;
    for answer in &answers {
        let quoted = String::from_utf8_lossy(&answer.raw).contains(&password);
        let what = "the pull password stands in no answer";
        cx.claim(HOST_SEC_001)
            .about(answer)
            .holds(what, !quoted, || "it stands in this one".to_owned());
    }
    Ok(())
}

async fn log(cx: &CheckContext) -> Flow {
    let (password, _) = use_credentials(cx).await?;
    let log = cx.process()?.log();
    let line = log.lines().find(|line| line.contains(&password));
    let what = "the pull password stands nowhere in the log";
    cx.claim(HOST_SEC_002).holds(what, line.is_none(), || {
        line.map(|line| line.replace(&password, "[the password]"))
            .unwrap_or_default()
    });
    Ok(())
}
