//! What may be secret does not show in Debug output.

use berth_proto::{Component, ImagePullSecret, LocalResources, WitInterface};

#[test]
fn debug_output_shows_keys_and_no_values() {
    let component = Component {
        name: "hello".to_owned(),
        image_pull_secret: Some(ImagePullSecret {
            username: "hush-user".to_owned(),
            password: "hush-password".to_owned(),
        }),
        local_resources: Some(LocalResources {
            config: [("shown-a".to_owned(), "hush-config".to_owned())].into(),
            environment: [("shown-b".to_owned(), "hush-environment".to_owned())].into(),
            ..LocalResources::default()
        }),
        ..Component::default()
    };
    let interface = WitInterface {
        namespace: "wasi".to_owned(),
        config: [("shown-c".to_owned(), "hush-interface".to_owned())].into(),
        ..WitInterface::default()
    };
    let shown = format!("{component:?} {component:#?} {interface:?}");
    assert!(!shown.contains("hush"), "{shown}");
    for key in ["hello", "shown-a", "shown-b", "shown-c", "wasi"] {
        assert!(shown.contains(key), "{key} is not in {shown}");
    }
}
