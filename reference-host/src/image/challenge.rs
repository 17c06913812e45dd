//! The authentication challenge of a registry (`WWW-Authenticate`).

use http_auth::parser::ChallengeParser;

/// A challenge that the host can answer. Bearer is preferred because it never sends the password to
/// the registry's content servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Chooses a challenge from all `WWW-Authenticate` values of one response.
pub(super) fn choose<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for value in values {
        for challenge in ChallengeParser::new(value).map_while(Result::ok) {
            let param = |name: &str| {
                let found = challenge
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                let (service, scope) = (param("service"), param("scope"));
                return Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                });
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_bearer_and_ignores_invalid_challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service,
                scope,
            })
        };
        for (values, expected) in [
            (vec![], None),
            (vec!["Negotiate"], None),
            (vec!["Bearer service=\"no realm\""], None),
            (vec!["\u{7f}"], None),
            (vec!["Basic realm=\"x\""], Some(Challenge::Basic)),
            (
                vec!["bEARER realm=\"https://a/t\""],
                bearer("https://a/t", None, None),
            ),
            (
                vec![
                    "Basic realm=\"x\"",
                    "Bearer realm=\"https://a/t\",service=\"s\",scope=\"p:q\"",
                ],
                bearer("https://a/t", Some("s"), Some("p:q")),
            ),
        ] {
            assert_eq!(choose(values.iter().copied()), expected, "{values:?}");
        }
    }
}
