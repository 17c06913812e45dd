//! Deliberate faults of a program, by which the conformance suite proves that its checks can fail.

/// Declares `Breakage`: the faults of a program, each with the name by which `BERTH_BREAKAGE` turns it on.
///
/// They are made only in a build of the program with its cargo feature `breakage`; in any other build
/// `Breakage::is_on` is a constant `false` and nothing of this is left.
// A macro, as the feature is the program's alone: one of this crate would have all that leans on it compiled again.
#[macro_export]
macro_rules! breakages {
    ($($(#[$note:meta])* $name:literal => $fault:ident,)+) => {
        /// One fault, named by `BERTH_BREAKAGE`. Each breaks one requirement of the index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the index of requirements says what each one breaks")]
        pub enum Breakage {
            $($(#[$note])* $fault,)+
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
                CHOSEN.get() == Some(&self)
            }

            /// Turns the fault named by `BERTH_BREAKAGE` on for the life of the process, if there is one.
            #[cfg(feature = "breakage")]
            pub fn choose() -> Result<Option<Self>, UnknownBreakage> {
                let name = std::env::var("BERTH_BREAKAGE").unwrap_or_default();
                let breakage = match name.as_str() {
                    "" => return Ok(None),
                    $($name => Self::$fault,)+
                    _ => return Err(UnknownBreakage(name)),
                };
                Ok(Some(*CHOSEN.get_or_init(|| breakage)))
            }
        }

        #[cfg(feature = "breakage")]
        static CHOSEN: std::sync::OnceLock<Breakage> = std::sync::OnceLock::new();

        /// No fault has the name that was asked for.
        #[cfg(feature = "breakage")]
        #[derive(Debug, thiserror::Error)]
        #[error("no breakage is called {0:?}")]
        pub struct UnknownBreakage(String);
    };
}
