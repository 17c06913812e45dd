//! The allow-lists of `localResources`: the destinations that a guest may reach.

mod host_pattern;
mod port;

use std::net::{IpAddr, SocketAddr};

use berth_proto::LocalResources;

pub use self::host_pattern::{HostPattern, NamePattern};
pub use self::port::{LoopbackPort, Protocol};

/// The allow-lists of one component. The default permits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    hosts: Vec<HostPattern>,
    name_lookups: Vec<NamePattern>,
    loopback_ports: Vec<LoopbackPort>,
}

/// Malformed entries of one allow-list, each with a reason (HOST-RES-007).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed entries in {list}: {}", joined(.entries))]
pub struct MalformedEntries {
    /// Name of the list.
    pub list: &'static str,
    /// Malformed entries and the reason for each.
    pub entries: Vec<(String, &'static str)>,
}

fn joined(entries: &[(String, &'static str)]) -> String {
    entries
        .iter()
        .map(|(entry, reason)| format!("`{}` {reason}", entry.escape_debug()))
        .collect::<Vec<_>>()
        .join("; ")
}

impl Egress {
    /// Parses the three lists. Returns an error for each list with malformed entries.
    pub fn parse(resources: &LocalResources) -> Result<Self, Vec<MalformedEntries>> {
        let mut errors = Vec::new();
        let egress = Self {
            hosts: parse_list(
                "allowedHosts",
                &resources.allowed_hosts,
                HostPattern::parse,
                &mut errors,
            ),
            name_lookups: parse_list(
                "allowedIpNameLookups",
                &resources.allowed_ip_name_lookups,
                NamePattern::parse,
                &mut errors,
            ),
            loopback_ports: parse_list(
                "allowedHostLoopbackPorts",
                &resources.allowed_host_loopback_ports,
                LoopbackPort::parse,
                &mut errors,
            ),
        };
        if errors.is_empty() {
            Ok(egress)
        } else {
            Err(errors)
        }
    }

    /// Returns whether an HTTP request to this scheme, host and port is allowed (HOST-RES-005).
    /// `host` is a name or an address; IPv6 addresses may have brackets.
    pub fn allows_http(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.hosts
            .iter()
            .any(|pattern| pattern.allows(Some(scheme), host, port))
    }

    /// Returns whether a lookup of `name` is allowed.
    pub fn allows_lookup(&self, name: &str) -> bool {
        self.name_lookups
            .iter()
            .any(|pattern| pattern.matches(name))
    }

    /// Returns whether a socket may connect or send to `address` (HOST-RES-016). This holds if
    /// `allowedHosts` contains the address or one of the `names` that resolved to it, or if it is a
    /// loopback port of `allowedHostLoopbackPorts`.
    pub fn allows_socket<'n>(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        names: impl IntoIterator<Item = &'n str>,
    ) -> bool {
        let ip = address.ip().to_canonical();
        let loopback = is_loopback(ip)
            && self
                .loopback_ports
                .iter()
                .any(|port| port.allows(protocol, address.port()));
        loopback
            || self.allows_socket_host(protocol, &ip.to_string(), address.port())
            || names
                .into_iter()
                .any(|name| self.allows_socket_host(protocol, name, address.port()))
    }

    fn allows_socket_host(&self, protocol: Protocol, host: &str, port: u16) -> bool {
        self.hosts
            .iter()
            .any(|pattern| pattern.allows_socket(protocol, host, port))
    }

    /// Returns whether the lists allow no socket to any address.
    pub fn allows_no_socket(&self) -> bool {
        self.hosts.is_empty() && self.loopback_ports.is_empty()
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

fn parse_list<T>(
    list: &'static str,
    entries: &[String],
    parse: fn(&str) -> Result<T, &'static str>,
    errors: &mut Vec<MalformedEntries>,
) -> Vec<T> {
    let mut malformed = Vec::new();
    let mut parsed = Vec::new();
    for entry in entries {
        match parse(entry) {
            Ok(value) => parsed.push(value),
            Err(reason) => malformed.push((entry.clone(), reason)),
        }
    }
    if !malformed.is_empty() {
        errors.push(MalformedEntries {
            list,
            entries: malformed,
        });
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(hosts: &[&str], names: &[&str], ports: &[&str]) -> Egress {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect();
        Egress::parse(&LocalResources {
            allowed_hosts: owned(hosts),
            allowed_ip_name_lookups: owned(names),
            allowed_host_loopback_ports: owned(ports),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn empty_lists_allow_nothing() {
        let egress = Egress::default();
        assert!(!egress.allows_http("http", "example.com", 80));
        assert!(!egress.allows_http("http", "127.0.0.1", 80));
        assert!(!egress.allows_lookup("example.com"));
        let address = "127.0.0.1:80".parse().unwrap();
        assert!(!egress.allows_socket(Protocol::Tcp, address, []));
    }

    #[test]
    fn authority_is_allowed_for_its_port_only() {
        let egress = egress(&["127.0.0.1:8080"], &[], &[]);
        assert!(egress.allows_http("http", "127.0.0.1", 8080));
        assert!(!egress.allows_http("http", "127.0.0.1", 8081));
        assert!(!egress.allows_http("http", "127.0.0.2", 8080));
    }

    #[test]
    fn loopback_ports_allow_loopback_sockets_only() {
        let egress = egress(&[], &[], &["5432/tcp"]);
        let allows =
            |protocol, address: &str| egress.allows_socket(protocol, address.parse().unwrap(), []);
        assert!(allows(Protocol::Tcp, "127.0.0.1:5432"));
        assert!(allows(Protocol::Tcp, "[::1]:5432"));
        assert!(allows(Protocol::Tcp, "[::ffff:127.0.0.1]:5432"));
        assert!(!allows(Protocol::Udp, "127.0.0.1:5432"));
        assert!(!allows(Protocol::Tcp, "127.0.0.1:5433"));
        assert!(!allows(Protocol::Tcp, "192.0.2.1:5432"));
        assert!(!egress.allows_http("http", "127.0.0.1", 5432));
    }

    #[test]
    fn socket_to_address_of_allowed_name_is_allowed() {
        let egress = egress(&["db.example:5432"], &["db.example"], &[]);
        let address = "192.0.2.7:5432".parse().unwrap();
        assert!(egress.allows_socket(Protocol::Tcp, address, ["db.example"]));
        assert!(!egress.allows_socket(Protocol::Tcp, address, ["other.example"]));
        assert!(!egress.allows_socket(Protocol::Tcp, address, []));
        assert!(egress.allows_lookup("DB.example"));
        assert!(!egress.allows_lookup("other.example"));
    }

    #[test]
    fn reports_all_malformed_entries_of_all_lists() {
        let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect();
        let errors = Egress::parse(&LocalResources {
            allowed_hosts: owned(&["*com", "ok.example", "https://a/v1"]),
            allowed_ip_name_lookups: owned(&["*b*"]),
            allowed_host_loopback_ports: owned(&["0/tcp"]),
            ..Default::default()
        })
        .unwrap_err();
        let text = errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        for part in [
            "`*com`",
            "`https://a/v1`",
            "`*b*`",
            "`0/tcp`",
            "allowedHosts",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("ok.example"));
    }
}
