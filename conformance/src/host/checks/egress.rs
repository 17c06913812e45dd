//! Checks of outgoing connections: which destinations the allow-lists permit. The beacons of the
//! suite are the destinations; they have the loopback address of the machine.

use futures_util::future::try_join_all;
use serde_json::json;

use super::admission::{CONCURRENT_STARTS, claim_accepted};
use super::resources::{get_body, start_serving};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::{Beacon, BeaconServer};

/// Checks of the section `resources` about outgoing connections.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/egress-denied", run: egress_denied, covers: [HOST_RES_005], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/egress-redirected", run: egress_redirected, covers: [HOST_RES_005],
        host: Shared, roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/egress-of-siblings", run: egress_of_siblings, covers: [HOST_RES_005],
        host: Shared, roles: [HttpFetch, Idle], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "resources/egress-of-service", run: egress_of_service, covers: [HOST_RES_005],
        host: Shared, roles: [HttpFetch, ServiceRun], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "resources/egress-allowed", run: egress_allowed, covers: [HOST_RES_006], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/sockets", run: sockets, covers: [HOST_RES_016], host: Shared,
        roles: [HttpSocket], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
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

/// One guest with allow-lists, and the destination that it connects to.
#[derive(Default)]
struct Attempt {
    /// `HOST:PORT/PATH`.
    destination: String,
    allowed_hosts: Vec<String>,
    loopback_ports: Vec<String>,
    name_lookups: Vec<String>,
}

impl Attempt {
    fn to(destination: &str) -> Attempt {
        Attempt {
            destination: destination.to_owned(),
            ..Attempt::default()
        }
    }

    fn hosts(mut self, entries: &[&str]) -> Attempt {
        self.allowed_hosts = owned(entries);
        self
    }

    fn ports(mut self, entries: &[&str]) -> Attempt {
        self.loopback_ports = owned(entries);
        self
    }

    fn lookups(mut self, entries: &[&str]) -> Attempt {
        self.name_lookups = owned(entries);
        self
    }
}

fn owned(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.destination.split('/').next().unwrap_or_default();
        write!(f, "{authority} with allowedHosts {:?}", self.allowed_hosts)?;
        for (list, entries) in [
            ("allowedHostLoopbackPorts", &self.loopback_ports),
            ("allowedIpNameLookups", &self.name_lookups),
        ] {
            if !entries.is_empty() {
                write!(f, " and {list} {entries:?}")?;
            }
        }
        Ok(())
    }
}

/// Starts a guest for each attempt, and returns what the guests respond. With `accepted_by`,
/// records the claims that their workloads are accepted.
async fn responses(
    cx: &CheckContext,
    role: Role,
    attempts: &[Attempt],
    accepted_by: Option<Requirement>,
) -> Result<Vec<String>, Blocked> {
    let mut responses = Vec::new();
    for (group, attempts) in attempts.chunks(CONCURRENT_STARTS).enumerate() {
        let exchanges: Vec<_> = (attempts.iter().enumerate())
            .map(|(index, attempt)| {
                response(cx, format!("g{group}-{index}"), role, attempt, accepted_by)
            })
            .collect();
        responses.extend(try_join_all(exchanges).await?);
    }
    Ok(responses)
}

async fn response(
    cx: &CheckContext,
    label: String,
    role: Role,
    attempt: &Attempt,
    accepted_by: Option<Requirement>,
) -> Result<String, Blocked> {
    let (id, host) = (cx.id(&label), cx.http_host_name(&label));
    let workload = (cx.workload().component(role))
        .env("BEACON", &attempt.destination)
        .resource_field("allowedHosts", json!(attempt.allowed_hosts))
        .resource_field("allowedHostLoopbackPorts", json!(attempt.loopback_ports))
        .resource_field("allowedIpNameLookups", json!(attempt.name_lookups))
        .http_host(&host);
    if let Some(requirement) = accepted_by {
        let description = format!("a workload that connects to {attempt}");
        claim_accepted(cx, requirement, &description, &id, &workload).await?;
    } else {
        cx.start_and_wait(&id, &workload).await?;
    }
    get_body(cx, &host, "/").await
}

/// The parts of a beacon's address from which entries of allow-lists are made.
struct Address {
    port: String,
    /// The port without its last digit.
    port_prefix: String,
    /// `localhost:PORT/TOKEN`.
    by_name: String,
}

impl Address {
    fn of(beacon: &Beacon) -> Address {
        let port = beacon.authority.rsplit(':').next().unwrap_or_default();
        let end = port.len().saturating_sub(1);
        Address {
            port: port.to_owned(),
            port_prefix: port.get(..end).unwrap_or_default().to_owned(),
            by_name: beacon.value.replacen("127.0.0.1", "localhost", 1),
        }
    }
}

