//! Security checks: replies and the log contain no credential and no value of an environment.

use serde_json::{Value, json};

use super::image_support::{idle_workload, private_registry};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Credentials, RepositoryBehavior, RequiredAuth};
use crate::wire::base64;
use crate::wire::response::{Headers, Response, State};

/// Checks of the section `security`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "security/replies", run: replies, covers: [HOST_SEC_001], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 150, slow: false,
    },
    check! {
        id: "security/log", run: log, covers: [HOST_SEC_002], host: Own, roles: [Idle],
        needs: [Registry, Process], budget_s: 150, slow: false,
    },
    check! {
        id: "security/values", run: values, covers: [HOST_SEC_003], host: Own, roles: [Idle],
        needs: [Registry, Process], budget_s: 120, slow: false,
    },
];

/// Secrets that a check passes to the host, in every form in which they must not appear.
struct Secrets(Vec<String>);

impl Secrets {
    /// Registers the secrets of an account, so that reports do not contain them either.
    fn of_account(cx: &CheckContext, account: &Credentials) -> Secrets {
        let pair = format!("{}:{}", account.user, account.password);
        Secrets::of(
            cx,
            vec![
                account.user.clone(),
                account.password.clone(),
                base64::encode(&pair),
                base64::encode(&account.password),
                base64::encode(&account.user),
            ],
        )
    }

    fn of(cx: &CheckContext, forms: Vec<String>) -> Secrets {
        // The padding depends on the text that follows.
        let trimmed = forms
            .iter()
            .map(|form| form.trim_end_matches('=').to_owned());
        let forms: Vec<String> = trimmed.collect();
        forms.iter().for_each(|form| cx.add_secret(form));
        Secrets(forms)
    }

    fn found_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form))
    }

    fn found_in_response(&self, response: &Response) -> bool {
        let mut headers = response.headers.0.iter();
        self.found_in(&String::from_utf8_lossy(&response.raw))
            || headers.any(|(name, value)| self.found_in(name) || self.found_in(value))
    }
}

/// Returns an account whose name and password occur nowhere else.
fn account(cx: &CheckContext) -> Credentials {
    Credentials {
        user: format!("user-{}-k3W", cx.unique_name()),
        password: format!("pw-{}-x7Q", cx.unique_name()),
    }
}

