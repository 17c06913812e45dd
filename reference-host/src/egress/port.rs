//! Entries of `allowedHostLoopbackPorts`.

use berth_sdk::address::parse_port;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// `5432`, `5432/tcp` or `53/udp`. The default protocol is TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackPort {
    port: u16,
    protocol: Protocol,
}

impl LoopbackPort {
    /// Parses one entry. The error completes the sentence "`entry` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (port, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((port, "tcp" | "TCP")) => (port, Protocol::Tcp),
            Some((port, "udp" | "UDP")) => (port, Protocol::Udp),
            Some(_) => return Err("has a protocol other than tcp and udp".into()),
        };
        match parse_port(port) {
            Ok(port) => Ok(Self { port, protocol }),
            Err(_) => Err("has no port from 1 to 65535".into()),
        }
    }

    /// Returns whether the entry matches this port.
    pub fn allows(&self, protocol: Protocol, port: u16) -> bool {
        self.port == port && self.protocol == protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_valid_ports_only() {
        assert!(
            LoopbackPort::parse("5432")
                .unwrap()
                .allows(Protocol::Tcp, 5432)
        );
        assert!(
            LoopbackPort::parse("53/UDP")
                .unwrap()
                .allows(Protocol::Udp, 53)
        );
        for entry in [
            "", "0", "65536", "+1", "1/", "1/sctp", "1/Tcp", "/tcp", "-1", "1-2", "a",
        ] {
            assert!(
                LoopbackPort::parse(entry).is_err(),
                "{entry:?} was accepted"
            );
        }
    }
}
