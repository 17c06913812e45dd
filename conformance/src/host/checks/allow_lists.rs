//! Resource checks: malformed entries of allow-lists.

use serde_json::json;

use super::admission::{Refused, claim_refused};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `resources` about malformed entries of allow-lists.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/malformed-allow-lists", run: malformed_allow_lists, covers: [HOST_RES_007],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resources/malformed-entry-position", run: malformed_entry_position,
        covers: [HOST_RES_007], host: Shared, roles: [Idle], needs: [Registry], budget_s: 120,
        slow: false,
    },
    check! {
        id: "resources/malformed-lists-of-service", run: malformed_lists_of_service,
        covers: [HOST_RES_007], host: Shared, roles: [ServiceRun], needs: [Registry],
        budget_s: 120, slow: false,
    },
];

/// An allow-list with malformed entries, and with a valid one.
struct List {
    name: &'static str,
    malformed: &'static [&'static str],
    valid: &'static str,
}

const LISTS: [List; 3] = [
    List {
        name: "allowedHosts",
        malformed: &[
            "*com",
            "a.*.example",
            "*.*.example",
            "a.example*",
            "https://a.example/path",
            "a.example/path",
            "a.example?x=1",
            "user@a.example",
            "exa mple.com",
            "a..example",
            "https://",
            "://a.example",
            "a.example:0",
            "a.example:99999",
            "a.example:65536",
            "a.example:",
            "a.example:http",
            "a.example:80:80",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]:80",
        ],
        valid: "a.example:443",
    },
    List {
        name: "allowedIpNameLookups",
        malformed: &[
            "*com",
            "a.*.example",
            "exa mple.com",
            "a..example",
            "example.com:80",
            "https://example.com",
            "example.com/",
            "user@example.com",
        ],
        valid: "*.example.com",
    },
    List {
        name: "allowedHostLoopbackPorts",
        malformed: &[
            "5432/icmp",
            "8080/sctp",
            "8080/",
            "/tcp",
            "0",
            "65536",
            "99999",
            "-1",
            "+80",
            "80-90",
            "http",
            "8080 tcp",
        ],
        valid: "53/udp",
    },
];

/// A malformed entry of an allow-list is refused, with a message that contains the entry.
async fn malformed_allow_lists(cx: &CheckContext) -> Flow {
    let mut cases = Vec::new();
    for list in &LISTS {
        for entry in list.malformed {
            let workload = cx
                .workload()
                .component(Role::Idle)
                .resource_field(list.name, json!([entry]));
            let description = format!("the entry {entry:?} of {}", list.name);
            cases.push(Refused::new(description, workload).mentioning(entry));
        }
    }
    claim_refused(cx, HOST_RES_007, cases).await
}

/// A malformed entry is refused in each position of its list, next to `*`, and in each component.
async fn malformed_entry_position(cx: &CheckContext) -> Flow {
    let mut cases = Vec::new();
    for list in &LISTS {
        let (valid, entry) = (
            list.valid,
            list.malformed.first().copied().unwrap_or_default(),
        );
        let any = match list.name {
            "allowedHostLoopbackPorts" => valid,
            _ => "*",
        };
        for entries in [
            [valid, entry, valid],
            [valid, valid, entry],
            [entry, valid, valid],
            [any, entry, valid],
            [entry, valid, any],
        ] {
            let workload = cx
                .workload()
                .component(Role::Idle)
                .resource_field(list.name, json!(entries));
            let description = format!("{} with {entries:?}", list.name);
            cases.push(Refused::new(description, workload).mentioning(entry));
        }
        for malformed_first in [true, false] {
            let [first, second] = if malformed_first {
                [entry, valid]
            } else {
                [valid, entry]
            };
            let workload = cx
                .workload()
                .component(Role::Idle)
                .resource_field(list.name, json!([first]))
                .component(Role::Idle)
                .resource_field(list.name, json!([second]));
            let description = format!(
                "{} [{first:?}] and [{second:?}] of two components",
                list.name
            );
            cases.push(Refused::new(description, workload).mentioning(entry));
        }
    }
    claim_refused(cx, HOST_RES_007, cases).await
}

/// A malformed entry of the service is refused.
async fn malformed_lists_of_service(cx: &CheckContext) -> Flow {
    let cases = LISTS.iter().map(|list| {
        let entry = list.malformed.first().copied().unwrap_or_default();
        let workload = cx
            .workload()
            .service(Role::ServiceRun)
            .resource_field(list.name, json!([entry, list.valid]));
        let description = format!("the entry {entry:?} of {} of a service", list.name);
        Refused::new(description, workload).mentioning(entry)
    });
    claim_refused(cx, HOST_RES_007, cases.collect()).await
}
