//! The command line: help, and errors for mistyped tasks.

use std::process::{Command, Output};

#[test]
fn help_lists_tasks_and_examples() {
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
fn mistyped_task_is_a_usage_error_with_a_suggestion() {
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
