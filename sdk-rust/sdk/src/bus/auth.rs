//! Authentication to the servers.

use std::path::Path;

use async_nats::AuthError;
use nkeys::KeyPair;

use super::ConnectError;
use super::attempt::with_source;
use crate::connect::Auth;

/// Returns NATS options with these credentials. `userinfo` from a URL replaces `auth`; only beside
/// a credentials file, both are sent, and the server chooses. Files are read once now, to report
/// errors early, and again for each connection, because they may be rotated.
pub(super) fn options_with(
    auth: Auth,
    userinfo: Auth,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let nats = async_nats::ConnectOptions::new();
    match effective(auth, &userinfo) {
        Auth::None => Ok(nats),
        Auth::Token(token) => Ok(nats.token(token.expose().to_owned())),
        Auth::UserPassword { user, password } => {
            Ok(nats.user_and_password(user, password.expose().to_owned()))
        }
        signing => {
            // Reports invalid files and keys before the first connection.
            sign(&signing, b"test")?;
            Ok(async_nats::ConnectOptions::with_auth_callback(
                move |nonce| {
                    let signed = sign(&signing, &nonce).map(|signed| add(signed, &userinfo));
                    std::future::ready(signed.map_err(|error| AuthError::new(with_source(&error))))
                },
            ))
        }
    }
}

/// Returns the credentials that a client with `userinfo` in its URL uses.
pub(super) fn effective(auth: Auth, userinfo: &Auth) -> Auth {
    match (auth, userinfo) {
        (auth @ Auth::CredentialsFile(_), _) | (auth, Auth::None) => auth,
        (_, userinfo) => userinfo.clone(),
    }
}

fn add(mut signed: async_nats::Auth, userinfo: &Auth) -> async_nats::Auth {
    match userinfo {
        Auth::Token(token) => signed.token = Some(token.expose().to_owned()),
        Auth::UserPassword { user, password } => {
            signed.username = Some(user.clone());
            signed.password = Some(password.expose().to_owned());
        }
        _ => {}
    }
    signed
}

/// Signs the nonce of the server with the private key.
fn sign(auth: &Auth, nonce: &[u8]) -> Result<async_nats::Auth, ConnectError> {
    let mut signed = async_nats::Auth::new();
    let seed = match auth {
        Auth::CredentialsFile(path) => {
            let (jwt, seed) = credentials(path)?;
            signed.jwt = Some(jwt);
            seed
        }
        Auth::NkeySeedFile(path) => read(path)?.trim().to_owned(),
        Auth::NkeySeed(seed) => seed.expose().trim().to_owned(),
        Auth::None | Auth::Token(_) | Auth::UserPassword { .. } => return Ok(signed),
    };
    let invalid = |error| ConnectError::InvalidCredentials(name_of(auth), Box::new(error));
    let key = KeyPair::from_seed(&seed).map_err(invalid)?;
    signed.signature = Some(key.sign(nonce).map_err(invalid)?);
    if signed.jwt.is_none() {
        signed.nkey = Some(key.public_key());
    }
    Ok(signed)
}

fn name_of(auth: &Auth) -> String {
    match auth {
        Auth::CredentialsFile(path) | Auth::NkeySeedFile(path) => path.display().to_string(),
        _ => "the nkey seed".to_owned(),
    }
}

/// Returns the JWT and the seed of a credentials file: the contents of its first and second
/// section, where lines that begin with `---` delimit the sections.
fn credentials(path: &Path) -> Result<(String, String), ConnectError> {
    let text = read(path)?;
    let mut parts = Vec::new();
    let mut within = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("---") {
            within = !within;
        } else if within {
            parts.push(line.to_owned());
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([jwt, seed]) => Ok((jwt, seed)),
        Err(_) => Err(ConnectError::InvalidCredentials(
            path.display().to_string(),
            "the file does not contain one user JWT and one seed".into(),
        )),
    }
}

pub(super) fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|source| ConnectError::File {
        path: path.to_owned(),
        source,
    })
}
