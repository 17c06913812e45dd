//! Resource checks: volumes and mounts.

use serde_json::json;

use super::admission::{Refused, claim_accepted, claim_refused};
use super::resources::{get_body, start_serving};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `resources` about volumes.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/invalid-host-path", run: invalid_host_path, covers: [HOST_RES_011],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unknown-volume", run: unknown_volume, covers: [HOST_RES_012], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unknown-volume-of-service", run: unknown_volume_of_service,
        covers: [HOST_RES_012], host: Shared, roles: [ServiceRun], needs: [Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "resources/read-only", run: read_only, covers: [HOST_RES_013], host: Shared,
        roles: [HttpFiles, Idle], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/empty-dir", run: empty_dir, covers: [HOST_RES_014], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// A `hostPath` that does not exist or is not a directory is refused, whether or not it is mounted,
/// and is not created.
async fn invalid_host_path(cx: &CheckContext) -> Flow {
    let missing = std::env::temp_dir().join(format!("berth-{}", cx.unique_name()));
    let below = missing.join("a/b");
    let mut cases = Vec::new();
    for (description, path) in [
        ("a hostPath that does not exist", missing.to_string_lossy()),
        (
            "a hostPath whose parent does not exist",
            below.to_string_lossy(),
        ),
        ("a hostPath in /no", "/no/such/directory/for/berth".into()),
        ("a hostPath that is a file", "/etc/hostname".into()),
        ("a hostPath that is a device", "/dev/null".into()),
    ] {
        let unmounted = cx
            .workload()
            .component(Role::Idle)
            .volume("v", json!({ "hostPath": { "localPath": path } }));
        let mounted = unmounted.clone().mount("v", "/data");
        cases.push(Refused::new(description, mounted));
        cases.push(Refused::new(
            format!("{description} and is not mounted"),
            unmounted,
        ));
    }
    claim_refused(cx, HOST_RES_011, cases).await?;
    cx.claim(HOST_RES_011).is(
        "whether the refused directory exists afterwards",
        missing.exists(),
        false,
    );
    Ok(())
}

/// A mount of an unknown volume is refused: in each component, with a similar name, and with the
/// name of a volume of another workload.
async fn unknown_volume(cx: &CheckContext) -> Flow {
    let owner = cx
        .workload()
        .component(Role::Idle)
        .mount("of-another", "/data")
        .volume("of-another", json!({ "emptyDir": {} }));
    cx.start_and_wait(&cx.id("owner"), &owner).await?;
    let mut cases = Vec::new();
    for name in [
        "nowhere",
        "of-another",
        "Data",
        "dat",
        "data1",
        "data/",
        "*",
    ] {
        let first = cx.workload().component(Role::Idle).mount(name, "/data");
        let second = (cx.workload().component(Role::Idle).mount("data", "/data"))
            .component(Role::Idle)
            .mount(name, "/data");
        for (part, workload) in [("a component", first), ("the second component", second)] {
            let description = format!("a mount of the unknown volume {name:?} in {part}");
            let workload = workload.volume("data", json!({ "emptyDir": {} }));
            cases.push(Refused::new(description, workload).mentioning(name));
        }
    }
    claim_refused(cx, HOST_RES_012, cases).await
}

/// A mount of an unknown volume in the service is refused.
async fn unknown_volume_of_service(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .volume("data", json!({ "emptyDir": {} }))
        .service(Role::ServiceRun)
        .mount("data", "/data")
        .mount("nowhere", "/more");
    let case = Refused::new("a mount of an unknown volume in the service", workload);
    claim_refused(cx, HOST_RES_012, vec![case.mentioning("nowhere")]).await
}

/// Mounts an `emptyDir` volume at `/data`.
fn with_empty_dir(workload: Workload<'_>) -> Workload<'_> {
    workload
        .mount("v", "/data")
        .volume("v", json!({ "emptyDir": {} }))
}

/// Mounts an `emptyDir` volume at `/data`, read-only.
fn with_read_only_empty_dir(workload: Workload<'_>) -> Workload<'_> {
    workload
        .mount_read_only("v", "/data")
        .volume("v", json!({ "emptyDir": {} }))
}

/// A guest cannot write through a `readOnly` mount, even if another component of its workload
/// mounts the volume writable.
async fn read_only(cx: &CheckContext) -> Flow {
    let writable = start_serving(cx, "rw", Role::HttpFiles, with_empty_dir).await?;
    if get_body(cx, &writable, "/write/f").await? != "ok" {
        return Err(cx.blocked(HOST_RES_014, "a writable volume", &"the write failed"));
    }
    let alone = cx.workload().component(Role::HttpFiles);
    let before = cx.workload().component(Role::Idle).mount("v", "/data");
    let workloads = [
        ("alone", with_read_only_empty_dir(alone.clone())),
        (
            "before a component with a writable mount",
            with_read_only_empty_dir(alone)
                .component(Role::Idle)
                .mount("v", "/data"),
        ),
        (
            "behind a component with a writable mount",
            with_read_only_empty_dir(before.component(Role::HttpFiles)),
        ),
    ];
    for (index, (position, workload)) in workloads.into_iter().enumerate() {
        let label = format!("ro{index}");
        let host = cx.http_host_name(&label);
        cx.start_and_wait(&cx.id(&label), &workload.http_host(&host))
            .await?;
        let response = get_body(cx, &host, "/write/f").await?;
        let description = format!("write through a readOnly mount {position}");
        cx.claim(HOST_RES_013)
            .is(&description, response, "denied".to_owned());
    }
    Ok(())
}

/// An `emptyDir` is writable, private to its workload, and removed with it; a volume without a type
/// is an `emptyDir`.
async fn empty_dir(cx: &CheckContext) -> Flow {
    let untyped = cx.http_host_name("untyped");
    let workload = (cx.workload().component(Role::HttpFiles))
        .mount("v", "/data")
        .volume("v", json!({}))
        .http_host(&untyped);
    let description = "a workload with a volume without a type";
    claim_accepted(cx, HOST_RES_014, description, &cx.id("untyped"), &workload).await?;
    for (path, expected) in [
        ("/read/f", "denied"),
        ("/write/f", "ok"),
        ("/read/f", "berth"),
    ] {
        let response = get_body(cx, &untyped, path).await?;
        let description = format!("response to {path} with a volume without a type");
        cx.claim(HOST_RES_014)
            .is(&description, response, expected.to_owned());
    }
    let one = start_serving(cx, "one", Role::HttpFiles, with_empty_dir).await?;
    let written = get_body(cx, &one, "/write/f").await?;
    cx.claim(HOST_RES_014).is(
        "write to the workload's own emptyDir",
        written,
        "ok".to_owned(),
    );
    let read = get_body(cx, &one, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file in the same workload",
        read,
        "berth".to_owned(),
    );
    let two = start_serving(cx, "two", Role::HttpFiles, with_empty_dir).await?;
    let foreign = get_body(cx, &two, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file in another workload",
        foreign,
        "denied".to_owned(),
    );

    let id = cx.id("one");
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let again = start_serving(cx, "one", Role::HttpFiles, with_empty_dir).await?;
    let old = get_body(cx, &again, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file after a stop and a start",
        old,
        "denied".to_owned(),
    );
    Ok(())
}
