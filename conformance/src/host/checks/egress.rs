//! Checks of outgoing connections by address: the loopback address of the machine, which the beacon
//! of the suite has.

use super::resources::{get_body, start_serving};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `resources` about addresses of outgoing connections.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/wildcard-loopback", run: wildcard_loopback, covers: [HOST_RES_018],
        host: Shared, roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/localhost", run: localhost, covers: [HOST_RES_019], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/wildcard-loopback-socket", run: wildcard_loopback_socket,
        covers: [HOST_RES_020], host: Shared, roles: [HttpSocket], needs: [Ingress, Registry],
        budget_s: 90, slow: false,
    },
];

/// A request to the loopback is denied if only a wildcard matches its host, whether the guest
/// writes the address or a name. With the address in the list as well, it arrives.
async fn wildcard_loopback(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let by_name = beacon.value.replacen("127.0.0.1", "localhost", 1);
    for (label, entry, target) in [
        ("address", "*", &beacon.value),
        ("name", "*", &by_name),
        ("below", "*.localhost", &by_name),
    ] {
        let host = start_serving(cx, label, Role::HttpFetch, |workload| {
            workload
                .env("BEACON", &format!("{target}/wildcard"))
                .allowed_host(entry)
        })
        .await?;
        let response = get_body(cx, &host, "/").await?;
        let description = format!("request to a loopback {label} with allowedHosts {entry}");
        cx.claim(HOST_RES_018)
            .is(&description, response, "denied".to_owned());
    }
    let host = start_serving(cx, "both", Role::HttpFetch, |workload| {
        workload
            .env("BEACON", &format!("{}/listed", beacon.value))
            .allowed_host("*")
            .allowed_host(&beacon.authority)
    })
    .await?;
    get_body(cx, &host, "/").await?;
    // The request that arrives proves that the others could have arrived.
    cx.claim(HOST_RES_018).is(
        "number of requests that arrived by a wildcard, and by the address",
        (beacon.count("wildcard"), beacon.count("listed")),
        (0, 1),
    );
    Ok(())
}

/// A request to `localhost` arrives if the list contains `localhost`.
async fn localhost(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let target = beacon.value.replacen("127.0.0.1", "localhost", 1);
    let host = start_serving(cx, "a", Role::HttpFetch, |workload| {
        workload
            .env("BEACON", &format!("{target}/fetch"))
            .allowed_host("localhost")
    })
    .await?;
    let response = get_body(cx, &host, "/").await?;
    let arrived = response.parse::<u16>().is_ok() && beacon.count("fetch") == 1;
    cx.claim(HOST_RES_019)
        .holds("a request to localhost arrives", arrived, || {
            format!(
                "the guest received {response:?}, {} requests arrived",
                beacon.count("fetch")
            )
        });
    Ok(())
}

/// A TCP connection to the loopback is denied if only `*` permits it, and allowed if the list
/// contains the address.
async fn wildcard_loopback_socket(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    for (label, entries, expected) in [
        ("any", &["*"][..], "denied"),
        ("listed", &["*", &beacon.authority], "open"),
    ] {
        let host = start_serving(cx, label, Role::HttpSocket, |workload| {
            let workload = workload.env("BEACON", &beacon.value);
            entries
                .iter()
                .fold(workload, |workload, entry| workload.allowed_host(entry))
        })
        .await?;
        let response = get_body(cx, &host, "/").await?;
        let description = format!("TCP connection to the loopback with allowedHosts {entries:?}");
        cx.claim(HOST_RES_020)
            .is(&description, response, expected.to_owned());
    }
    Ok(())
}
