//! The interfaces that a workload declares: every entry is checked and counts.

use std::collections::BTreeMap;

use berth_proto::WitInterface;
use berth_sdk::address::is_host_name;

use crate::interface::InterfaceName;

/// Key in `hostInterfaces.config` for a host name of a workload.
const HOST_KEY: &str = "host";

/// Key in `hostInterfaces.config` for additional host names of a workload, separated by commas.
const ALIASES_KEY: &str = "host-aliases";

/// Names of the HTTP handler in the releases of WASI. A declaration of one of them is a declaration
/// of the handler; the component decides which release it serves.
const HANDLERS: [&str; 2] = ["incoming-handler", "handler"];

/// A declaration that the host refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// The version cannot be compared with any other.
    #[error(
        "hostInterfaces[{index}].version: `{}` is not a version of the form 1.2.3",
        .version.escape_debug()
    )]
    Version {
        /// Position in `hostInterfaces`.
        index: usize,
        /// The declared version.
        version: String,
    },
    /// Two declarations of one package without a name disagree. The values may be secrets.
    #[error(
        "hostInterfaces[{first}] and hostInterfaces[{second}] both declare {package} and set the \
         config key `{}` to different values", .key.escape_debug()
    )]
    Conflict {
        /// Positions in `hostInterfaces`.
        first: usize,
        /// Position of the later one.
        second: usize,
        /// The package, as `namespace:package`.
        package: String,
        /// The key in `config`.
        key: String,
    },
    /// The host name of an HTTP handler is invalid (HOST-HTTP-007).
    #[error(
        "hostInterfaces[{index}].config.host: `{}` is an invalid host name", .name.escape_debug()
    )]
    HostName {
        /// Position in `hostInterfaces`.
        index: usize,
        /// The declared name.
        name: String,
    },
}

/// The declared handler has no host name (HOST-HTTP-007).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the config of wasi:http has no `host`")]
pub struct NoHostName;

/// Returns every error of the declarations.
pub fn check(declared: &[WitInterface]) -> Vec<DeclarationError> {
    let mut errors = Vec::new();
    let mut values: BTreeMap<(&str, &str, &str), (usize, &str)> = BTreeMap::new();
    for (index, interface) in declared.iter().enumerate() {
        let version = &interface.version;
        if !version.is_empty() && semver::Version::parse(version).is_err() {
            errors.push(DeclarationError::Version {
                index,
                version: version.clone(),
            });
        }
        let serves_http = declares_handler(interface);
        if let Some(name) = interface.config.get(HOST_KEY)
            && serves_http
            && !is_host_name(name)
        {
            errors.push(DeclarationError::HostName {
                index,
                name: name.clone(),
            });
        }
        if !interface.name.is_empty() {
            continue;
        }
        let (namespace, package) = (&*interface.namespace, &*interface.package);
        let mut config: Vec<_> = interface.config.iter().collect();
        config.sort();
        for (key, value) in config {
            if is_http(interface) && (key == HOST_KEY || key == ALIASES_KEY) {
                continue;
            }
            let (first, earlier) = *values
                .entry((namespace, package, key))
                .or_insert((index, value));
            if earlier != value {
                errors.push(DeclarationError::Conflict {
                    first,
                    second: index,
                    package: format!("{namespace}:{package}"),
                    key: key.clone(),
                });
            }
        }
    }
    errors
}

/// Returns the host names under which the HTTP handler is reachable, in lower case and each once,
/// or `None` if no entry declares the handler (HOST-HTTP-012). Ignores invalid aliases.
pub fn http_host_names(declared: &[WitInterface]) -> Option<Result<Vec<String>, NoHostName>> {
    let mut handlers = declared.iter().filter(|it| declares_handler(it)).peekable();
    handlers.peek()?;
    let (mut hosts, mut aliases) = (Vec::new(), Vec::new());
    for declaration in handlers {
        if let Some(host) = declaration.config.get(HOST_KEY) {
            hosts.push(host.as_str());
        }
        if let Some(list) = declaration.config.get(ALIASES_KEY) {
            aliases.extend(list.split(',').map(str::trim));
        }
    }
    if hosts.is_empty() {
        return Some(Err(NoHostName));
    }
    aliases.retain(|alias| is_host_name(alias));
    let mut names: Vec<String> = Vec::new();
    for name in hosts
        .into_iter()
        .chain(aliases)
        .map(str::to_ascii_lowercase)
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(Ok(names))
}

