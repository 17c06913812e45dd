//! The suite's own role images: components that are built from WebAssembly text, once per process.

use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::spec::roles::Role;

mod recipe;

/// Reasons why a role's image cannot be built: a defect of the suite.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The text is not valid WebAssembly.
    #[error("cannot assemble the text of the guest `{role}`")]
    Text {
        /// Name of the role.
        role: &'static str,
        /// The invalid part of the text.
        #[source]
        source: wat::Error,
    },
    /// The module does not match its world.
    #[error("cannot encode the guest `{role}` as a component: {reason}")]
    Component {
        /// Name of the role.
        role: &'static str,
        /// Error of the encoder.
        reason: String,
    },
}

/// Returns the suite's own image for a role: WebAssembly under 16 KB, identical in every call.
///
/// The first call for a role builds the image, which takes some milliseconds.
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

    /// The encoder validates its output; this test parses it again, like a host.
    #[test]
    fn every_role_has_a_small_image_of_the_right_kind() {
        for role in Role::ALL {
            let bytes = image(*role).unwrap_or_else(|error| panic!("{role}: {error:?}"));
            assert!(bytes.len() < 16_000, "{role} has {} bytes", bytes.len());
            // The version field distinguishes a module (1) from a component (0x0001_000d).
            let is_component = bytes[..8] == *b"\0asm\x0d\0\x01\0";
            assert_eq!(is_component, *role != Role::CoreModule, "{role}");
            assert_eq!(image(*role).unwrap(), bytes);
        }
    }

    #[test]
    fn images_import_only_what_their_contract_allows() {
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
                    Role::Unmet
                        | Role::ServiceUnmet
                        | Role::HttpConfig
                        | Role::HttpKeyvalue
                        | Role::HttpLogging
                );
                assert!(!gated || declares, "{role} imports {import}");
            }
        }
    }
}
