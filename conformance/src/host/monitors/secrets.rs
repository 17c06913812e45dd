//! Monitor of secrets: a host publishes no pull credential.

use super::{Findings, Monitor, MonitorContext};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[&req::HOST_SEC_001];

/// Monitor of secrets in published messages.
pub struct SecretLeaks;

impl Monitor for SecretLeaks {
    fn id(&self) -> &'static str {
        "monitor/secrets"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        // Without a secret, there is nothing to judge.
        if frame.direction != Direction::FromHost || context.secrets.is_empty() {
            return;
        }
        let header = |(_, value): &(String, String)| context.secrets.found_in(value.as_bytes());
        let leaked = context.secrets.found_in(&frame.payload) || frame.headers.0.iter().any(header);
        findings.judge(
            &req::HOST_SEC_001,
            frame,
            !leaked,
            "no pull credential in a published message",
            || "the message contains a pull credential that a check passed to the host".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::test_frames::{frame, violated_requirements};
    use crate::wire::trace::Direction;

    #[test]
    fn reports_secret_on_the_wire() {
        let base = Instant::now();
        let reply = |text| frame(base, 0, Direction::FromHost, "inbox", text);
        assert!(violated_requirements([reply("denied")]).is_empty());
        assert_eq!(
            violated_requirements([reply("denied for hunter2")]),
            ["HOST-SEC-001"]
        );
    }
}