/// A request that no entry of `allowedHosts` permits is denied, whatever an entry has in common
/// with its destination, and whatever the other lists permit.
async fn egress_denied(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let Address {
        port,
        port_prefix,
        by_name,
    } = Address::of(&beacon);
    let (address, name) = (
        format!("{}/fetch", beacon.value),
        format!("{by_name}/fetch"),
    );
    let to_address = |entries: &[&str]| Attempt::to(&address).hosts(entries);
    let to_name = |entries: &[&str]| Attempt::to(&name).hosts(entries);
    let attempts = [
        to_address(&[]),
        to_address(&["example.com"]),
        to_address(&["127.0.0.1:1"]),
        to_address(&[&format!("127.0.0.1:{port_prefix}")]),
        to_address(&[&format!("127.0.0.2:{port}")]),
        to_address(&["127.0.0.11", "127.0.0.10"]),
        to_address(&["https://127.0.0.1"]),
        to_address(&[&format!("https://127.0.0.1:{port}")]),
        to_address(&["example.com", "127.0.0.1:1", "https://127.0.0.1"]),
        to_address(&[]).ports(&[&port]),
        to_address(&[]).ports(&[&format!("{port}/tcp")]),
        to_address(&[]).lookups(&["*", "127.0.0.1"]),
        to_name(&[]),
        to_name(&["*.localhost"]),
        to_name(&["x.localhost", "localhost.example", "ocalhost"]),
        to_name(&[&format!("localhost:{port_prefix}")]),
        to_name(&[&format!("https://localhost:{port}")]),
        to_name(&[]).ports(&[&port]),
        to_name(&[]).lookups(&["localhost"]),
    ];
    let responses = responses(cx, Role::HttpFetch, &attempts, None).await?;
    for (attempt, response) in attempts.iter().zip(responses) {
        let description = format!("request to {attempt}, which no entry permits");
        cx.claim(HOST_RES_005)
            .is(&description, response, "denied".to_owned());
    }
    cx.claim(HOST_RES_005).is(
        "number of denied requests that arrived",
        beacon.count("fetch"),
        0,
    );
    Ok(())
}

/// A redirect to a destination that no entry permits is not followed.
async fn egress_redirected(cx: &CheckContext) -> Flow {
    let elsewhere = BeaconServer::start()
        .await
        .map_err(|cause| Blocked::harness_error("cannot start a second server", &cause))?;
    let (permitted, denied) = (cx.beacon(), elsewhere.new_beacon());
    permitted.redirect_to(&format!("http://{}/fetch", denied.value));
    let attempt = Attempt::to(&format!("{}/fetch", permitted.value)).hosts(&[&permitted.authority]);
    responses(cx, Role::HttpFetch, &[attempt], None).await?;
    cx.claim(HOST_RES_005).is(
        "number of requests that arrived at the permitted destination, and at that of its redirect",
        (permitted.count("fetch"), denied.count("fetch")),
        (1, 0),
    );
    Ok(())
}

/// A component has its own allow-list only, whatever the others of its workload may reach.
async fn egress_of_siblings(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let destination = format!("{}/fetch", beacon.value);
    let fetching = (Role::HttpFetch, "example.com");
    let sibling = (Role::Idle, beacon.authority.as_str());
    for (label, parts) in [
        ("first", [sibling, fetching]),
        ("last", [fetching, sibling]),
    ] {
        let host = cx.http_host_name(label);
        let mut workload = cx.workload();
        for (role, entry) in parts {
            workload = workload
                .component(role)
                .env("BEACON", &destination)
                .allowed_host(entry);
        }
        cx.start_and_wait(&cx.id(label), &workload.http_host(&host))
            .await?;
        claim_not_arrived(cx, &host, &beacon).await?;
    }
    Ok(())
}

/// A component has its own allow-list only, whatever the service of its workload may reach.
async fn egress_of_service(cx: &CheckContext) -> Flow {
    let (beacon, host) = (cx.beacon(), cx.http_host_name("a"));
    let workload = cx
        .workload()
        .component(Role::HttpFetch)
        .env("BEACON", &format!("{}/fetch", beacon.value))
        .allowed_host("example.com")
        .http_host(&host)
        .service(Role::ServiceRun)
        .beacon(&beacon);
    cx.start_and_wait(&cx.id("a"), &workload).await?;
    claim_not_arrived(cx, &host, &beacon).await
}

