//! The allow-lists of `localResources`: the destinations that a guest may reach.

mod address_class;
mod host_pattern;
mod port;

use std::iter::once;
use std::net::{IpAddr, SocketAddr};

use berth_proto::LocalResources;
use berth_sdk::address::{AddressError, HostAddress};

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
    pub entries: Vec<(String, String)>,
}

fn joined(entries: &[(String, String)]) -> String {
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

    /// Returns whether an entry matches an HTTP request to this scheme, host and port, as the guest
    /// wrote them (HOST-RES-005). Each address to which the host is resolved needs
    /// [`allows_http_address`](Self::allows_http_address) as well.
    pub fn allows_http(&self, scheme: &str, host: &HostAddress, port: u16) -> bool {
        match host.ip() {
            Some(address) => self.allows_http_address(scheme, host, port, address),
            None => self
                .hosts
                .iter()
                .any(|pattern| pattern.matches(scheme, host, port)),
        }
    }

    /// Returns whether an HTTP request to this scheme, host and port may connect to `address`.
    pub fn allows_http_address(
        &self,
        scheme: &str,
        host: &HostAddress,
        port: u16,
        address: IpAddr,
    ) -> bool {
        self.hosts
            .iter()
            .any(|pattern| pattern.allows_address(scheme, host, port, address))
    }

    /// Returns whether a lookup of `name` is allowed.
    pub fn allows_lookup(&self, name: &str) -> bool {
        requested_host(name)
            .is_some_and(|name| self.name_lookups.iter().any(|it| it.matches(&name)))
    }

    /// Returns whether a socket may connect or send to `address` (HOST-RES-016). This holds if an
    /// entry of `allowedHosts` is the address, or matches one of the `names` that resolved to it
    /// and covers it, or if it is a loopback port of `allowedHostLoopbackPorts`.
    pub fn allows_socket<'n>(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        names: impl IntoIterator<Item = &'n str>,
    ) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let on_loopback_port = ip.is_loopback()
            && self
                .loopback_ports
                .iter()
                .any(|it| it.allows(protocol, port));
        let names = names.into_iter().filter_map(requested_host);
        let mut hosts = once(HostAddress::from(ip)).chain(names);
        on_loopback_port
            || hosts.any(|host| {
                self.hosts
                    .iter()
                    .any(|pattern| pattern.allows_socket(protocol, &host, port, ip))
            })
    }

    /// Returns whether the lists allow no socket to any address.
    pub fn allows_no_socket(&self) -> bool {
        self.hosts.is_empty() && self.loopback_ports.is_empty()
    }
}

/// Returns the host that a guest requested, as a name or an address. Guests may write a trailing
/// dot, and names that are not host names, such as `_a.example`. Returns `None` if the text cannot
/// be the host of a URI.
pub fn requested_host(text: &str) -> Option<HostAddress> {
    let text = text.strip_suffix('.').unwrap_or(text);
    match HostAddress::parse(text) {
        Ok(host) => Some(host),
        Err(AddressError::Name) if !text.is_empty() => {
            Some(HostAddress::Name(text.to_ascii_lowercase()))
        }
        Err(_) => None,
    }
}

