//! Resource checks: imports, and the interfaces that a workload declares.

use serde_json::json;

use super::admission::{Refused, claim_accepted, claim_refused};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `resources` about imports.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/undeclared-import", run: undeclared_import, covers: [HOST_RES_008],
        host: Shared, roles: [HttpKeyvalue, Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unmet-import", run: unmet_import, covers: [HOST_RES_009], host: Shared,
        roles: [Unmet, Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unmet-import-of-service", run: unmet_import_of_service,
        covers: [HOST_RES_009], host: Shared, roles: [ServiceUnmet], needs: [Registry],
        budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unused-interface", run: unused_interface, covers: [HOST_RES_010],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// A component that imports an undeclared interface is refused: in each position, whatever else
/// the workload declares, and whatever another workload has declared.
async fn undeclared_import(cx: &CheckContext) -> Flow {
    let declares = cx
        .workload()
        .component(Role::Idle)
        .interface("wasi", "keyvalue", &["store"]);
    cx.start_and_wait(&cx.id("declares"), &declares).await?;
    let importing = || cx.workload().component(Role::HttpKeyvalue);
    let behind = cx
        .workload()
        .component(Role::Idle)
        .component(Role::HttpKeyvalue);
    let mut cases = vec![
        Refused::new("an undeclared import", importing()),
        Refused::new("an undeclared import of the second component", behind),
    ];
    for (namespace, package) in [
        ("acme", "keyvalue"),
        ("wasi", "keyvalues"),
        ("wasi", "key"),
        ("wasi", "config"),
        ("WASI", "keyvalue"),
    ] {
        let workload = importing().interface(namespace, package, &["store"]);
        let description = format!("an import with the declaration {namespace}:{package}/store");
        cases.push(Refused::new(description, workload));
    }
    let cases = cases
        .into_iter()
        .map(|case| case.mentioning("wasi:keyvalue/store"));
    claim_refused(cx, HOST_RES_008, cases.collect()).await
}

/// Returns the workload with the interface of the roles `unmet` and `service-unmet` declared, in
/// each way in which a workload can declare it.
fn declared_in_each_way<'c>(workload: &Workload<'c>) -> [(&'static str, Workload<'c>); 3] {
    let declared = || workload.clone().interface("acme", "nope", &["thing"]);
    [
        ("its package", declared()),
        (
            "its package with a name",
            declared().interface_field("name", json!("other")),
        ),
        (
            "its version",
            declared().interface_field("version", json!("1.0.0")),
        ),
    ]
}

/// A component that imports an interface that the host does not offer is refused.
async fn unmet_import(cx: &CheckContext) -> Flow {
    let alone = cx.workload().component(Role::Unmet);
    let behind = cx.workload().component(Role::Idle).component(Role::Unmet);
    let mut cases = Vec::new();
    for (part, workload) in [("a component", alone), ("the second component", behind)] {
        for (declared, workload) in declared_in_each_way(&workload) {
            let description = format!(
                "an import of {part} that the host does not offer, with a declaration of {declared}"
            );
            cases.push(Refused::new(description, workload).mentioning("acme:nope/thing"));
        }
    }
    claim_refused(cx, HOST_RES_009, cases).await
}

/// A service that imports an interface that the host does not offer is refused.
async fn unmet_import_of_service(cx: &CheckContext) -> Flow {
    let workload = cx.workload().service(Role::ServiceUnmet);
    let cases = declared_in_each_way(&workload).map(|(declared, workload)| {
        let description = format!(
            "an import of a service that the host does not offer, with a declaration of {declared}"
        );
        Refused::new(description, workload).mentioning("acme:nope/thing")
    });
    claim_refused(cx, HOST_RES_009, cases.into()).await
}

/// A declared interface that nothing imports is accepted, even if the host does not offer it, with
/// a component and without.
async fn unused_interface(cx: &CheckContext) -> Flow {
    for (label, workload) in [
        ("component", cx.workload().component(Role::Idle)),
        ("empty", cx.workload()),
    ] {
        for (declared, workload) in declared_in_each_way(&workload) {
            let id = cx.id(&format!("{label}-{}", declared.replace(' ', "-")));
            let description =
                format!("a workload ({label}) with an unused declaration of {declared}");
            claim_accepted(cx, HOST_RES_010, &description, &id, &workload).await?;
        }
    }
    Ok(())
}
