//! Which imports of a component are let through: the ungated baseline, and what is both declared and
//! offered.

use berth_proto::WitInterface;

use crate::interface::InterfaceName;

/// The ungated part of WASI, as (package, version track). What it can reach is decided at use: only
/// declared volumes exist, and each connection needs an entry in the allow-lists.
const BASELINE_PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// The interfaces of `wasi:http` that are ungated: making requests is decided at use, and the types
/// do nothing by themselves.
const BASELINE_HTTP_INTERFACES: [&str; 2] = ["types", "outgoing-handler"];

/// The release of WASI that the baseline is offered in.
const BASELINE_VERSION: &str = "0.2.0";

/// Why one import is not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The host has nothing by that name (HOST-RES-009).
    #[error("imports {0}, which this host does not offer")]
    NotOffered(String),
    /// The workload did not ask for it (HOST-RES-008).
    #[error("imports {0}, which the workload does not declare in hostInterfaces")]
    NotDeclared(String),
}

/// Judges `imports`, the extern names that a component imports. Answers the gated interfaces that it
/// gets, each with the declaration that grants it, or every import that it does not get.
pub fn judge<'d>(
    imports: &[String],
    declared: &'d [WitInterface],
    offered: &[InterfaceName],
) -> Result<Vec<(InterfaceName, &'d WitInterface)>, Vec<Denied>> {
    let mut granted = Vec::new();
    let mut denied = Vec::new();
    for import in imports {
        match judge_one(import, declared, offered) {
            Ok(grant) => granted.extend(grant),
            Err(denial) => denied.push(denial),
        }
    }
    if denied.is_empty() {
        Ok(granted)
    } else {
        Err(denied)
    }
}

fn judge_one<'d>(
    import: &str,
    declared: &'d [WitInterface],
    offered: &[InterfaceName],
) -> Result<Option<(InterfaceName, &'d WitInterface)>, Denied> {
    let Some(name) = InterfaceName::parse(import) else {
        return Err(Denied::NotOffered(import.to_owned()));
    };
    if is_baseline(&name) {
        return Ok(None);
    }
    let declaration = declared
        .iter()
        .find(|declared| name.is_declared_by(declared));
    if !offered.iter().any(|offer| offer.agrees_with(&name)) {
        return Err(Denied::NotOffered(import.to_owned()));
    }
    match declaration {
        Some(declaration) => Ok(Some((name, declaration))),
        None => Err(Denied::NotDeclared(import.to_owned())),
    }
}

fn is_baseline(name: &InterfaceName) -> bool {
    let baseline = InterfaceName {
        version: BASELINE_VERSION.into(),
        ..name.clone()
    };
    let ungated = name.namespace == "wasi"
        && (BASELINE_PACKAGES.contains(&name.package.as_str())
            || name.package == "http"
                && BASELINE_HTTP_INTERFACES.contains(&name.interface.as_str()));
    ungated && name.agrees_with(&baseline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(package: &str, interface: &str) -> WitInterface {
        WitInterface {
            namespace: "wasi".into(),
            package: package.into(),
            interfaces: vec![interface.into()],
            ..Default::default()
        }
    }

    fn imports(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_baseline_needs_no_declaration() {
        let imports = imports(&[
            "wasi:cli/environment@0.2.6",
            "wasi:http/types@0.2.0",
            "wasi:http/outgoing-handler@0.2.3",
            "wasi:sockets/tcp@0.2.0",
        ]);
        assert_eq!(judge(&imports, &[], &[]), Ok(vec![]));
    }

    #[test]
    fn another_release_of_wasi_is_not_the_baseline() {
        let imports = imports(&["wasi:cli/environment@0.3.0"]);
        assert_eq!(
            judge(&imports, &[], &[]),
            Err(vec![Denied::NotOffered(
                "wasi:cli/environment@0.3.0".into()
            )])
        );
    }

    #[test]
    fn everything_else_must_be_declared_and_offered() {
        let import = "wasi:keyvalue/store@0.2.0-draft";
        let offer = [InterfaceName::parse(import).unwrap()];
        let declared = [declaration("keyvalue", "store")];
        assert_eq!(
            judge(&imports(&[import]), &[], &offer),
            Err(vec![Denied::NotDeclared(import.into())])
        );
        assert_eq!(
            judge(&imports(&[import]), &declared, &[]),
            Err(vec![Denied::NotOffered(import.into())])
        );
        let granted = judge(&imports(&[import]), &declared, &offer).unwrap();
        assert_eq!(granted.len(), 1);
    }

    #[test]
    fn every_denied_import_is_named() {
        let denied = judge(
            &imports(&["acme:a/b", "run", "wasi:io/poll@0.2.0"]),
            &[],
            &[],
        );
        assert_eq!(
            denied,
            Err(vec![
                Denied::NotOffered("acme:a/b".into()),
                Denied::NotOffered("run".into())
            ])
        );
    }
}
