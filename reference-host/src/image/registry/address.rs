//! The addresses that a registry sends the host to, and which of them it goes to.

use reqwest::Url;

/// The target of a redirect from `from`: never from https down to plain HTTP.
pub(super) fn redirect(from: &Url, location: Option<&str>) -> Result<Url, &'static str> {
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or("the redirect has no usable target")?;
    match (from.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => Ok(to),
        ("https", "http") => Err("from https to plain HTTP"),
        _ => Err("to something that is not HTTP"),
    }
}

/// Where a token is asked for. The password may go there, so it is https, unless the registry itself is reached
/// over plain HTTP because the operator said so.
pub(super) fn login(
    realm: &str,
    registry_is_plain: bool,
    service: Option<&str>,
    scope: &str,
) -> Result<Url, &'static str> {
    let mut url = Url::parse(realm).map_err(|_| "its token address is no URL")?;
    match url.scheme() {
        "https" => {}
        "http" if registry_is_plain => {}
        _ => return Err("its token address is not https"),
    }
    let service = service.into_iter().map(|service| ("service", service));
    url.query_pairs_mut()
        .extend_pairs(service)
        .append_pair("scope", scope);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_https() {
        let from = |scheme: &str| Url::parse(&format!("{scheme}://a:5000/v2/x")).unwrap();
        for (scheme, location, expected) in [
            ("https", Some("https://b/y?z=1"), Ok("https://b/y?z=1")),
            ("https", Some("/y"), Ok("https://a:5000/y")),
            ("http", Some("http://b/y"), Ok("http://b/y")),
            ("http", Some("https://b/y"), Ok("https://b/y")),
            (
                "https",
                Some("http://a:5000/y"),
                Err("from https to plain HTTP"),
            ),
            (
                "https",
                Some("file:///etc/passwd"),
                Err("to something that is not HTTP"),
            ),
            (
                "http",
                Some("ftp://b/y"),
                Err("to something that is not HTTP"),
            ),
            (
                "http",
                Some("http://"),
                Err("the redirect has no usable target"),
            ),
            ("http", None, Err("the redirect has no usable target")),
        ] {
            let to = redirect(&from(scheme), location).map(|url| url.to_string());
            assert_eq!(to, expected.map(str::to_owned), "{scheme} {location:?}");
        }
    }

    #[test]
    fn a_password_goes_to_https_unless_the_registry_is_plain() {
        for (realm, plain, expected) in [
            (
                "https://a/t",
                false,
                Ok("https://a/t?service=s&scope=p%3Aq"),
            ),
            (
                "https://a/t?x=1",
                true,
                Ok("https://a/t?x=1&service=s&scope=p%3Aq"),
            ),
            ("http://a/t", true, Ok("http://a/t?service=s&scope=p%3Aq")),
            ("http://a/t", false, Err("its token address is not https")),
            ("file:///t", true, Err("its token address is not https")),
            ("/t", true, Err("its token address is no URL")),
        ] {
            let url = login(realm, plain, Some("s"), "p:q").map(|url| url.to_string());
            assert_eq!(url, expected.map(str::to_owned), "{realm} {plain}");
        }
    }
}
