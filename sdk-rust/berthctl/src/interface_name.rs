//! The name of an interface on the command line.

use berth_sdk::proto::WitInterface;

/// Parses `wasi:keyvalue/store@0.2.0-draft`; several interfaces of a package are separated by
/// commas, and the version may be absent.
pub fn parse(text: &str) -> Result<WitInterface, String> {
    let (name, version) = text.split_once('@').unwrap_or((text, ""));
    let parts = name
        .split_once(':')
        .and_then(|(namespace, rest)| Some((namespace, rest.split_once('/')?)));
    let Some((namespace, (package, interfaces))) = parts else {
        return Err("expected NAMESPACE:PACKAGE/INTERFACE, such as wasi:keyvalue/store".to_owned());
    };
    let interfaces: Vec<String> = interfaces.split(',').map(str::to_owned).collect();
    let words = interfaces.iter().map(String::as_str);
    if !words.chain([namespace, package]).all(is_word) {
        return Err("a name has lower-case letters, digits and `-` only".to_owned());
    }
    Ok(WitInterface {
        namespace: namespace.to_owned(),
        package: package.to_owned(),
        interfaces,
        version: version.to_owned(),
        ..WitInterface::default()
    })
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_with_and_without_a_version() {
        let parsed = parse("wasi:keyvalue/store,batch@0.2.0-draft").unwrap();
        assert_eq!(
            (parsed.namespace.as_str(), parsed.package.as_str()),
            ("wasi", "keyvalue")
        );
        assert_eq!(parsed.interfaces, ["store", "batch"]);
        assert_eq!(parsed.version, "0.2.0-draft");
        assert_eq!(parse("wasi:config/store").unwrap().version, "");
        for invalid in [
            "",
            "wasi",
            "wasi:config",
            "wasi/config",
            "wasi:Config/x",
            "wasi:config/",
        ] {
            assert!(parse(invalid).is_err(), "{invalid}");
        }
    }
}
