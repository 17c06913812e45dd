//! The challenge of a registry: how it wants to be asked (`WWW-Authenticate`).

use http_auth::parser::ChallengeParser;

/// The first challenge that the host can meet; Bearer is preferred, as it never shows the password to the
/// registry's content servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Chooses among all `WWW-Authenticate` values of one response.
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
    fn bearer_is_preferred_and_noise_is_ignored() {
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