/// Returns whether an entry declares the HTTP handler of any release.
pub fn declares_handler(declared: &WitInterface) -> bool {
    is_http(declared)
        && declared
            .interfaces
            .iter()
            .any(|interface| HANDLERS.contains(&interface.as_str()))
}

/// Returns whether `export` is the HTTP handler of any release.
pub fn is_handler(export: &InterfaceName) -> bool {
    export.namespace == "wasi"
        && export.package == "http"
        && HANDLERS.contains(&export.interface.as_str())
}

fn is_http(declared: &WitInterface) -> bool {
    declared.namespace == "wasi" && declared.package == "http"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(interface: &str, config: &[(&str, &str)]) -> WitInterface {
        let name = InterfaceName::parse(interface).unwrap();
        let config = config
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        WitInterface {
            namespace: name.namespace,
            package: name.package,
            interfaces: vec![name.interface],
            version: name.version,
            config: config.collect(),
            ..Default::default()
        }
    }

    fn http(config: &[(&str, &str)]) -> WitInterface {
        declaration("wasi:http/incoming-handler", config)
    }

    fn messages(declared: &[WitInterface]) -> Vec<String> {
        check(declared).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn host_names_of_all_entries_add_up() {
        let declared = [
            http(&[]),
            declaration(
                "wasi:http/handler",
                &[("host", "late.test"), ("host-aliases", "a.test")],
            ),
            http(&[
                ("host", "Third.test"),
                ("host-aliases", " b.test ,, A.TEST,c_c"),
            ]),
        ];
        assert_eq!(check(&declared), []);
        let names = ["late.test", "third.test", "a.test", "b.test"].map(str::to_owned);
        assert_eq!(http_host_names(&declared), Some(Ok(names.to_vec())));
        let nameless = [http(&[("host-aliases", "b.test")])];
        assert_eq!(http_host_names(&nameless), Some(Err(NoHostName)));
        for other in [
            "wasi:http/outgoing-handler",
            "wasi:HTTP/handler",
            "wasmcloud:http/handler",
            "wasi:http/Incoming-Handler",
        ] {
            assert_eq!(
                http_host_names(&[declaration(other, &[("host", "a.test")])]),
                None
            );
        }
    }

    #[test]
    fn every_invalid_host_name_is_named_with_its_entry() {
        let (good, bad) = (
            http(&[("host", "one.test")]),
            http(&[("host", "not_a_host")]),
        );
        for (declared, index) in [([good.clone(), bad.clone()], 1), ([bad, good], 0)] {
            let expected =
                format!("hostInterfaces[{index}].config.host: `not_a_host` is an invalid");
            let messages = messages(&declared);
            assert!(
                messages.len() == 1 && messages[0].starts_with(&expected),
                "{messages:?}"
            );
        }
        for host in ["", "a:80", "*", "http://a", "a b", " a", "a\n"] {
            assert_eq!(messages(&[http(&[("host", host)])]).len(), 1, "{host}");
        }
    }

    #[test]
    fn versions_that_cannot_be_compared_are_named() {
        for version in [
            "v0.2.0", "0.2", " 0.2.0", "0.2.0.1", "0.02.0", "latest", "0.2.x",
        ] {
            for interface in ["wasi:http/handler", "wasi:keyvalue/store"] {
                let mut declared = declaration(interface, &[]);
                declared.version = version.into();
                let expected = format!("hostInterfaces[0].version: `{version}`");
                assert!(messages(&[declared])[0].starts_with(&expected));
            }
        }
        for version in ["", "0.2.0", "0.2.0-draft", "0.2.0+build.7"] {
            let mut declared = declaration("wasi:http/handler", &[]);
            declared.version = version.into();
            assert_eq!(messages(&[declared]), Vec::<String>::new());
        }
    }

    #[test]
    fn conflicting_config_of_one_package_is_named_by_key() {
        let keyvalue = |backend, password| {
            declaration(
                "wasi:keyvalue/store",
                &[("backend", backend), ("password", password)],
            )
        };
        assert_eq!(
            check(&[keyvalue("memory", "x"), keyvalue("memory", "x")]),
            []
        );
        let messages = messages(&[keyvalue("memory", "x"), keyvalue("nats", "x")]);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("wasi:keyvalue") && messages[0].contains("`backend`"));
        assert!(!messages[0].contains("memory") && !messages[0].contains("nats"));
        let mut named = keyvalue("nats", "x");
        named.name = "other".into();
        assert_eq!(check(&[keyvalue("memory", "x"), named]), []);
    }
}