fn parse_list<T>(
    list: &'static str,
    entries: &[String],
    parse: fn(&str) -> Result<T, String>,
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

    fn allows_http(egress: &Egress, scheme: &str, host: &str, port: u16) -> bool {
        egress.allows_http(scheme, &requested_host(host).unwrap(), port)
    }

    /// Returns whether a request to `http://host:port` may connect to `address`.
    fn may_connect(egress: &Egress, host: &str, port: u16, address: &str) -> bool {
        let host = requested_host(host).unwrap();
        egress.allows_http("http", &host, port)
            && egress.allows_http_address("http", &host, port, address.parse().unwrap())
    }

    #[test]
    fn empty_lists_allow_nothing() {
        let egress = Egress::default();
        assert!(!allows_http(&egress, "http", "example.com", 80));
        assert!(!allows_http(&egress, "http", "127.0.0.1", 80));
        assert!(!egress.allows_lookup("example.com"));
        let address = "127.0.0.1:80".parse().unwrap();
        assert!(!egress.allows_socket(Protocol::Tcp, address, []));
    }

    #[test]
    fn authority_is_allowed_for_its_port_only() {
        let egress = egress(&["127.0.0.1:8080"], &[], &[]);
        assert!(allows_http(&egress, "http", "127.0.0.1", 8080));
        assert!(allows_http(&egress, "http", "[::ffff:127.0.0.1]", 8080));
        assert!(!allows_http(&egress, "http", "127.0.0.1", 8081));
        assert!(!allows_http(&egress, "http", "127.0.0.2", 8080));
    }

    #[test]
    fn wildcards_cover_public_addresses_only() {
        let egress = egress(&["*"], &[], &[]);
        for (host, address, allowed) in [
            ("a.example", "1.1.1.1", true),
            ("a.example", "2606:4700::1111", true),
            ("a.example", "10.0.0.1", false),
            ("a.example", "127.0.0.1", false),
            ("localhost", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", false),
            ("[::1]", "::1", false),
            ("10.0.0.1", "10.0.0.1", false),
            ("2130706433", "127.0.0.1", false),
            ("a.example", "169.254.169.254", false),
            ("a.example", "64:ff9b::a9fe:a9fe", false),
            ("a.example", "::ffff:10.0.0.1", false),
        ] {
            assert_eq!(
                may_connect(&egress, host, 80, address),
                allowed,
                "{host} {address}"
            );
        }
        let egress = self::egress(&["*.example.com"], &[], &[]);
        assert!(may_connect(&egress, "a.example.com", 80, "1.1.1.1"));
        assert!(!may_connect(&egress, "a.example.com", 80, "192.168.0.1"));
    }

    #[test]
    fn exact_names_cover_private_addresses_and_localhost_covers_loopback() {
        let egress = egress(&["db.example", "localhost:8080"], &[], &[]);
        for (host, port, address, allowed) in [
            ("db.example", 80, "1.1.1.1", true),
            ("DB.example.", 80, "10.0.0.1", true),
            ("db.example", 80, "fd00::5", true),
            ("db.example", 80, "127.0.0.1", false),
            ("db.example", 80, "::1", false),
            ("db.example", 80, "169.254.169.254", false),
            ("db.example", 80, "fd00:ec2::254", false),
            ("db.example", 80, "224.0.0.1", false),
            ("db.example", 80, "0.0.0.0", false),
            ("localhost", 8080, "127.0.0.1", true),
            ("localhost.", 8080, "::1", true),
            ("localhost", 8080, "169.254.0.1", false),
            ("localhost", 80, "127.0.0.1", false),
            ("a.localhost", 8080, "127.0.0.1", false),
        ] {
            assert_eq!(
                may_connect(&egress, host, port, address),
                allowed,
                "{host} {address}"
            );
        }
    }

    #[test]
    fn entry_with_the_address_covers_it_for_every_matching_name() {
        let egress = egress(
            &["*.example.com", "127.0.0.1:80", "169.254.169.254"],
            &[],
            &[],
        );
        assert!(may_connect(&egress, "a.example.com", 80, "127.0.0.1"));
        assert!(!may_connect(&egress, "a.example.com", 81, "127.0.0.1"));
        assert!(may_connect(&egress, "a.example.com", 80, "169.254.169.254"));
        assert!(may_connect(
            &egress,
            "169.254.169.254",
            80,
            "169.254.169.254"
        ));
        assert!(!may_connect(&egress, "other.example", 80, "127.0.0.1"));
    }

    #[test]
    fn every_name_of_an_address_counts() {
        let egress = egress(&["a.example:443", "b.example:80"], &["*"], &[]);
        let allows = |port, names: &[&str]| {
            let address = SocketAddr::from(([192, 0, 2, 7], port));
            egress.allows_socket(Protocol::Tcp, address, names.iter().copied())
        };
        let both = ["a.example", "b.example"];
        assert!(allows(443, &both) && allows(80, &both));
        assert!(!allows(8080, &both) && !allows(80, &["a.example"]));
    }

    #[test]
    fn sockets_are_judged_by_address_too() {
        let egress = egress(&["*", "db.example", "[::1]:5432"], &["*"], &[]);
        for (address, names, allowed) in [
            ("1.1.1.1:80", &[][..], true),
            ("10.0.0.1:80", &[], false),
            ("10.0.0.1:80", &["a.example"], false),
            ("10.0.0.1:80", &["a.example", "db.example"], true),
            ("127.0.0.1:80", &["db.example"], false),
            ("127.0.0.1:5432", &[], false),
            ("[::ffff:127.0.0.1]:5432", &[], false),
            ("[::1]:5432", &[], true),
            ("169.254.169.254:80", &["db.example"], false),
        ] {
            let names = names.iter().copied();
            let socket = address.parse().unwrap();
            assert_eq!(
                egress.allows_socket(Protocol::Tcp, socket, names),
                allowed,
                "{address}"
            );
        }
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
        assert!(!allows_http(&egress, "http", "127.0.0.1", 5432));
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
