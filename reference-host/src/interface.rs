//! The name of a WIT interface, as components import it and workloads declare it.

use std::fmt;

use berth_proto::WitInterface;

/// `namespace:package/interface@version`. The version is empty if the name has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName {
    /// Text before the colon.
    pub namespace: String,
    /// Text between colon and slash.
    pub package: String,
    /// Text after the slash.
    pub interface: String,
    /// Text after the `@`, or empty.
    pub version: String,
}

impl InterfaceName {
    /// Parses the extern name of a component's import or export. Returns `None` for other externs,
    /// such as a function.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, version) = text.split_once('@').unwrap_or((text, ""));
        let (namespace, rest) = path.split_once(':')?;
        let (package, interface) = rest.split_once('/')?;
        if namespace.is_empty() || package.is_empty() || interface.is_empty() {
            return None;
        }
        Some(Self {
            namespace: namespace.into(),
            package: package.into(),
            interface: interface.into(),
            version: version.into(),
        })
    }

    /// Returns whether `declared` is a declaration of this interface's package. It covers every
    /// interface of the package at a compatible version.
    pub fn is_in_package_of(&self, declared: &WitInterface) -> bool {
        self.namespace == declared.namespace && self.package == declared.package
    }

    /// Returns whether `declared` covers this interface.
    pub fn is_declared_by(&self, declared: &WitInterface) -> bool {
        self.is_in_package_of(declared) && versions_agree(&self.version, &declared.version)
    }

    /// Returns whether `other` is the same interface in a compatible version.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.package == other.package
            && self.interface == other.interface
            && versions_agree(&self.version, &other.version)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        if !self.version.is_empty() {
            write!(f, "@{}", self.version)?;
        }
        Ok(())
    }
}

/// Returns whether two versions of an interface are compatible: one of them is empty, or they are
/// equal, or they are compatible by semver. A text that is not a semver version is compatible only
/// with itself.
fn versions_agree(one: &str, other: &str) -> bool {
    if one.is_empty() || other.is_empty() || one == other {
        return true;
    }
    let (Ok(one), Ok(other)) = (semver::Version::parse(one), semver::Version::parse(other)) else {
        return false;
    };
    let released = one.pre.is_empty() && other.pre.is_empty();
    let compatibility = |v: &semver::Version| match (v.major, v.minor) {
        (0, 0) => (0, 0, v.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    released && compatibility(&one) == compatibility(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in [
            "wasi:http/types@0.2.0",
            "wasi:logging/logging",
            "a:b/c@0.2.0-draft",
        ] {
            assert_eq!(InterfaceName::parse(text).unwrap().to_string(), text);
        }
        for text in ["run", "a:b", "a/b", ":b/c", "a:/c", "a:b/"] {
            assert_eq!(InterfaceName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions_agree_by_semver() {
        for (one, other, agree) in [
            ("", "0.2.0", true),
            ("0.2.0", "0.2.9", true),
            ("0.2.0", "0.3.0", false),
            ("1.0.0", "1.4.0", true),
            ("1.0.0", "2.0.0", false),
            ("0.0.1", "0.0.2", false),
            ("0.2.0-draft", "0.2.0-draft", true),
            ("0.2.0-draft", "0.2.0", false),
            ("x", "y", false),
        ] {
            assert_eq!(versions_agree(one, other), agree, "{one} {other}");
            assert_eq!(versions_agree(other, one), agree, "{other} {one}");
        }
    }
}
