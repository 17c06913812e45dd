//! The connection options of a real deployment, each against a nats-server that requires it.

use std::error::Error;
use std::path::Path;

use berth_sdk::ConnectOptions;
use berth_sdk::bus::{Bus, ConnectError};
use berth_sdk::connect::{Auth, TlsFileError};
use berth_sdk::scheduler::HostClient;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::certificates::CertificateFiles;
use crate::support::eventually;
use crate::support::fake_host::RunningHost;
use crate::support::nats_server::NatsServer;

/// Asserts that a host and a scheduler can connect with these options and communicate.
async fn assert_connects(options: &ConnectOptions) {
    let host = RunningHost::start_with_connect_options(options.clone());
    let bus = Bus::connect(options)
        .await
        .unwrap_or_else(|error| panic!("{options:?}: {error:?}"));
    let client = HostClient::new(bus, host.id.as_str()).unwrap();
    eventually("the host responds", async || client.heartbeat().await.ok()).await;
}

/// Asserts that the server rejects the credentials, and that no output leaks a secret.
async fn assert_unauthorized(options: &ConnectOptions) {
    let error = Bus::connect(options)
        .await
        .expect_err("the server must reject the credentials");
    assert!(
        matches!(error, ConnectError::Unauthorized { .. }),
        "{error:?}"
    );
    assert!(
        !format!("{error:?} {options:?}").contains("wrong"),
        "{error:?}"
    );
}

