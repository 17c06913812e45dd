//! Faults that can be injected into a program, to prove that the conformance suite detects them.

/// Declares `Breakage`: the faults of a program, each with its name in `BERTH_BREAKAGE`.
///
/// They exist only in a build with the Cargo feature `fault-injection` of the program. In any other
/// build `Breakage::is_on` is a constant `false`, and the compiler removes the faults.
// A macro, because the feature belongs to the program: a feature of this crate would recompile
// everything that depends on it.
#[macro_export]
macro_rules! declare_breakages {
    ($($(#[$note:meta])* $name:literal => $fault:ident,)+) => {
        /// A fault, selected by its name in `BERTH_BREAKAGE`. Each violates one requirement.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the index of requirements describes each fault")]
        pub enum Breakage {
            $($(#[$note])* $fault,)+
        }

        impl Breakage {
            /// Returns whether this fault is injected.
            #[cfg(not(feature = "fault-injection"))]
            #[inline(always)]
            pub const fn is_on(self) -> bool {
                false
            }

            /// Returns whether this fault is injected.
            #[cfg(feature = "fault-injection")]
            pub fn is_on(self) -> bool {
                INJECTED.get() == Some(&self)
            }

            /// Injects the fault named by `BERTH_BREAKAGE`, if any, for the life of the process.
            #[cfg(feature = "fault-injection")]
            pub fn init_from_env() -> Result<Option<Self>, UnknownBreakage> {
                let name = std::env::var("BERTH_BREAKAGE").unwrap_or_default();
                let breakage = match name.as_str() {
                    "" => return Ok(None),
                    $($name => Self::$fault,)+
                    _ => return Err(UnknownBreakage(name)),
                };
                Ok(Some(*INJECTED.get_or_init(|| breakage)))
            }
        }

        #[cfg(feature = "fault-injection")]
        static INJECTED: std::sync::OnceLock<Breakage> = std::sync::OnceLock::new();

        /// `BERTH_BREAKAGE` names no fault.
        #[cfg(feature = "fault-injection")]
        #[derive(Debug, thiserror::Error)]
        #[error("unknown breakage {0:?}")]
        pub struct UnknownBreakage(String);
    };
}
