//! `Debug` redacts values that may be secrets.

use berth_proto::{Component, ImagePullSecret, LocalResources, WitInterface};

#[test]
fn debug_prints_keys_and_redacts_values() {
    let component = Component {
        name: "hello".to_owned(),
        image_pull_secret: Some(ImagePullSecret {
            username: "secret-user".to_owned(),
            password: "secret-password".to_owned(),
        }),
        local_resources: Some(LocalResources {
            config: [("key-a".to_owned(), "secret-config".to_owned())].into(),
            environment: [("key-b".to_owned(), "secret-environment".to_owned())].into(),
            ..LocalResources::default()
        }),
        ..Component::default()
    };
    let interface = WitInterface {
        namespace: "wasi".to_owned(),
        config: [("key-c".to_owned(), "secret-interface".to_owned())].into(),
        ..WitInterface::default()
    };
    let output = format!("{component:?} {component:#?} {interface:?}");
    assert!(!output.contains("secret-"), "{output}");
    for key in ["hello", "key-a", "key-b", "key-c", "wasi"] {
        assert!(output.contains(key), "{key} is not in {output}");
    }
}
