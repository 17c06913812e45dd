//! What someone sees who types a chore wrongly, or asks for help.

use std::process::{Command, Output};

#[test]
fn help_names_every_chore_and_gives_examples() {
    let help = xtask(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in [
        "gen",
        "tidy",
        "conformance",
        "kube-api",
        "test",
        "Examples:",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[test]
fn a_mistyped_chore_is_a_usage_error_with_the_near_spelling() {
    let output = xtask(&["tody"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("'tidy'"), "{text}");
}

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .output()
        .unwrap()
}
