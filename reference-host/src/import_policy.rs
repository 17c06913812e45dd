//! The import policy: a component may import the ungated baseline, and interfaces that its workload
//! declares and this host offers.

use berth_proto::WitInterface;

use crate::interface::InterfaceName;

/// The ungated packages of WASI. Access is checked at use: only declared volumes exist, and each
/// connection needs an entry in the allow-lists.
const BASELINE_PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

/// The ungated interfaces of `wasi:http`: outgoing requests are checked at use, and the types do
/// nothing by themselves.
const BASELINE_HTTP_INTERFACES: [&str; 2] = ["types", "outgoing-handler"];

/// WASI version of the baseline.
const BASELINE_VERSION: &str = "0.2.0";

/// Reason why one import is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The host does not offer the interface (HOST-RES-009).
    #[error("import {0} is not offered by this host")]
    NotOffered(String),
    /// The import belongs to another release of WASI (HOST-RES-009).
    #[error("import {0} is not offered: WASI 0.3 is not supported, only 0.2")]
    OtherRelease(String),
    /// The workload does not declare the interface (HOST-RES-008).
    #[error("import {0} is not declared in hostInterfaces of the workload")]
    NotDeclared(String),
    /// The workload declares the interface in other versions only (HOST-RES-008).
    #[error(
        "import {import} is declared in hostInterfaces of the workload at version {declared} only"
    )]
    OtherVersion {
        /// The import.
        import: String,
        /// The declared versions.
        declared: String,
    },
}

/// Checks the import names of a component. Returns the gated interfaces, each with the declaration
/// that grants it, or an error for each rejected import.
pub fn check_imports<'d>(
    imports: &[String],
    declared: &'d [WitInterface],
    offered: &[InterfaceName],
) -> Result<Vec<(InterfaceName, &'d WitInterface)>, Vec<ImportError>> {
    let mut granted = Vec::new();
    let mut errors = Vec::new();
    for import in imports {
        match check_import(import, declared, offered) {
            Ok(grant) => granted.extend(grant),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(granted)
    } else {
        Err(errors)
    }
}

fn check_import<'d>(
    import: &str,
    declared: &'d [WitInterface],
    offered: &[InterfaceName],
) -> Result<Option<(InterfaceName, &'d WitInterface)>, ImportError> {
    let Some(name) = InterfaceName::parse(import) else {
        return Err(ImportError::NotOffered(import.to_owned()));
    };
    if is_ungated(&name) {
        return if is_baseline_release(&name) {
            Ok(None)
        } else {
            Err(ImportError::OtherRelease(import.to_owned()))
        };
    }
    if !offered.iter().any(|offer| offer.agrees_with(&name)) {
        return Err(ImportError::NotOffered(import.to_owned()));
    }
    let mut of_package = declared.iter().filter(|it| name.is_in_package_of(it));
    if let Some(declaration) = of_package.clone().find(|it| name.is_declared_by(it)) {
        return Ok(Some((name, declaration)));
    }
    if of_package.next().is_none() {
        return Err(ImportError::NotDeclared(import.to_owned()));
    }
    let of_package = declared.iter().filter(|it| name.is_in_package_of(it));
    let versions: Vec<&str> = of_package.map(|it| it.version.as_str()).collect();
    Err(ImportError::OtherVersion {
        import: import.to_owned(),
        declared: versions.join(", "),
    })
}

fn is_ungated(name: &InterfaceName) -> bool {
    name.namespace == "wasi"
        && (BASELINE_PACKAGES.contains(&name.package.as_str())
            || name.package == "http"
                && BASELINE_HTTP_INTERFACES.contains(&name.interface.as_str()))
}

fn is_baseline_release(name: &InterfaceName) -> bool {
    let baseline = InterfaceName {
        version: BASELINE_VERSION.into(),
        ..name.clone()
    };
    name.agrees_with(&baseline)
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
    fn allows_the_baseline_without_declaration() {
        let imports = imports(&[
            "wasi:cli/environment@0.2.6",
            "wasi:http/types@0.2.0",
            "wasi:http/outgoing-handler@0.2.3",
            "wasi:sockets/tcp@0.2.0",
        ]);
        assert_eq!(check_imports(&imports, &[], &[]), Ok(vec![]));
    }

    #[test]
    fn rejects_other_releases_of_wasi() {
        let imports = imports(&["wasi:cli/environment@0.3.0"]);
        assert_eq!(
            check_imports(&imports, &[], &[]),
            Err(vec![ImportError::OtherRelease(
                "wasi:cli/environment@0.3.0".into()
            )])
        );
    }

    #[test]
    fn requires_declaration_and_offer_for_other_imports() {
        let import = "wasi:keyvalue/store@0.2.0-draft";
        let offer = [InterfaceName::parse(import).unwrap()];
        let declared = [declaration("keyvalue", "store")];
        assert_eq!(
            check_imports(&imports(&[import]), &[], &offer),
            Err(vec![ImportError::NotDeclared(import.into())])
        );
        assert_eq!(
            check_imports(&imports(&[import]), &declared, &[]),
            Err(vec![ImportError::NotOffered(import.into())])
        );
        let granted = check_imports(&imports(&[import]), &declared, &offer).unwrap();
        assert_eq!(granted.len(), 1);
    }

    #[test]
    fn declaration_covers_its_package_at_compatible_versions() {
        let import = "wasi:keyvalue/atomics@0.2.0-draft";
        let offer = [InterfaceName::parse(import).unwrap()];
        let mut declared = declaration("keyvalue", "store");
        for (version, covered) in [
            ("", true),
            ("0.2.0-draft", true),
            ("0.2.0-draft2", false),
            ("0.3.0", false),
        ] {
            declared.version = version.into();
            let declared = [declared.clone()];
            let result = check_imports(&imports(&[import]), &declared, &offer);
            if covered {
                assert_eq!(result.unwrap().len(), 1, "{version}");
            } else {
                let message = result.unwrap_err()[0].to_string();
                assert!(
                    message.contains(import) && message.contains(version),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn reports_every_rejected_import() {
        let result = check_imports(
            &imports(&["acme:a/b", "run", "wasi:io/poll@0.2.0"]),
            &[],
            &[],
        );
        assert_eq!(
            result,
            Err(vec![
                ImportError::NotOffered("acme:a/b".into()),
                ImportError::NotOffered("run".into())
            ])
        );
    }
}
