//! The suite's own images for the roles: components made from text, built once a process.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::spec::roles::Role;

mod recipe;

/// Why a role's image could not be built: a fault of the suite.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The text is no WebAssembly.
    #[error("the text of the guest `{role}` does not assemble")]
    Text {
        /// The role's name.
        role: &'static str,
        /// Where the text is wrong.
        #[source]
        cause: wat::Error,
    },
    /// The module does not fit its world.
    #[error("the guest `{role}` does not make a component: {reason}")]
    Component {
        /// The role's name.
        role: &'static str,
        /// What the encoder said, in one line.
        reason: String,
    },
}

/// The suite's own image for a role: WebAssembly under 16 KB, the same bytes each time.
///
/// Built at the first call for that role, which takes some milliseconds, and kept.
pub fn image(role: Role) -> Result<Bytes, GuestError> {
    static BUILT: OnceLock<HashMap<Role, OnceLock<Bytes>>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Role::ALL.iter().map(|r| (*r, OnceLock::new())).collect());
    let Some(slot) = built.get(&role) else {
        return recipe::build(role);
    };
    if let Some(bytes) = slot.get() {
        return Ok(bytes.clone());
    }
    let bytes = recipe::build(role)?;
    Ok(slot.get_or_init(|| bytes).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoder validates what it makes; here it is parsed once more, as a host would.
    #[test]
    fn every_role_has_a_small_image_of_the_right_kind() {
        for role in Role::ALL {
            let bytes = image(*role).unwrap_or_else(|error| panic!("{role}: {error:?}"));
            assert!(bytes.len() < 16_000, "{role} has {} bytes", bytes.len());
            // The version field of a binary tells a module (1) from a component (0x0001_000d).
            let is_component = bytes[..8] == *b"\0asm\x0d\0\x01\0";
            assert_eq!(is_component, *role != Role::CoreModule, "{role}");
            assert_eq!(image(*role).unwrap(), bytes);
        }
    }

    #[test]
    fn images_import_what_their_contract_says_and_nothing_else() {
        let imports = |role| recipe::imports(&image(role).unwrap());
        assert_eq!(imports(Role::Idle), Vec::<String>::new());
        assert!(imports(Role::Unmet).contains(&"acme:nope/thing@1.0.0".to_owned()));
        for role in Role::ALL {
            if *role == Role::CoreModule {
                continue;
            }
            for import in imports(*role) {
                let gated = ["acme:", "wasi:config/", "wasi:keyvalue/", "wasi:logging/"]
                    .iter()
                    .any(|package| import.starts_with(package));
                let declares = matches!(
                    role,
                    Role::Unmet | Role::HttpConfig | Role::HttpKeyvalue | Role::HttpLogging
                );
                assert!(!gated || declares, "{role} imports {import}");
            }
        }
    }
}
