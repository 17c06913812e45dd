//! The name of a WIT interface, as a component imports it and a workload declares it.

use std::fmt;

use berth_proto::WitInterface;

/// `namespace:package/interface@version`; the version is empty when none is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName {
    /// The part before the colon.
    pub namespace: String,
    /// The part between colon and slash.
    pub package: String,
    /// The part behind the slash.
    pub interface: String,
    /// The part behind the `@`, empty when there is none.
    pub version: String,
}

impl InterfaceName {
    /// Reads the extern name of a component's import or export. `None` when it names no interface
    /// (a bare function, a resource).
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

    /// Whether `declared` names this interface in a version that can stand for this one. A
    /// declaration without interfaces names none.
    pub fn is_declared_by(&self, declared: &WitInterface) -> bool {
        self.namespace == declared.namespace
            && self.package == declared.package
            && declared.interfaces.contains(&self.interface)
            && versions_agree(&self.version, &declared.version)
    }

    /// Whether `other` is the same interface in a version that can stand for this one.
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

/// Whether two versions of an interface can stand for each other: one of them is not given, or they
/// are equal, or semver calls them compatible. A version that is no semver agrees with itself only.
fn versions_agree(one: &str, other: &str) -> bool {
    if one.is_empty() || other.is_empty() || one == other {
        return true;
    }
    let (Ok(one), Ok(other)) = (semver::Version::parse(one), semver::Version::parse(other)) else {
        return false;
    };
    let released = one.pre.is_empty() && other.pre.is_empty();
    let track = |v: &semver::Version| match (v.major, v.minor) {
        (0, 0) => (0, 0, v.patch),
        (0, minor) => (0, minor, 0),
        (major, _) => (major, 0, 0),
    };
    released && track(&one) == track(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
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
    fn versions_agree_as_semver_says() {
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
