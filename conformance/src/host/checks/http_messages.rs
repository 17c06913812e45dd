//! Ingress checks: requests and responses pass between client and guest unchanged.

use bytes::Bytes;
use hyper::Request;

use super::http::{built, hello};
use super::resources::start_serving;
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::roles::Role;

/// Checks of the section `http` about requests and responses.
pub const CHECKS: &[Check] = &[
    check! {
        id: "http/entire-request", run: entire_request, covers: [HOST_HTTP_014], host: Shared,
        roles: [HttpEcho], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/entire-response", run: entire_response, covers: [HOST_HTTP_014], host: Shared,
        roles: [HttpRespond], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/unread-body", run: unread_body, covers: [HOST_HTTP_014], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// Requests that a host might change.
struct Sent {
    method: &'static str,
    target: &'static str,
    /// Value of the header `x-berth`.
    header: Option<&'static str>,
    body: Bytes,
    chunked: bool,
}

const PLAIN: Sent = Sent {
    method: "GET",
    target: "/",
    header: None,
    body: Bytes::new(),
    chunked: false,
};

/// Returns one request for each method, target, header and body that a host might change.
fn requests() -> Vec<Sent> {
    let every_byte: Bytes = (0..=u8::MAX).collect();
    let large = Bytes::from(every_byte.repeat(800));
    let mut requests = Vec::new();
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BERTH",
    ] {
        requests.push(Sent {
            method,
            target: "/a/b%20c?x=1&y=%26",
            header: Some("Val ue"),
            body: Bytes::from("\u{fc}n\u{ef}\u{0}".repeat(2000)),
            ..PLAIN
        });
    }
    for target in [
        "/",
        "/a%2Fb%2f%41",
        "//double//slash//",
        "/a;b=c,d/@:!$&'()*+",
        "/p?a=&b=1",
        "/p?a&b&c==d&a=2&a=1",
        "/p?next=http://x.test/y?z",
        "/p?q=%C3%A9+%2B",
    ] {
        requests.push(Sent { target, ..PLAIN });
    }
    for header in ["a, b;c=\"d\"", "0"] {
        requests.push(Sent {
            header: Some(header),
            ..PLAIN
        });
    }
    for (body, chunked) in [
        (every_byte.clone(), false),
        (every_byte, true),
        (large.clone(), false),
        (large, true),
        (Bytes::new(), true),
    ] {
        requests.push(Sent {
            method: "POST",
            body,
            chunked,
            ..PLAIN
        });
    }
    requests
}

impl Sent {
    fn request(&self, host: &str) -> Result<Request<Bytes>, Blocked> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .header("Host", host);
        if let Some(header) = self.header {
            request = request.header("x-berth", header);
        }
        if self.chunked {
            request = request.header("Transfer-Encoding", "chunked");
        }
        built(request.body(self.body.clone()))
    }

    /// Returns what the guest of the role `http-echo` responds.
    fn echo(&self) -> Vec<u8> {
        let head = format!(
            "{}\n{}\n{}\n",
            self.method,
            self.target,
            self.header.unwrap_or("-")
        );
        let mut echo = head.into_bytes();
        echo.extend_from_slice(&self.body);
        echo
    }
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chunked = if self.chunked { "chunked " } else { "" };
        write!(
            f,
            "{} {} with x-berth {:?} and a {chunked}body of {} bytes",
            self.method,
            self.target,
            self.header,
            self.body.len()
        )
    }
}

/// Method, path, query, headers and body reach the guest unchanged, and the body returns unchanged.
async fn entire_request(cx: &CheckContext) -> Flow {
    let host = start_serving(cx, "a", Role::HttpEcho, |workload| workload).await?;
    for sent in requests() {
        let response = cx.http_connection()?.send(sent.request(&host)?).await;
        let unchanged = response.status == 200 && response.body == sent.echo();
        let description = format!("the request {sent} reaches the guest unchanged");
        cx.claim(HOST_HTTP_014)
            .holds(&description, unchanged, || response.to_string());
    }
    Ok(())
}

/// Length of the body of the role `http-respond`.
const RESPONSE_BYTES: usize = 128 * 1024;

/// Status, headers and body of a response reach the client unchanged.
async fn entire_response(cx: &CheckContext) -> Flow {
    let host = start_serving(cx, "a", Role::HttpRespond, |workload| workload).await?;
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(RESPONSE_BYTES).collect();
    for status in [200, 201, 202, 302, 400, 404, 418, 500, 503] {
        let response = cx.http_get(&host, &format!("/{status}")).await?;
        cx.claim(HOST_HTTP_014)
            .is("status of the guest's response", response.status, status);
        let values: Vec<&str> = (response.headers.0.iter())
            .filter(|(name, _)| name.eq_ignore_ascii_case("x-berth"))
            .map(|(_, value)| value.as_str())
            .collect();
        // A host may join the lines of one header.
        let values = values.join(", ");
        let expected = format!("{status}, second value");
        cx.claim(HOST_HTTP_014)
            .is("headers x-berth of the guest's response", values, expected);
        cx.claim(HOST_HTTP_014).is(
            "content-type of the guest's response",
            response.headers.get("content-type"),
            Some("application/x-berth"),
        );
        let unchanged = response.body == body;
        let description = format!("the body of a response with {status} arrives unchanged");
        cx.claim(HOST_HTTP_014).holds(&description, unchanged, || {
            format!("{} bytes, {response}", response.body.len())
        });
    }
    Ok(())
}

/// A body that the guest does not read is no part of the next request on the connection.
async fn unread_body(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    for (description, body, chunked) in [
        ("short", Bytes::from("not a request"), false),
        ("chunked", Bytes::from("not a request"), true),
    ] {
        let sent = Sent {
            method: "POST",
            body,
            chunked,
            ..PLAIN
        };
        let mut connection = cx.http_connection()?;
        for (which, sent) in [("", &sent), ("next ", &PLAIN)] {
            let response = connection.send(sent.request(&host)?).await;
            let served = response.status == 200 && response.text() == "hello";
            let description = format!(
                "the {which}request after a {description} body that the guest does not read"
            );
            cx.claim(HOST_HTTP_014)
                .holds(&description, served, || response.to_string());
        }
    }
    Ok(())
}
