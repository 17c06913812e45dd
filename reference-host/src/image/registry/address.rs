//! URLs that a registry names, and the rules for following them.

use reqwest::Url;

/// Returns the target of a redirect from `from`. A redirect from https to plain HTTP is an error.
pub(super) fn redirect(from: &Url, location: Option<&str>) -> Result<Url, &'static str> {
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or("it has no valid target")?;
    // The HTTP client would send them to the target.
    if has_user(&to) {
        return Err("its target includes a user");
    }
    match (from.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => Ok(to),
        ("https", "http") => Err("it leads from https to plain HTTP"),
        _ => Err("its target is not an HTTP URL"),
    }
}

/// Returns the URL of the token request. The request may carry the password, so the URL must be
/// https unless the operator allowed plain HTTP for the registry itself.
pub(super) fn login(
    realm: &str,
    registry_is_plain: bool,
    service: Option<&str>,
    scope: &str,
) -> Result<Url, &'static str> {
    let mut url = Url::parse(realm).map_err(|_| "its token endpoint is not a URL")?;
    match url.scheme() {
        "https" => {}
        "http" if registry_is_plain => {}
        _ => return Err("its token endpoint is not https"),
    }
    if has_user(&url) {
        return Err("its token endpoint includes a user");
    }
    let service = service.into_iter().map(|service| ("service", service));
    url.query_pairs_mut()
        .extend_pairs(service)
        .append_pair("scope", scope);
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_redirects_from_https_to_http() {
        let from = |scheme: &str| Url::parse(&format!("{scheme}://a:5000/v2/x")).unwrap();
        for (scheme, location, expected) in [
            ("https", Some("https://b/y?z=1"), Ok("https://b/y?z=1")),
            ("https", Some("/y"), Ok("https://a:5000/y")),
            ("http", Some("http://b/y"), Ok("http://b/y")),
            ("http", Some("https://b/y"), Ok("https://b/y")),
            (
                "https",
                Some("http://a:5000/y"),
                Err("it leads from https to plain HTTP"),
            ),
            (
                "https",
                Some("file:///etc/passwd"),
                Err("its target is not an HTTP URL"),
            ),
            (
                "http",
                Some("ftp://b/y"),
                Err("its target is not an HTTP URL"),
            ),
            (
                "http",
                Some("http://registry@evil/"),
                Err("its target includes a user"),
            ),
            (
                "https",
                Some("https://:secret@evil/"),
                Err("its target includes a user"),
            ),
            ("http", Some("http://"), Err("it has no valid target")),
            ("http", None, Err("it has no valid target")),
        ] {
            let to = redirect(&from(scheme), location).map(|url| url.to_string());
            assert_eq!(to, expected.map(str::to_owned), "{scheme} {location:?}");
        }
    }

    #[test]
    fn requires_https_for_tokens_unless_the_registry_is_plain() {
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
            ("http://a/t", false, Err("its token endpoint is not https")),
            ("file:///t", true, Err("its token endpoint is not https")),
            (
                "https://u@a/t",
                false,
                Err("its token endpoint includes a user"),
            ),
            ("/t", true, Err("its token endpoint is not a URL")),
        ] {
            let url = login(realm, plain, Some("s"), "p:q").map(|url| url.to_string());
            assert_eq!(url, expected.map(str::to_owned), "{realm} {plain}");
        }
    }
}
