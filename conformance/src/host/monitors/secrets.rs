//! No secret that the suite handed out comes back on the wire.

use super::{Findings, Monitor, MonitorContext};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[&req::HOST_SEC_001];

/// Looks for secrets in everything that a host publishes.
pub struct Secrecy;

impl Monitor for Secrecy {
    fn id(&self) -> &'static str {
        "monitor/secrecy"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        // Without a secret there is nothing that could be kept.
        if frame.way != Direction::FromHost || scene.secrets.is_empty() {
            return;
        }
        let header = |(_, value): &(String, String)| scene.secrets.found_in(value.as_bytes());
        let told = scene.secrets.found_in(&frame.payload) || frame.headers.0.iter().any(header);
        findings.judge(
            &req::HOST_SEC_001,
            frame,
            !told,
            "no pull credential",
            || "a pull credential that a check had handed out".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::script::{broken, frame};
    use crate::wire::trace::Direction;

    #[test]
    fn a_secret_on_the_wire_is_a_breach() {
        let begin = Instant::now();
        let reply = |text| frame(begin, 0, Direction::FromHost, "inbox", text);
        assert!(broken([reply("denied")]).is_empty());
        assert_eq!(broken([reply("denied for hunter2")]), ["HOST-SEC-001"]);
    }
}