fn options_with(server: &NatsServer, auth: Auth) -> ConnectOptions {
    ConnectOptions {
        auth,
        ..ConnectOptions::to(server.url())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_authenticates() {
    let server = NatsServer::start("authorization { token: \"open sesame\" }").await;
    assert_connects(&options_with(&server, Auth::Token("open sesame".into()))).await;
    assert_unauthorized(&options_with(&server, Auth::Token("wrong".into()))).await;
    assert_unauthorized(&options_with(&server, Auth::None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password_authenticate() {
    let server = NatsServer::start("authorization { user: ann, password: \"p@ss:1\" }").await;
    let auth = |password: &str| Auth::UserPassword {
        user: "ann".into(),
        password: password.into(),
    };
    assert_connects(&options_with(&server, auth("p@ss:1"))).await;
    let in_url = format!("nats://ann:p%40ss%3A1@127.0.0.1:{}", server.port());
    assert_connects(&ConnectOptions::to(in_url)).await;
    assert_unauthorized(&options_with(&server, auth("wrong"))).await;
    let in_url = format!("nats://ann:wrong@127.0.0.1:{}", server.port());
    assert_unauthorized(&ConnectOptions::to(in_url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nkey_authenticates() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        key.public_key()
    );
    let server = NatsServer::start(&users).await;
    let seed = key.seed().unwrap();
    assert_connects(&options_with(&server, Auth::NkeySeed(seed.as_str().into()))).await;
    let file = server.dir().join("seed.nk");
    std::fs::write(&file, format!("{seed}\n")).unwrap();
    assert_connects(&options_with(&server, Auth::NkeySeedFile(file.clone()))).await;
    assert_unauthorized(&options_with(
        &server,
        Auth::NkeySeed(other.seed().unwrap().into()),
    ))
    .await;
    std::fs::write(&file, "not a seed").unwrap();
    let error = Bus::connect(&options_with(&server, Auth::NkeySeedFile(file)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidCredentials(..)),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_file_authenticates() {
    let (operator, account, user) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    );
    let operator_jwt = jwt(
        &operator,
        &operator,
        json!({"type": "operator", "version": 2}),
    );
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let account_claims = json!({"limits": limits, "type": "account", "version": 2});
    let account_jwt = jwt(&operator, &account, account_claims);
    let server = NatsServer::start(&format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    ))
    .await;
    let user_claims = json!({
        "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
    });
    let file = server.dir().join("user.creds");
    write_credentials(&file, &jwt(&account, &user, user_claims.clone()), &user);
    let options = options_with(&server, Auth::CredentialsFile(file.clone()));
    assert_connects(&options).await;

    let other_account = KeyPair::new_account();
    write_credentials(&file, &jwt(&other_account, &user, user_claims), &user);
    assert_unauthorized(&options).await;
    std::fs::write(&file, "not credentials").unwrap();
    let error = Bus::connect(&options).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidCredentials(..)),
        "{error:?}"
    );
    std::fs::remove_file(&file).unwrap();
    let error = Bus::connect(&options).await.unwrap_err();
    assert!(matches!(error, ConnectError::File { .. }), "{error:?}");
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let encode = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let header = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = encode(json!({
        "jti": "test", "iat": 1_700_000_000, "name": "test", "nats": nats,
        "iss": issuer.public_key(), "sub": subject.public_key(),
    }));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn write_credentials(file: &Path, jwt: &str, user: &KeyPair) {
    let seed = user.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\nKeep it to yourself.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(file, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_requires_a_trusted_ca() {
    let (dir, files) = CertificateFiles::generate();
    let server = NatsServer::start_in(dir, &files.server_config(ANY_CLIENT)).await;
    let trusted = ConnectOptions {
        tls_ca_file: Some(files.ca.clone()),
        ..ConnectOptions::to(format!("tls://127.0.0.1:{}", server.port()))
    };
    assert_connects(&trusted).await;
    assert_connects(&ConnectOptions {
        tls_required: true,
        ..ConnectOptions {
            servers: vec![server.url()],
            ..trusted.clone()
        }
    })
    .await;
    let untrusted = ConnectOptions {
        tls_ca_file: Some(files.other_ca.clone()),
        ..trusted
    };
    let error = Bus::connect(&untrusted).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
}

/// Returns the line that users see.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

/// Asserts that a connection fails, and that the line for users contains all these texts.
async fn assert_explained(options: &ConnectOptions, expected: &[&str]) {
    let error = Bus::connect(options)
        .await
        .expect_err(&format!("{options:?} must fail"));
    let line = with_causes(&error);
    for text in expected {
        assert!(line.contains(text), "{text:?} is missing: {line}");
    }
    for cause in error.source().iter().map(ToString::to_string) {
        assert_eq!(line.matches(&cause).count(), 1, "{line}");
    }
    assert!(!line.contains("hunter"), "{line}");
}

/// Returns options for a server with TLS that trust a CA.
fn with_ca(server: &NatsServer, ca: &Path) -> ConnectOptions {
    ConnectOptions {
        tls_ca_file: Some(ca.to_owned()),
        ..ConnectOptions::to(format!("tls://127.0.0.1:{}", server.port()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_servers_are_explained() {
    let (dir, files) = CertificateFiles::generate();
    let server = NatsServer::start_in(dir, &files.server_config(ANY_CLIENT)).await;
    let other = files.other_ca.display().to_string();
    let options = with_ca(&server, &files.other_ca);
    assert_explained(
        &options,
        &["invalid peer certificate", &other, &options.servers[0]],
    )
    .await;
    let options = ConnectOptions {
        tls_ca_file: None,
        ..options
    };
    assert_explained(&options, &["UnknownIssuer", "of the system"]).await;
    // Each TLS file implies TLS, so that a server without it receives no credentials.
    let plain = NatsServer::start("authorization { token: hunter2 }").await;
    let options = ConnectOptions {
        auth: Auth::Token("hunter2".into()),
        servers: vec![plain.url()],
        ..with_ca(&plain, &files.ca)
    };
    assert_explained(&options, &["TLS?"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_tls_files_are_named() {
    let (dir, files) = CertificateFiles::generate();
    let server = NatsServer::start_in(dir, &files.server_config(ANY_CLIENT)).await;
    let write = |name: &str, text: &str| {
        let path = server.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let ca = read(&files.ca);
    let empty = write("empty.pem", "");
    let key_only = write("key-only.pem", &read(&files.client_key));
    let cut = write("cut.pem", &format!("{ca}{}", &ca[..ca.len() / 2]));
    let pem = |text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let broken = write("broken.pem", &pem("!!"));
    let no_certificate = write("no-certificate.pem", &pem("eHh4"));
    let missing = server.dir().join("missing.pem");
    for (path, defect) in [
        (&empty, "contains none in PEM format"),
        (&key_only, "contains none in PEM format"),
        (&cut, "missing section end"),
        (&broken, "base64"),
        (&no_certificate, "invalid CA certificates"),
        (&server.dir().to_owned(), "Is a directory"),
        (&missing, "No such file"),
    ] {
        let name = path.display().to_string();
        assert_explained(&with_ca(&server, path), &[&name, defect]).await;
    }
    for (certificate, key, named, defect) in [
        (
            &files.client_cert,
            &files.server_key,
            &files.server_key,
            "KeyMismatch",
        ),
        (
            &empty,
            &files.client_key,
            &empty,
            "contains none in PEM format",
        ),
        (
            &files.client_cert,
            &empty,
            &empty,
            "contains none in PEM format",
        ),
        (
            &files.client_cert,
            &files.client_cert,
            &files.client_cert,
            "invalid private key",
        ),
        (&files.client_cert, &missing, &missing, "No such file"),
    ] {
        let options = ConnectOptions {
            tls_cert_file: Some(certificate.clone()),
            tls_key_file: Some(key.clone()),
            ..with_ca(&server, &files.ca)
        };
        assert_explained(&options, &[&named.display().to_string(), defect]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_certificate_is_named_as_such() {
    let (dir, files) = CertificateFiles::generate_expired();
    let server = NatsServer::start_in(dir, &files.server_config(ANY_CLIENT)).await;
    let options = ConnectOptions {
        tls_ca_file: Some(files.ca.clone()),
        ..ConnectOptions::to(format!("tls://127.0.0.1:{}", server.port()))
    };
    assert_explained(
        &options,
        &["certificate expired", &files.ca.display().to_string()],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_credentials_are_named() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = NatsServer::start(&format!(
        "authorization {{ users: [ {{user: ann, password: hunter2}}, {{nkey: {}}} ] }}",
        key.public_key()
    ))
    .await;
    let file = server.dir().join("seed.nk");
    std::fs::write(&file, other.seed().unwrap()).unwrap();
    let path = file.display().to_string();
    let password = Auth::UserPassword {
        user: "ann".into(),
        password: "hunter3".into(),
    };
    for (auth, expected) in [
        (Auth::None, "a client without credentials"),
        (Auth::Token("hunter3".into()), "the token"),
        (password, "the password of user \"ann\""),
        (Auth::NkeySeedFile(file.clone()), path.as_str()),
    ] {
        assert_explained(&options_with(&server, auth), &[expected, "rejects"]).await;
    }
    std::fs::write(&file, "hunter4").unwrap();
    assert_explained(
        &options_with(&server, Auth::NkeySeedFile(file)),
        &[&path, "invalid NATS"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn userinfo_in_url_replaces_other_credentials() {
    let key = KeyPair::new_user();
    let server = NatsServer::start(&format!(
        "authorization {{ users: [ {{user: ann, password: a}}, \
         {{user: bob, password: b, permissions: {{publish: nothing}}}}, {{nkey: {}}} ] }}",
        key.public_key()
    ))
    .await;
    let bob = |password: &str| Auth::UserPassword {
        user: "bob".into(),
        password: password.into(),
    };
    let in_url = |userinfo: &str, auth| ConnectOptions {
        auth,
        ..ConnectOptions::to(server.url().replace("//", &format!("//{userinfo}@")))
    };
    for auth in [
        Auth::None,
        Auth::Token("t".into()),
        bob("b"),
        bob("wrong"),
        Auth::NkeySeed(key.seed().unwrap().into()),
    ] {
        assert_connects(&in_url("ann:a", auth)).await;
    }
    // Rejected credentials in the URL are not replaced by valid ones.
    assert_unauthorized(&in_url("ann:wrong", bob("b"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_first_matches_handshake_first() {
    let (dir, files) = CertificateFiles::generate();
    let config = files
        .server_config(ANY_CLIENT)
        .replace("tls {", "tls { handshake_first: true,");
    let server = NatsServer::start_in(dir, &config).await;
    assert_connects(&ConnectOptions {
        tls_ca_file: Some(files.ca),
        tls_first: true,
        ..ConnectOptions::to(server.url())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_requires_a_client_certificate() {
    let (dir, files) = CertificateFiles::generate();
    let server =
        NatsServer::start_in(dir, &files.server_config(ONLY_CLIENTS_WITH_CERTIFICATE)).await;
    let anonymous = ConnectOptions {
        tls_ca_file: Some(files.ca),
        ..ConnectOptions::to(server.url())
    };
    Bus::connect(&anonymous)
        .await
        .expect_err("a client certificate is required");
    let authenticated = ConnectOptions {
        tls_cert_file: Some(files.client_cert),
        tls_key_file: Some(files.client_key),
        ..anonymous
    };
    assert_connects(&authenticated).await;
    let incomplete = ConnectOptions {
        tls_key_file: None,
        ..authenticated
    };
    assert!(matches!(
        Bus::connect(&incomplete).await,
        Err(ConnectError::Tls(TlsFileError::IncompleteKeyPair))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnects_to_another_server_of_the_list() {
    let mut first = NatsServer::start("").await;
    let second = NatsServer::start("").await;
    first.stop();
    let options = ConnectOptions::new([format!("{},{}", first.url(), second.url())]);
    assert_connects(&options).await;

    // Clients of a server that stops reconnect to the other one.
    let host = RunningHost::start_with_connect_options(options.clone());
    let client = HostClient::new(Bus::connect(&options).await.unwrap(), host.id.as_str()).unwrap();
    eventually("the host responds", async || client.heartbeat().await.ok()).await;
    first.restart().await;
    drop(second);
    eventually("both have reconnected to the other server", async || {
        client.heartbeat().await.ok()
    })
    .await;
}

#[tokio::test]
async fn unreachable_server_is_an_error_without_secrets() {
    let mut server = NatsServer::start("").await;
    server.stop();
    let options = ConnectOptions::to(server.url().replace("//", "//ann:secret@"));
    let error = Bus::connect(&options).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        !format!("{error} {error:?}").contains("secret"),
        "{error:?}"
    );
}

const ANY_CLIENT: bool = false;
const ONLY_CLIENTS_WITH_CERTIFICATE: bool = true;

impl CertificateFiles {
    fn server_config(&self, verify: bool) -> String {
        let (cert, key, ca) = (
            self.server_cert.display(),
            self.server_key.display(),
            self.ca.display(),
        );
        format!(
            "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {verify} }}"
        )
    }
}