async fn claim_not_arrived(cx: &CheckContext, host: &str, beacon: &Beacon) -> Flow {
    let response = get_body(cx, host, "/").await?;
    cx.claim(HOST_RES_005).is(
        "request that only the list of another part of the workload permits",
        (response, beacon.count("fetch")),
        ("denied".to_owned(), 0),
    );
    Ok(())
}

/// A request that an entry of `allowedHosts` permits arrives, in each form of the entry, and next
/// to each other entry that is not malformed.
async fn egress_allowed(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let Address { port, by_name, .. } = Address::of(&beacon);
    let (address, authority) = (&beacon.value, beacon.authority.as_str());
    let (http, upper) = (
        format!("http://{authority}"),
        format!("HTTP://{authority}/"),
    );
    let slash = format!("{authority}/");
    let (name, other_name) = (
        format!("LOCALHOST:{port}"),
        format!("http://Localhost:{port}/"),
    );
    let cases: [(&String, &[&str]); 14] = [
        (address, &[authority]),
        (address, &["127.0.0.1"]),
        (address, &["http://127.0.0.1"]),
        (address, &[&http]),
        (address, &[&upper]),
        (address, &[&slash]),
        (address, &["example.com", authority]),
        (address, &[authority, "example.com"]),
        (
            address,
            &["https://127.0.0.1", "127.0.0.1:1", authority, "*"],
        ),
        (
            address,
            &[
                "[::1]:8080",
                "::1",
                "[2001:DB8:0::1]",
                "https://[::1]/",
                authority,
            ],
        ),
        (
            address,
            &[
                "a.example:65535",
                "a.example:1",
                "*.example.com:443",
                "https://*.example.com/",
                "10.0.0.7:5432",
                "xn--bcher-kva.example",
                authority,
            ],
        ),
        (&by_name, &["LOCALHOST"]),
        (&by_name, &[&name]),
        (&by_name, &[&other_name]),
    ];
    let attempts: Vec<Attempt> = (cases.iter().enumerate())
        .map(|(index, (value, entries))| Attempt::to(&format!("{value}/g{index}")).hosts(entries))
        .collect();
    let responses = responses(cx, Role::HttpFetch, &attempts, Some(HOST_RES_006)).await?;
    for (index, (attempt, response)) in attempts.iter().zip(responses).enumerate() {
        let count = beacon.count(&format!("g{index}"));
        let arrived = response.parse::<u16>().is_ok() && count == 1;
        let description = format!("a request to {attempt} arrives");
        cx.claim(HOST_RES_006).holds(&description, arrived, || {
            format!("the guest received {response:?}, {count} requests arrived")
        });
    }
    Ok(())
}

/// A guest cannot open a TCP connection that no entry permits, whatever an entry has in common with
/// its destination.
async fn sockets(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let Address {
        port, port_prefix, ..
    } = Address::of(&beacon);
    // The unspecified address reaches the machine itself, but is not its loopback address.
    let unspecified = beacon.value.replacen("127.0.0.1", "0.0.0.0", 1);
    let to_loopback = |entries: &[&str]| Attempt::to(&beacon.value).hosts(entries);
    let to_unspecified = |entries: &[&str]| Attempt::to(&unspecified).hosts(entries);
    let attempts = [
        to_loopback(&[]),
        to_loopback(&["example.com"]),
        to_loopback(&["127.0.0.1:1"]),
        to_loopback(&[&format!("127.0.0.1:{port_prefix}")]),
        to_loopback(&["127.0.0.2"]),
        to_loopback(&["http://127.0.0.1"]),
        to_loopback(&["https://127.0.0.1"]),
        to_loopback(&[&format!("localhost:{port}")]),
        to_loopback(&[]).lookups(&["127.0.0.1", "localhost"]),
        to_loopback(&[]).ports(&["1", "2/tcp"]),
        to_loopback(&[]).ports(&[&port_prefix]),
        to_loopback(&[]).ports(&[&format!("{port}/udp")]),
        to_unspecified(&[]),
        to_unspecified(&[&beacon.authority, "127.0.0.1"]),
        to_unspecified(&[]).ports(&[&port]),
        to_unspecified(&[]).ports(&[&format!("{port}/tcp")]),
    ];
    let responses = responses(cx, Role::HttpSocket, &attempts, None).await?;
    for (attempt, response) in attempts.iter().zip(responses) {
        let description = format!("TCP connection to {attempt}, which no entry permits");
        cx.claim(HOST_RES_016)
            .is(&description, response, "denied".to_owned());
    }
    Ok(())
}

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
