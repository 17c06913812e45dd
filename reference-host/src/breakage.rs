//! Deliberate faults, by which the conformance suite proves that its checks can fail.
//!
//! They exist only in a build with the cargo feature `breakage`; in any other build [`Breakage::is_on`]
//! is a constant `false` and nothing of this is left.

/// One fault, named by `BERTH_BREAKAGE` in kebab case. Each breaks one requirement of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the index of requirements says what each one breaks"
)]
pub enum Breakage {
    RoutesOutliveService,
    RoutesIgnoreHost,
    NoRouteIs500,
    MissingHostIs404,
    PortInHostMatters,
    CaseSensitiveHosts,
    NoAliases,
    AcceptsBadHost,
    TrapEndsWorkload,
    LateRoutes,
    RoutesOutliveStop,
    OneReplicaGetsAll,
    UndeclaredHandlerReachable,
    WrongHttpPort,
    DropsQuery,
    SpinBlocksIngress,
    NoMemoryLimit,
    TinyDefaultMemory,
    AllocationEndsHost,
    LeaksHostEnvironment,
    OpenEgress,
    ClosedEgress,
    AcceptsMalformedAllowList,
    GrantsUndeclared,
    AcceptsUnmetImport,
    RefusesUnusedInterface,
    AcceptsMissingHostPath,
    DropsUnknownMount,
    WritableReadOnly,
    SharedEmptyDir,
    /// Nothing interrupts a guest: a stop waits for it to end by itself.
    NoEpochs,
    OpenSockets,
    SharedConfig,
}

impl Breakage {
    /// Whether this fault was asked for.
    #[cfg(not(feature = "breakage"))]
    #[inline(always)]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether this fault was asked for.
    #[cfg(feature = "breakage")]
    pub fn is_on(self) -> bool {
        chosen() == Some(self)
    }
}

#[cfg(feature = "breakage")]
use by_name::chosen;
#[cfg(feature = "breakage")]
pub use by_name::{ALL, UnknownBreakage, choose};

#[cfg(feature = "breakage")]
mod by_name {
    use std::sync::OnceLock;

    use super::Breakage;

    static CHOSEN: OnceLock<Breakage> = OnceLock::new();

    pub(super) fn chosen() -> Option<Breakage> {
        CHOSEN.get().copied()
    }

    /// No fault has the name that was asked for.
    #[derive(Debug, thiserror::Error)]
    #[error("no breakage is called {0:?}")]
    pub struct UnknownBreakage(String);

    /// Turns the fault named by `BERTH_BREAKAGE` on for the life of the process, if there is one.
    pub fn choose() -> Result<Option<Breakage>, UnknownBreakage> {
        let Some(name) = std::env::var("BERTH_BREAKAGE")
            .ok()
            .filter(|name| !name.is_empty())
        else {
            return Ok(None);
        };
        let Some((_, breakage)) = ALL.iter().find(|(known, _)| *known == name) else {
            return Err(UnknownBreakage(name));
        };
        Ok(Some(*CHOSEN.get_or_init(|| *breakage)))
    }

    /// Every fault with its name.
    pub const ALL: [(&str, Breakage); 33] = [
        ("routes-outlive-service", Breakage::RoutesOutliveService),
        ("routes-ignore-host", Breakage::RoutesIgnoreHost),
        ("no-route-is-500", Breakage::NoRouteIs500),
        ("missing-host-is-404", Breakage::MissingHostIs404),
        ("port-in-host-matters", Breakage::PortInHostMatters),
        ("case-sensitive-hosts", Breakage::CaseSensitiveHosts),
        ("no-aliases", Breakage::NoAliases),
        ("accepts-bad-host", Breakage::AcceptsBadHost),
        ("trap-ends-workload", Breakage::TrapEndsWorkload),
        ("late-routes", Breakage::LateRoutes),
        ("routes-outlive-stop", Breakage::RoutesOutliveStop),
        ("one-replica-gets-all", Breakage::OneReplicaGetsAll),
        (
            "undeclared-handler-reachable",
            Breakage::UndeclaredHandlerReachable,
        ),
        ("wrong-http-port", Breakage::WrongHttpPort),
        ("drops-query", Breakage::DropsQuery),
        ("spin-blocks-ingress", Breakage::SpinBlocksIngress),
        ("no-memory-limit", Breakage::NoMemoryLimit),
        ("tiny-default-memory", Breakage::TinyDefaultMemory),
        ("allocation-ends-host", Breakage::AllocationEndsHost),
        ("leaks-host-environment", Breakage::LeaksHostEnvironment),
        ("open-egress", Breakage::OpenEgress),
        ("closed-egress", Breakage::ClosedEgress),
        (
            "accepts-malformed-allow-list",
            Breakage::AcceptsMalformedAllowList,
        ),
        ("grants-undeclared", Breakage::GrantsUndeclared),
        ("accepts-unmet-import", Breakage::AcceptsUnmetImport),
        ("refuses-unused-interface", Breakage::RefusesUnusedInterface),
        (
            "accepts-missing-host-path",
            Breakage::AcceptsMissingHostPath,
        ),
        ("drops-unknown-mount", Breakage::DropsUnknownMount),
        ("writable-read-only", Breakage::WritableReadOnly),
        ("shared-empty-dir", Breakage::SharedEmptyDir),
        ("no-epochs", Breakage::NoEpochs),
        ("open-sockets", Breakage::OpenSockets),
        ("shared-config", Breakage::SharedConfig),
    ];
}
