//! Roles: images with a specified behavior that checks start on a host.

use std::fmt;

/// Part of a workload that a role is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Component.
    Component,
    /// Service.
    Service,
    /// Artifact that no host can run: the start must be refused.
    Broken,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Component => "component",
            Kind::Service => "service",
            Kind::Broken => "broken",
        })
    }
}

macro_rules! roles {
    ($($variant:ident $name:literal $kind:ident $contract:literal;)*) => {
        /// Image with a specified behavior, see [`Role::contract`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Role {
            $(#[doc = $contract] $variant,)*
        }

        impl Role {
            /// All roles, in the order of the documentation.
            pub const ALL: &[Role] = &[$(Role::$variant,)*];

            /// Returns the name that `target.toml`, image references and reports use.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name,)* }
            }

            /// Returns the part of a workload that the role is used as.
            pub const fn kind(self) -> Kind {
                match self { $(Role::$variant => Kind::$kind,)* }
            }

            /// Returns the behavior that the image must have.
            pub const fn contract(self) -> &'static str {
                match self { $(Role::$variant => $contract,)* }
            }
        }
    };
}

roles! {
    Hello "hello" Component
        "Serves HTTP: responds to every request with 200 and the body `hello`.";
    HelloTwo "hello-two" Component
        "Serves HTTP: responds to every request with 200 and the value of its first environment variable as the body, or `hello` if it has none.";
    HttpEcho "http-echo" Component
        "Serves HTTP: responds with 200 and a body of three header lines (the method; the path with its query; the value of the request header `x-berth`, or `-`) followed by the request body, byte for byte.";
    HttpRespond "http-respond" Component
        "Serves HTTP: on the path `/STATUS`, responds with this status, the header `content-type` with the value `application/x-berth`, the header `x-berth` twice, with the values STATUS and `second value`, and a body of 131072 bytes that count from 0 to 255 again and again.";
    HttpTrap "http-trap" Component
        "Serves HTTP: responds to the path `/ok` with 200 and `ok`; on any other path, traps before it responds.";
    HttpSpin "http-spin" Component
        "Serves HTTP: responds to the path `/ok` with 200 and `ok`; on any other path, sends the beacon `spin` and then computes forever without yielding.";
    HttpAlloc "http-alloc" Component
        "Serves HTTP: on the path `/N`, grows its memory by N MiB, writes to each page and responds with 200 and `ok`, or 200 and `refused` if the memory was not granted; on `/endless`, grows its memory until it is refused and then traps.";
    HttpEnv "http-env" Component
        "Serves HTTP: responds with 200 and every environment variable that it sees, one `KEY=value` per line, in the order in which it sees them.";
    HttpFetch "http-fetch" Component
        "Serves HTTP: requests `http://` followed by the value of its first environment variable, and responds with 200 and the received status in decimal, or 200 and `denied` if the request could not be made.";
    HttpFiles "http-files" Component
        "Serves HTTP, always with status 200: on `/read/FILE`, responds with the content of FILE below its first mounted directory; on `/write/FILE`, writes `berth` to FILE and responds with `ok`; on `/list`, responds with the number of mounted directories; if an operation fails, responds with `denied`.";
    HttpConfig "http-config" Component
        "Serves HTTP: imports wasi:config/store and responds to the path `/KEY` with 200 and the value of KEY, or `none`.";
    HttpKeyvalue "http-keyvalue" Component
        "Serves HTTP: imports wasi:keyvalue/store and uses the bucket `default`: on `/set/KEY`, stores `berth` under KEY and responds with `ok`; on `/get/KEY`, responds with the value or `none`; on `/delete/KEY`, deletes KEY and responds with `ok`; if the store fails, responds with `error`.";
    HttpLogging "http-logging" Component
        "Serves HTTP: imports wasi:logging/logging, logs its path at level info with the context `berth`, and responds with 200 and `ok`.";
    HttpSocket "http-socket" Component
        "Serves HTTP: opens a TCP connection to the IPv4 address and port before the first `/` of its first environment variable, and responds with 200 and `open`, or `denied`.";
    ServiceRun "service-run" Service
        "Sends the beacon `up` and then waits forever, yielding to the host.";
    ServicePing "service-ping" Service
        "Sends the beacon `ping` every 200 ms, forever.";
    ServiceOk "service-ok" Service
        "Sends the beacon `run` and ends successfully.";
    ServiceErr "service-err" Service
        "Sends the beacon `run` and ends with an error.";
    ServiceTrap "service-trap" Service
        "Sends the beacon `run` and traps.";
    ServiceExit0 "service-exit0" Service
        "Sends the beacon `run` and exits with a code that means success.";
    ServiceExit1 "service-exit1" Service
        "Sends the beacon `run` and exits with a code that means failure.";
    ServiceFresh "service-fresh" Service
        "Sends the beacon `fresh` if its memory is in its initial state, otherwise `stale`; modifies its memory; traps.";
    ServiceSpin "service-spin" Service
        "Sends the beacon `spin` and then computes forever without yielding.";
    ServiceErrAfter300Ms "service-err-after-300ms" Service
        "Sends the beacon `run`, waits for 300 ms and ends with an error.";
    ServiceErrAfter61S "service-err-after-61s" Service
        "Sends the beacon `run`, waits for 61 s and ends with an error.";
    ServiceOkAfter300Ms "service-ok-after-300ms" Service
        "Sends the beacon `run`, waits for 300 ms and ends successfully.";
    Idle "idle" Component
        "Imports nothing, serves nothing and is never called.";
    CoreModule "core-module" Broken
        "A WebAssembly core module, not a component.";
    NoRun "no-run" Broken
        "A component without any export: it cannot be a service.";
    Unmet "unmet" Broken
        "A component that imports `acme:nope/thing@1.0.0`, which no host offers, and serves HTTP.";
    ServiceUnmet "service-unmet" Broken
        "A component that imports `acme:nope/thing@1.0.0`, which no host offers, and could be a service otherwise.";
}

impl Role {
    /// Returns the role with this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.iter().copied().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_resolve_to_their_role() {
        let names: BTreeSet<_> = Role::ALL.iter().map(|role| role.name()).collect();
        assert_eq!(names.len(), Role::ALL.len());
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(*role));
        }
        assert_eq!(Role::named("nobody"), None);
    }

    #[test]
    fn documentation_lists_every_role_with_its_contract() {
        let page = include_str!("../../../docs/conformance/roles.md");
        for role in Role::ALL {
            let row = format!("| `{}` | {} | {} |", role, role.kind(), role.contract());
            assert!(
                page.contains(&row),
                "docs/conformance/roles.md needs the row\n{row}"
            );
        }
    }
}
