//! Credential checks: use of pull credentials.

use futures_util::future::try_join_all;

use super::image_support::{
    claim_becomes_running, claim_start_fails, credentials, idle_workload, private_registry,
};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Credentials, LoggedRequest, RepositoryBehavior, RequiredAuth};
use crate::wire::response::State;

/// Checks of the section `images` about credentials.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/pull-secret", run: pull_secret, covers: [HOST_IMG_015], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/secret-of-each-image", run: secret_of_each_image,
        covers: [HOST_IMG_015, HOST_IMG_017], host: Shared, roles: [Idle], needs: [Registry],
        budget_s: 90, slow: false,
    },
    check! {
        id: "images/unauthorized", run: unauthorized, covers: [HOST_IMG_016], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 150, slow: false,
    },
    check! {
        id: "images/credential-scope", run: credential_scope, covers: [HOST_IMG_017],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/bearer-token", run: bearer_token, covers: [HOST_IMG_018], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// A private image is pulled with the credentials of the workload, whatever their form and the form
/// of the challenge.
async fn pull_secret(cx: &CheckContext) -> Flow {
    let account = |user: &str, password: String| Credentials {
        user: user.to_owned(),
        password,
    };
    let usual = credentials(cx);
    let long = account("berth", format!("{}{}", usual.password, "x".repeat(200)));
    let signs = account("b.e-r_t@h", format!("{}: \"%+/=\\'&", usual.password));
    let no_user = account("", usual.password.clone());
    let registries = [
        ("its credentials", RequiredAuth::Basic(usual.clone())),
        ("a long password", RequiredAuth::Basic(long)),
        ("a password with punctuation", RequiredAuth::Basic(signs)),
        ("an empty user name", RequiredAuth::Basic(no_user)),
        (
            "a challenge in lower case",
            RequiredAuth::BasicInLowerCase(usual.clone()),
        ),
        (
            "a challenge for blobs only",
            RequiredAuth::BasicForBlobs(usual),
        ),
    ];
    let claims = registries
        .into_iter()
        .enumerate()
        .map(|(number, (form, auth))| async move {
            let account = auth
                .credentials()
                .cloned()
                .unwrap_or_else(|| credentials(cx));
            let registry = private_registry(auth).await?;
            let id = cx.id(&number.to_string());
            let artifact = cx.artifact(Role::Idle).salted(&id);
            let pushed = registry.push("private/idle", "v1", artifact);
            let workload = idle_workload(cx, &pushed).pull_secret(&account.user, &account.password);
            let image = format!("a private image with {form}");
            claim_becomes_running(cx, HOST_IMG_015, &image, &id, &workload).await
        });
    try_join_all(claims).await?;
    Ok(())
}

/// Each image of a workload is pulled with its own credentials, which no other registry receives.
async fn secret_of_each_image(cx: &CheckContext) -> Flow {
    let account = |user: &str| Credentials {
        user: user.to_owned(),
        password: format!("pw-{user}-{}-x7Q", cx.unique_name()),
    };
    let [one, two] = [account("one"), account("two")];
    let first = private_registry(RequiredAuth::Basic(one.clone())).await?;
    let second = private_registry(RequiredAuth::Basic(two.clone())).await?;
    let image_one = first.push("private/idle", "v1", cx.artifact(Role::Idle));
    let image_two = second.push("private/idle", "v1", cx.artifact(Role::Idle));
    let workload = idle_workload(cx, &image_one)
        .pull_secret(&one.user, &one.password)
        .component(&image_two)
        .pull_secret(&two.user, &two.password);
    let images = "two private images with different credentials";
    claim_becomes_running(cx, HOST_IMG_015, images, &cx.id("a"), &workload).await?;
    for (registry, other) in [(&first, &two), (&second, &one)] {
        let log = registry.log("private/idle");
        let with_other = log.iter().filter(|request| {
            let authorization = request.authorization.as_ref();
            authorization.and_then(|it| it.user.as_ref()) == Some(&other.user)
        });
        cx.claim(HOST_IMG_017).is(
            "number of requests with the credentials of another registry",
            with_other.count(),
            0,
        );
    }
    Ok(())
}

/// A private image cannot be pulled without credentials or with wrong credentials, whatever earlier
/// starts have sent.
async fn unauthorized(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let registry = private_registry(RequiredAuth::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let other = registry.push("private/other", "v1", cx.artifact(Role::Idle));
    let workload = || idle_workload(cx, &pushed).pull_policy("ALWAYS");
    let wrong = "not-the-password";
    for time in ["before", "after"] {
        let starts = [
            ("without credentials", workload()),
            (
                "with wrong credentials",
                workload().pull_secret(&account.user, wrong),
            ),
            (
                "with the credentials of another user",
                workload().pull_secret("nobody", wrong),
            ),
            (
                "without credentials, not pulled before",
                idle_workload(cx, &other),
            ),
        ];
        for (number, (credentials, workload)) in starts.into_iter().enumerate() {
            let image = format!("a private image {credentials} ({time} a valid start)");
            let id = cx.id(&format!("{time}-{number}"));
            claim_start_fails(cx, HOST_IMG_016, &image, &id, &workload).await?;
        }
        if time == "before" {
            let valid = workload().pull_secret(&account.user, &account.password);
            cx.start_and_wait(&cx.id("valid"), &valid).await?;
        }
    }
    Ok(())
}

/// The host sends credentials neither to a registry without a challenge nor to the target of a
/// redirect.
async fn credential_scope(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let public = cx.push_as("public", Role::Idle, RepositoryBehavior::Healthy);
    let workload = idle_workload(cx, &public).pull_secret(&account.user, &account.password);
    cx.start_and_wait(&cx.id("a"), &workload).await?;
    let with_credentials = |log: Vec<LoggedRequest>| {
        log.iter()
            .filter(|request| request.authorization.is_some())
            .count()
    };
    let unchallenged = with_credentials(cx.registry().log(&cx.repository("public")));
    cx.claim(HOST_IMG_017).is(
        "number of requests with credentials without a challenge",
        unchallenged,
        0,
    );

    let registry = private_registry(RequiredAuth::Basic(account.clone())).await?;
    let pushed = registry.push("moved/idle", "v1", cx.artifact(Role::Idle));
    registry.set_behavior("moved/idle", RepositoryBehavior::RedirectBlob);
    let workload = idle_workload(cx, &pushed).pull_secret(&account.user, &account.password);
    let id = cx.id("b");
    if cx.start(&id, &workload).await?.state == State::Starting {
        // Following the redirect is optional; only the credentials in that request are judged.
        let ended = cx.eventually(deadlines::DEFAULT_WAIT, "the start ends", || async {
            let status = cx.status(&id).await?;
            match status.state {
                State::Starting => Err(status.to_string()),
                _ => Ok(()),
            }
        });
        ended.await.or_blocked(cx, HOST_IMG_007)?;
    }
    let redirected = with_credentials(registry.redirect_target_log("moved/idle"));
    cx.claim(HOST_IMG_017).is(
        "number of requests with credentials to the target of a redirect",
        redirected,
        0,
    );
    Ok(())
}

/// Private images are pulled with bearer tokens from a token server, one for each repository.
async fn bearer_token(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    let registry = private_registry(RequiredAuth::Bearer(account.clone())).await?;
    for name in ["first", "second"] {
        let repository = format!("private/{name}");
        let pushed = registry.push(&repository, "v1", cx.artifact(Role::Idle));
        let workload = idle_workload(cx, &pushed).pull_secret(&account.user, &account.password);
        let image = format!("the {name} image behind a token server");
        claim_becomes_running(cx, HOST_IMG_018, &image, &cx.id(name), &workload).await?;
    }
    Ok(())
}