/// Sends the credentials in starts that succeed, fail and are refused. Returns the secrets and all
/// responses.
async fn use_credentials(cx: &CheckContext) -> Result<(Secrets, Vec<Response>), Blocked> {
    let account = account(cx);
    let mut secrets = Secrets::of_account(cx, &account);
    let registry = private_registry(RequiredAuth::Basic(account.clone())).await?;
    let tokens = private_registry(RequiredAuth::Bearer(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    // A host may have cached the other image, and then needs no credentials for it.
    let denied = registry.push(
        "denied/idle",
        "v1",
        cx.artifact(Role::Idle).salted("denied"),
    );
    let broken = registry.push("broken/idle", "v1", cx.artifact(Role::Idle));
    registry.set_behavior("broken/idle", RepositoryBehavior::ServerError);
    let page = registry.push("page/idle", "v1", cx.artifact(Role::Idle));
    registry.set_behavior("page/idle", RepositoryBehavior::TextInsteadOfJson);
    let with_secret =
        |image: &str, password: &str| idle_workload(cx, image).pull_secret(&account.user, password);
    let valid = with_secret(&pushed.reference, &account.password);
    let wrong = format!("{}-wrong", account.password);
    let starts = [
        ("valid", valid.clone()),
        // The id is taken.
        ("valid", valid.clone()),
        (
            "missing",
            with_secret(&pushed.reference.replace(":v1", ":v9"), &account.password),
        ),
        ("denied", with_secret(&denied.reference, &wrong)),
        (
            "token-denied",
            with_secret(&tokens.reference("private/idle", "v1"), &wrong),
        ),
        (
            "token-missing",
            with_secret(&tokens.reference("private/idle", "v1"), &account.password),
        ),
        ("broken", with_secret(&broken.reference, &account.password)),
        ("page", with_secret(&page.reference, &account.password)),
        (
            "unreachable",
            with_secret("127.0.0.1:1/a/b:1", &account.password),
        ),
        (
            "malformed-image",
            with_secret("Not A Reference", &account.password),
        ),
        (
            "wrong-type",
            valid.clone().field("poolSize", Value::Bool(true)),
        ),
        (
            "unknown-policy",
            valid.clone().field("imagePullPolicy", json!("SOMETIMES")),
        ),
    ];
    let mut responses = Vec::new();
    for (name, workload) in starts {
        responses.extend(start_and_wait_for_end(cx, &cx.id(name), &workload).await?);
    }
    let (numbers, malformed) = malformed_secrets(cx, &account);
    secrets.0.extend(numbers.0);
    for (command, payload) in malformed {
        let reply = cx.send(command, payload, Headers::none()).await?;
        responses.extend(reply.response().cloned());
    }
    responses.push(cx.heartbeat().await?);
    Ok((secrets, responses))
}

/// Starts a workload and waits until its start has ended. Returns both responses.
async fn start_and_wait_for_end(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<[Response; 2], Blocked> {
    let start = cx.start(id, workload).await?;
    let ended = cx.eventually(deadlines::PULL_TIMEOUT, "the start ends", || async {
        let status = cx.status(id).await?;
        match status.state {
            State::Starting => Err(status.to_string()),
            _ => Ok(status),
        }
    });
    let status = ended.await.or_blocked(cx, HOST_IMG_007)?;
    Ok([start, status])
}

/// Returns requests whose secrets the host cannot decode, and the secrets in them.
fn malformed_secrets(
    cx: &CheckContext,
    account: &Credentials,
) -> (Secrets, Vec<(&'static str, String)>) {
    // A number that occurs nowhere else.
    let number = 1_000_000_000_000_u64 + rand::random::<u64>() % 8_000_000_000_000;
    let secrets = Secrets::of(cx, vec![number.to_string()]);
    let (user, password) = (&account.user, &account.password);
    let pull_secrets = [
        json!({ "username": user, "password": number }),
        json!({ "username": number, "password": password }),
        json!({ "username": user, "password": [password] }),
        json!({ "username": user, "password": { "value": password } }),
        json!({ "username": [user], "password": password }),
        json!([user, password]),
        json!(format!("{user}:{password}")),
        json!(number),
    ];
    let mut requests = Vec::new();
    for (index, secret) in pull_secrets.into_iter().enumerate() {
        let part = json!({ "image": "127.0.0.1:1/a/b:1", "imagePullSecret": secret });
        let component = json!({ "witWorld": { "components": [part] } });
        for (place, workload) in [("c", component), ("s", json!({ "service": part }))] {
            let id = cx.id(&format!("malformed-{index}-{place}"));
            let request = json!({ "workloadId": id, "workload": workload }).to_string();
            requests.push(("workload.start", request));
        }
    }
    let valid = cx.workload().component("127.0.0.1:1/a/b:1");
    let valid = valid.pull_secret(user, password);
    let request = valid.start_request(&cx.id("malformed")).to_string();
    let truncated = request.get(..request.len() - 3).unwrap_or_default();
    requests.extend([
        ("workload.start", truncated.to_owned()),
        ("workload.start", format!("{request}{request}")),
        ("workload.restart", request.clone()),
        ("workload.status", request.replace("workloadId", "id")),
    ]);
    (secrets, requests)
}

/// No reply contains the user name or the password of a pull secret.
async fn replies(cx: &CheckContext) -> Flow {
    let (secrets, responses) = use_credentials(cx).await?;
    for response in &responses {
        let description = "no reply contains a user name or a password";
        cx.claim(HOST_SEC_001).about(response).holds(
            description,
            !secrets.found_in_response(response),
            || "a reply contains one of them".to_owned(),
        );
    }
    Ok(())
}

/// The log of the host contains neither the user name nor the password of a pull secret.
async fn log(cx: &CheckContext) -> Flow {
    let (secrets, _) = use_credentials(cx).await?;
    let log = cx.process()?.log();
    let line = log.lines().find(|line| secrets.found_in(line));
    let description = "the log contains no user name and no password";
    cx.claim(HOST_SEC_002)
        .holds(description, line.is_none(), || {
            format!("line {:?}", line.unwrap_or_default())
        });
    Ok(())
}

/// Neither replies nor the log contain values of `environment` or `config`, whether a start
/// succeeds, fails or is refused.
async fn values(cx: &CheckContext) -> Flow {
    let secret = format!("value-{}-q9", cx.unique_name());
    let secrets = Secrets::of(cx, vec![secret.clone(), base64::encode(&secret)]);
    let image = cx.push(Role::Idle).reference;
    let with_values = |image: &str| {
        cx.workload()
            .component(image)
            .env("BERTH_SECRET", &secret)
            .resource_field("config", json!({ "secret": secret }))
    };
    let good = with_values(&image);
    let wrong_config = json!({ "secret": secret, "other": 7 });
    let starts = [
        ("good", good.clone()),
        // The id is taken.
        ("good", good.clone()),
        ("missing", with_values(&image.replace(":v1", ":v9"))),
        ("unreachable", with_values("127.0.0.1:1/a/b:1")),
        ("allowed-host", good.clone().allowed_host("not a host:http")),
        ("mount", good.clone().mount("no-such-volume", "/data")),
        ("pool-size", good.clone().field("poolSize", json!("many"))),
        (
            "environment",
            good.clone().resource_field("environment", json!([secret])),
        ),
        (
            "environment-text",
            good.clone().resource_field("environment", json!(secret)),
        ),
        (
            "config",
            good.clone().resource_field("config", wrong_config),
        ),
    ];
    let mut responses = Vec::new();
    for (name, workload) in starts {
        responses.extend(start_and_wait_for_end(cx, &cx.id(name), &workload).await?);
    }
    responses.push(cx.heartbeat().await?);
    for response in &responses {
        let description = "no reply contains a value of `environment` or `config`";
        cx.claim(HOST_SEC_003).about(response).holds(
            description,
            !secrets.found_in_response(response),
            || "a reply contains a value".to_owned(),
        );
    }
    let logged = secrets.found_in(&cx.process()?.log());
    cx.claim(HOST_SEC_003)
        .holds("the log does not contain the value", !logged, || {
            "the log contains the value".to_owned()
        });
    Ok(())
}
