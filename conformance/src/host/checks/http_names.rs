//! Ingress checks: the names under which workloads are reachable, and texts that are no names.

use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper::Request;

use super::admission::{Refused, claim_accepted, claim_refused};
use super::http::{built, hello, require_ok};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `http` about host names.
pub const CHECKS: &[Check] = &[
    check! {
        id: "http/host-names", run: host_names, covers: [HOST_HTTP_001], host: Shared,
        roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/several-declarations", run: several_declarations, covers: [HOST_HTTP_001],
        host: Shared, roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/absolute-url", run: absolute_url, covers: [HOST_HTTP_001], host: Shared,
        roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/only-workload", run: only_workload, covers: [HOST_HTTP_002], host: Own,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/host-port", run: host_port, covers: [HOST_HTTP_004], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/host-case", run: host_case, covers: [HOST_HTTP_005], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/aliases", run: aliases, covers: [HOST_HTTP_006], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/invalid-host", run: invalid_host, covers: [HOST_HTTP_007], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// Maximum length of a host name.
const MAX_HOST_NAME_BYTES: usize = 253;
/// Maximum length of a label of a host name.
const MAX_LABEL_BYTES: usize = 63;

/// Starts a workload that responds with its own host name.
async fn start_named(cx: &CheckContext, label: &str, host: &str) -> Flow {
    let workload = cx
        .workload()
        .component(Role::HelloTwo)
        .env("BODY", host)
        .http_host(host);
    let description = format!("a workload with the host {host}");
    claim_accepted(cx, HOST_HTTP_001, &description, &cx.id(label), &workload).await?;
    Ok(())
}

/// Every host name is reachable: of one label, in the form of an address, of maximum length, and
/// next to names that differ little from it.
async fn host_names(cx: &CheckContext) -> Flow {
    let base = cx.http_host_name("a");
    let [a, b, c] = rand::random::<[u8; 3]>();
    let names = [
        format!("{}-single", cx.unique_name()),
        format!("10.{a}.{b}.{c}"),
        format!("{}.{base}", "a".repeat(MAX_LABEL_BYTES)),
        longest_name_below(&base),
        format!("0-9--z.{base}"),
        format!("sub.{base}"),
        format!("x{base}"),
        format!("{base}x"),
        base,
    ];
    let labels: Vec<String> = (0..names.len()).map(|index| index.to_string()).collect();
    let starts: Vec<_> = (labels.iter().zip(&names))
        .map(|(label, name)| start_named(cx, label, name))
        .collect();
    try_join_all(starts).await?;
    for name in &names {
        let response = cx.http_get(name, "/").await?;
        let reached = response.status == 200 && response.text() == *name;
        let description = format!("a request for host {name} reaches the workload of this name");
        cx.claim(HOST_HTTP_001)
            .holds(&description, reached, || response.to_string());
    }
    Ok(())
}

/// Returns a host name of maximum length that ends with `.base`.
fn longest_name_below(base: &str) -> String {
    let room = MAX_HOST_NAME_BYTES.saturating_sub(base.len() + 1);
    let labels: String = (1..=room)
        .map(|position| match position % 50 {
            0 if position < room => '.',
            _ => 'l',
        })
        .collect();
    format!("{labels}.{base}")
}

/// Each declaration of the handler is a route, under either name of the handler, whatever the
/// workload declares besides.
async fn several_declarations(cx: &CheckContext) -> Flow {
    let [one, two, three, four] =
        ["one", "two", "three", "four"].map(|label| cx.http_host_name(label));
    let workload = cx
        .workload()
        .component(Role::Hello)
        .interface("wasi", "http", &["types"])
        .http_host(&one)
        .interface("wasi", "http", &["outgoing-handler", "incoming-handler"])
        .interface_config("host", &two)
        .interface("wasi", "clocks", &["monotonic-clock"])
        .http_host(&three)
        .interface("wasi", "http", &["handler"])
        .interface_config("host", &four);
    cx.start_and_wait(&cx.id("a"), &workload).await?;
    for name in [&one, &two, &three, &four] {
        let response = cx.http_get(name, "/").await?;
        let description = format!("status for {name}, of one of four declarations");
        cx.claim(HOST_HTTP_001)
            .is(&description, response.status, 200);
    }
    Ok(())
}

/// The authority of an absolute URL replaces `Host`.
async fn absolute_url(cx: &CheckContext) -> Flow {
    let [one, two] = ["one", "two"].map(|label| cx.http_host_name(label));
    start_named(cx, "one", &one).await?;
    start_named(cx, "two", &two).await?;
    let unknown = cx.http_host_name("unknown");
    for (url, header, expected) in [
        (&one, &two, (200, Some(&one))),
        (&two, &one, (200, Some(&two))),
        (&one, &unknown, (200, Some(&one))),
        (&unknown, &one, (404, None)),
    ] {
        let request = Request::get(format!("http://{url}/path")).header("Host", header);
        let response = cx
            .http_connection()?
            .send(built(request.body(Bytes::new()))?)
            .await;
        let (status, text) = expected;
        let routed = response.status == status && text.is_none_or(|text| response.text() == *text);
        let description =
            format!("a request for http://{url}/path with Host {header} is for {url}");
        cx.claim(HOST_HTTP_001)
            .holds(&description, routed, || response.to_string());
    }
    Ok(())
}

/// Requests for other names return 404 even if only one workload could receive them.
async fn only_workload(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    require_ok(cx, &host, "/").await?;
    let parent = host.split_once('.').map_or("", |(_, parent)| parent);
    let others = [
        "unknown.test",
        "localhost",
        "127.0.0.1",
        parent,
        &format!("sub.{host}"),
        &format!("x{host}"),
        &format!("{host}x"),
    ];
    for name in others {
        let response = cx.http_get(name, "/").await?;
        let description = format!("status for {name} while only {host} is served");
        cx.claim(HOST_HTTP_002)
            .is(&description, response.status, 404);
    }
    Ok(())
}

/// The port in `Host` is ignored.
async fn host_port(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    require_ok(cx, &host, "/").await?;
    for port in ["1", "80", "8080", "65535"] {
        let response = cx.http_get(&format!("{host}:{port}"), "/").await?;
        cx.claim(HOST_HTTP_004).is(
            &format!("status with port {port} in Host"),
            response.status,
            200,
        );
    }
    Ok(())
}

/// The host name is matched case-insensitively.
async fn host_case(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("MiXeD").replace("berth", "BERTH");
    let alias = cx.http_host_name("AliAs");
    let workload = hello(cx, &host).interface_config("host-aliases", &alias);
    cx.start_and_wait(&cx.id("a"), &workload).await?;
    for name in [&host, &alias] {
        for spelling in [name.clone(), name.to_lowercase(), name.to_uppercase()] {
            let response = cx.http_get(&spelling, "/").await?;
            cx.claim(HOST_HTTP_005).is(
                &format!("status for Host {spelling}"),
                response.status,
                200,
            );
        }
    }
    Ok(())
}

/// Requests for names in `host-aliases` reach the workload, whatever white space and empty aliases
/// are around them.
async fn aliases(cx: &CheckContext) -> Flow {
    for (label, before, between, after) in [
        ("plain", "", ",", ""),
        ("spaces", " ", " , ", " "),
        ("empty", ",", ",,", ","),
        ("both", " , ", ", ,", ", "),
    ] {
        let [host, one, two] =
            ["host", "one", "two"].map(|name| cx.http_host_name(&format!("{label}-{name}")));
        let list = format!("{before}{one}{between}{two}{after}");
        let workload = hello(cx, &host).interface_config("host-aliases", &list);
        let description = format!("a workload with the aliases {list:?}");
        claim_accepted(cx, HOST_HTTP_006, &description, &cx.id(label), &workload).await?;
        for name in [&host, &one, &two] {
            let response = cx.http_get(name, "/").await?;
            let description = format!("status for {name} with the aliases {list:?}");
            cx.claim(HOST_HTTP_006)
                .is(&description, response.status, 200);
        }
    }
    Ok(())
}

/// A workload with a missing or invalid `host` ends in ERROR.
async fn invalid_host(cx: &CheckContext) -> Flow {
    let missing = || {
        cx.workload()
            .component(Role::Hello)
            .interface("wasi", "http", &["incoming-handler"])
    };
    let only_alias = missing().interface_config("host-aliases", &cx.http_host_name("alias"));
    let mut cases = vec![
        Refused::new("an HTTP workload without a host", missing()),
        Refused::new("an HTTP workload with an alias only", only_alias),
    ];
    let valid = cx.http_host_name("a");
    let long_label = format!("{}.test", "a".repeat(MAX_LABEL_BYTES + 1));
    let long_name = format!("l{}", longest_name_below(&valid));
    for invalid in [
        "",
        " ",
        "a_b.test",
        "a b.test",
        "*",
        "*.test",
        "-a.test",
        "a-.test",
        "a..test",
        ".a.test",
        "a.test:80",
        "a.test/",
        "http://a.test",
        "user@a.test",
        "a.test,b.test",
        "\u{e4}.test",
        "[::1]",
        &format!("{valid}\n"),
        &long_label,
        &long_name,
    ] {
        let description = format!("an HTTP workload with the host {invalid:?}");
        cases.push(Refused::new(description, hello(cx, invalid)));
    }
    claim_refused(cx, HOST_HTTP_007, cases).await
}
