//! Addresses of servers, with the credentials that they may contain.

use async_nats::ServerAddr;

use super::ConnectError;
use crate::connect::{Auth, Secret, redact_userinfo};

/// Returns the servers without userinfo, and the userinfo, which applies to all servers.
pub(super) fn servers(lists: &[String]) -> Result<(Vec<ServerAddr>, Auth), ConnectError> {
    let mut servers = Vec::new();
    let mut auth = Auth::None;
    let named = lists.iter().flat_map(|list| list.split(','));
    for server in named.map(str::trim).filter(|server| !server.is_empty()) {
        let invalid = || ConnectError::InvalidAddress(redact_userinfo(server));
        let mut url = server
            .parse::<ServerAddr>()
            .map_err(|_| invalid())?
            .into_inner();
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        match userinfo(url.username(), url.password()) {
            Auth::None => {}
            other if auth == Auth::None || auth == other => auth = other,
            _ => return Err(ConnectError::AmbiguousUserinfo),
        }
        url.set_username("").map_err(|()| invalid())?;
        url.set_password(None).map_err(|()| invalid())?;
        servers.push(ServerAddr::from_url(url).map_err(|_| invalid())?);
    }
    if servers.is_empty() {
        Err(ConnectError::NoServer)
    } else {
        Ok((servers, auth))
    }
}

fn userinfo(user: &str, password: Option<&str>) -> Auth {
    match (user, password) {
        ("", _) => Auth::None,
        (token, None) => Auth::Token(Secret::from(percent_decode(token))),
        (user, Some(password)) => Auth::UserPassword {
            user: percent_decode(user),
            password: Secret::from(percent_decode(password)),
        },
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = if byte.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_credentials_from_address() {
        let lists = [
            "nats://ann:p%40ss%2@a:1, b".to_owned(),
            "tls://c".to_owned(),
        ];
        let (servers, auth) = servers(&lists).unwrap();
        let shown: Vec<_> = servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(shown, ["nats://a:1", "nats://b", "tls://c"]);
        assert_eq!(
            auth,
            Auth::UserPassword {
                user: "ann".into(),
                password: "p@ss%2".into()
            }
        );
        let token = super::servers(&["tok@a".to_owned()]).unwrap().1;
        assert_eq!(token, Auth::Token("tok".into()));
    }

    #[test]
    fn userinfo_applies_to_all_servers() {
        let auth = |lists: &[&str]| {
            let lists: Vec<_> = lists.iter().map(ToString::to_string).collect();
            servers(&lists).map(|(_, auth)| auth)
        };
        let token = Auth::Token("tok".into());
        for lists in [
            &["nats://a,tok@b"][..],
            &["tok@a,tok@b", "c"],
            &["a", "b", "nats://tok@c"],
        ] {
            assert_eq!(auth(lists).unwrap(), token, "{lists:?}");
        }
        for lists in [
            &["tok@a,other@b"][..],
            &["tok@a", "tok:tok@b"],
            &["u:p@a", "u:q@b"],
        ] {
            assert!(
                matches!(auth(lists), Err(ConnectError::AmbiguousUserinfo)),
                "{lists:?}"
            );
        }
    }

    #[test]
    fn rejects_invalid_addresses_without_leaking_secrets() {
        for bad in ["http://ann:hunter2@a", "nats://", "nats://hunter2@", "a b"] {
            let error = servers(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(matches!(
            servers(&[" , ".to_owned()]),
            Err(ConnectError::NoServer)
        ));
    }
}
