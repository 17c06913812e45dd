//! Classes of IP addresses, by what an entry of `allowedHosts` must say to cover them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Class of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// An address of the Internet: any entry that matches the name covers it.
    Public,
    /// An address of a private network, such as a service of the cluster: an exact name covers it,
    /// a wildcard does not.
    Private,
    /// The machine itself: `localhost` covers it, another name does not.
    Loopback,
    /// Link-local, multicast, unspecified, or a metadata service of a cloud, which gives
    /// credentials to everyone who can reach it: only an entry with the address itself covers it.
    LiteralOnly,
}

/// Metadata services outside of the link-local ranges: of AWS over IPv6, and of Alibaba Cloud.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// Returns the class of an address. An IPv6 address that a translator or a tunnel turns into an
/// IPv4 address has the class of the IPv4 address.
pub fn classify(address: IpAddr) -> AddressClass {
    match address.to_canonical() {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => classify_v4(embedded),
            None => classify_v6(address),
        },
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        _ if address == METADATA_V4 => AddressClass::LiteralOnly,
        (127, ..) => AddressClass::Loopback,
        // "This network", link-local, multicast, broadcast.
        (0, ..) | (169, 254, _) | (224..=239, ..) => AddressClass::LiteralOnly,
        _ if address.is_broadcast() => AddressClass::LiteralOnly,
        // Private use, carrier-grade NAT, protocol assignments, benchmarks, reserved.
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => AddressClass::Private,
        (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) | (240.., ..) => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let [first, second, third, ..] = address.segments();
    if address.is_loopback() {
        return AddressClass::Loopback;
    }
    if address == METADATA_V6 || address.is_unspecified() || address.is_multicast() {
        return AddressClass::LiteralOnly;
    }
    match (first, second, third) {
        (0xfe80..=0xfebf, ..) => AddressClass::LiteralOnly,
        // Unique local, the former site-local, and the translators of one network.
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, ..) => AddressClass::Private,
        (0x64, 0xff9b, 1) => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

/// Returns the IPv4 address that packets to `address` reach: NAT64 (`64:ff9b::/96`), 6to4
/// (`2002::/16`), Teredo (`2001::/32`), IPv4-translated (`::ffff:0:0:0/96`) and IPv4-compatible
/// (`::/96`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(v4(high, low))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        // `::` and `::1` are not IPv4-compatible.
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1) => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "100.63.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "198.20.0.1",
        "192.0.2.7",
        "2606:4700::1111",
        "2001:db8::1",
        "64:ff9b::101:101",
        "2002:101:101::1",
    ];

    const PRIVATE: &[&str] = &[
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "240.0.0.1",
        "::ffff:10.0.0.1",
        "fc00::1",
        "fd00::5",
        "fec0::1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:a00:1::1",
    ];

    const LOOPBACK: &[&str] = &[
        "127.0.0.1",
        "127.255.0.9",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "2001::80ff:fffe",
    ];

    const LITERAL_ONLY: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "100.100.100.200",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ];

    #[test]
    fn classes_follow_the_registries_of_special_addresses() {
        for (class, addresses) in [
            (AddressClass::Public, PUBLIC),
            (AddressClass::Private, PRIVATE),
            (AddressClass::Loopback, LOOPBACK),
            (AddressClass::LiteralOnly, LITERAL_ONLY),
        ] {
            for address in addresses {
                assert_eq!(classify(address.parse().unwrap()), class, "{address}");
            }
        }
    }
}
