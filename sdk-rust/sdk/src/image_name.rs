//! Names of images, and the entries of a Docker configuration that apply to them. Pure.

use std::cmp::Reverse;
use std::str::FromStr;

use crate::address::{AddressError, Authority};

/// Registry of image references that name no registry.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Other names of the default registry.
const DEFAULT_REGISTRY_ALIASES: [&str; 3] = [
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];
/// Parent of the repositories of the default registry that have a single name.
const DEFAULT_PARENT: &str = "library";

/// Registry and repository of an image reference, in canonical form: `hello:1` is
/// `docker.io/library/hello`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// `HOST[:PORT]`, with the name in lower case and an IPv6 address in brackets.
    pub registry: String,
    /// Path below the registry, without tag and digest. Its syntax is not checked.
    pub repository: String,
}

/// Splits a reference into its registry, if it names one, and the rest. The part before the first
/// slash is a registry only if it looks like a host: it contains a dot or a colon, or is
/// `localhost`.
///
/// # Errors
///
/// Returns the reason why a registry is not `HOST[:PORT]`.
pub fn split_registry(reference: &str) -> Result<(Option<Authority>, &str), AddressError> {
    match reference.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':', '[']) => {
            Ok((Some(first.parse()?), rest))
        }
        _ => Ok((None, reference)),
    }
}

impl FromStr for ImageName {
    type Err = AddressError;

    fn from_str(reference: &str) -> Result<Self, AddressError> {
        let name = reference
            .split_once('@')
            .map_or(reference, |(name, _digest)| name);
        let (registry, path) = split_registry(name)?;
        let registry = registry.map_or_else(|| DEFAULT_REGISTRY.to_owned(), canonical);
        let repository = match path.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => path,
        };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("{DEFAULT_PARENT}/{repository}")
        } else {
            repository.to_owned()
        };
        Ok(Self {
            registry,
            repository,
        })
    }
}

impl ImageName {
    /// Returns the entry of `auths` of a Docker configuration that applies to this image: the one
    /// whose key has the longest path that is the repository or a parent of it. Examples of keys:
    /// `ghcr.io`, `ghcr.io/team`, `https://registry.example:5000/v2/`, and for the default
    /// registry `https://index.docker.io/v1/`. The order of the entries does not matter.
    pub fn select_entry<'k, V>(
        &self,
        entries: impl IntoIterator<Item = (&'k str, V)>,
    ) -> Option<(&'k str, V)> {
        let applicable = entries
            .into_iter()
            .filter_map(|(key, value)| Some((self.matched_bytes(key)?, key, value)));
        let selected = applicable.max_by_key(|(matched_bytes, key, _)| {
            (*matched_bytes, Reverse(key.len()), Reverse(*key))
        });
        selected.map(|(_, key, value)| (key, value))
    }

    /// Returns the length of the path of `key` if it applies to this image.
    fn matched_bytes(&self, key: &str) -> Option<usize> {
        let without_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
        let (host, path) = without_scheme
            .split_once('/')
            .unwrap_or((without_scheme, ""));
        if canonical(host.parse().ok()?) != self.registry {
            return None;
        }
        let path = match path.trim_end_matches('/') {
            // A version of the registry API is not part of the repository.
            "v1" | "v2" => "",
            path => path,
        };
        let rest = self.repository.strip_prefix(path)?;
        let applies = path.is_empty() || rest.is_empty() || rest.starts_with('/');
        applies.then_some(path.len())
    }
}

fn canonical(registry: Authority) -> String {
    let registry = registry.to_string();
    if DEFAULT_REGISTRY_ALIASES.contains(&registry.as_str()) {
        DEFAULT_REGISTRY.to_owned()
    } else {
        registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(reference: &str) -> String {
        let ImageName {
            registry,
            repository,
        } = reference.parse().unwrap();
        format!("{registry} {repository}")
    }

    #[test]
    fn names_are_canonical() {
        for (reference, expected) in [
            ("nginx", "docker.io library/nginx"),
            ("nginx:1", "docker.io library/nginx"),
            ("acme/app", "docker.io acme/app"),
            ("index.docker.io/nginx@sha256:00", "docker.io library/nginx"),
            ("localhost/a:1", "localhost a"),
            ("a:5000/team/x:1@sha256:00", "a:5000 team/x"),
            ("REG.example/a", "reg.example a"),
            ("[0:0:0:0:0:0:0:1]:5000/hello:1", "[::1]:5000 hello"),
            ("[::1]:5000/hello@sha256:00", "[::1]:5000 hello"),
        ] {
            assert_eq!(name(reference), expected, "{reference}");
        }
        for reference in [
            "[::1/hello:1",
            "::1:5000/hello:1",
            "[fe80::1%eth0]:5000/hello:1",
        ] {
            assert!(reference.parse::<ImageName>().is_err(), "{reference}");
        }
    }

    /// Returns the key that applies, whatever the order of the keys.
    fn select(keys: &[&'static str], image: &str) -> Option<&'static str> {
        let image: ImageName = image.parse().unwrap();
        let forward = image.select_entry(keys.iter().map(|key| (*key, ())));
        let backward = image.select_entry(keys.iter().rev().map(|key| (*key, ())));
        assert_eq!(forward, backward);
        forward.map(|(key, ())| key)
    }

    #[test]
    fn longest_path_applies_at_slashes_only() {
        let keys = ["reg.example", "reg.example/team", "reg.example/team/shop"];
        for (image, expected) in [
            ("reg.example/team/shop:1", "reg.example/team/shop"),
            ("reg.example/team/shop-admin:1", "reg.example/team"),
            ("reg.example/teamwork/x:1", "reg.example"),
            (
                "reg.example/team/shop/web@sha256:00",
                "reg.example/team/shop",
            ),
        ] {
            assert_eq!(select(&keys, image), Some(expected), "{image}");
        }
        assert_eq!(
            select(&["reg.example/team-a"], "reg.example/team-b/x:1"),
            None
        );
    }

    #[test]
    fn scheme_and_api_version_are_not_part_of_the_path() {
        let keys = [
            "https://reg.example/v2/",
            "https://reg.example/v1/",
            "http://reg.example:5000",
            "reg.example:443/team",
            "HTTPS://[::1]:5000/v2",
        ];
        for (image, expected) in [
            ("reg.example/a:1", Some("https://reg.example/v1/")),
            ("reg.example:5000/a:1", Some("http://reg.example:5000")),
            ("reg.example/team/a:1", Some("https://reg.example/v1/")),
            ("reg.example:443/team/a:1", Some("reg.example:443/team")),
            ("reg.example:443/a:1", None),
            ("[0::1]:5000/hello:1", Some("HTTPS://[::1]:5000/v2")),
            ("[::1]:5001/hello:1", None),
            ("evil-reg.example/a:1", None),
            ("evil.example/reg.example/a:1", None),
        ] {
            assert_eq!(select(&keys, image), expected, "{image}");
        }
    }

    #[test]
    fn default_registry_has_several_names() {
        let keys = [
            "https://index.docker.io/v1/",
            "docker.io/library/nginx",
            "docker.io/acme",
        ];
        for (image, expected) in [
            ("nginx:1", "docker.io/library/nginx"),
            ("docker.io/acme/app:1", "docker.io/acme"),
            ("acme/app", "docker.io/acme"),
            ("registry-1.docker.io/acme/app", "docker.io/acme"),
            ("other/app:1", "https://index.docker.io/v1/"),
        ] {
            assert_eq!(select(&keys, image), Some(expected), "{image}");
        }
    }
}
