//! Deliberate faults in what the scheduler does in a cluster, by which the conformance suite proves that its checks
//! can fail.
//!
//! They exist only in a build with the cargo feature `breakage`; in any other build [`Breakage::is_on`] is a constant
//! `false` and nothing of this is left.

/// One fault, named by `BERTH_BREAKAGE` in kebab case. Each breaks one requirement of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the index of requirements says what each one breaks"
)]
pub enum Breakage {
    AdoptsNothing,
    IdsOfItsOwn,
    FinalizersOfItsOwn,
    PodsHang,
    IgnoresPods,
    EndpointsOfAllHosts,
    EndpointsOnce,
    EndpointAfterStop,
    ObservesNothing,
    NoScaleStatus,
    FightsGarbageCollection,
    IgnoresTheLease,
    TouchesEveryNamespace,
    PlaceholderFigures,
    ArtifactDeletedInUse,
    WritesAtRest,
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
    pub const ALL: [(&str, Breakage); 16] = [
        ("adopts-nothing", Breakage::AdoptsNothing),
        ("ids-of-its-own", Breakage::IdsOfItsOwn),
        ("finalizers-of-its-own", Breakage::FinalizersOfItsOwn),
        ("pods-hang", Breakage::PodsHang),
        ("ignores-pods", Breakage::IgnoresPods),
        ("endpoints-of-all-hosts", Breakage::EndpointsOfAllHosts),
        ("endpoints-once", Breakage::EndpointsOnce),
        ("endpoint-after-stop", Breakage::EndpointAfterStop),
        ("observes-nothing", Breakage::ObservesNothing),
        ("no-scale-status", Breakage::NoScaleStatus),
        (
            "fights-garbage-collection",
            Breakage::FightsGarbageCollection,
        ),
        ("ignores-the-lease", Breakage::IgnoresTheLease),
        ("touches-every-namespace", Breakage::TouchesEveryNamespace),
        ("placeholder-figures", Breakage::PlaceholderFigures),
        ("artifact-deleted-in-use", Breakage::ArtifactDeletedInUse),
        ("writes-at-rest", Breakage::WritesAtRest),
    ];
}
