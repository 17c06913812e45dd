//! The examples of the README and the guides, run unchanged.

use std::process::{Child, Command, Stdio};

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::within_timeout;

/// A process that is killed on drop.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example(name: &str, url: &str) -> Command {
    let mut command = Command::new(program(name));
    command.arg(url);
    command
}

/// Returns the path of an example, which `cargo test` has built.
pub(crate) fn program(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} does not exist: run `cargo build --examples`",
        program.display()
    );
    program.to_str().unwrap().to_owned()
}

on_both_brokers! {
    async fn minimal_scheduler_runs_a_workload_on_the_minimal_host(broker: TestBroker) {
        let scheduler = example("minimal_scheduler", &broker.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _host = ChildGuard(
            example("minimal_host", &broker.url()).stdout(Stdio::null()).spawn().unwrap(),
        );
        let output = tokio::task::spawn_blocking(|| scheduler.wait_with_output());
        let output = within_timeout("the scheduler ends", output).await.unwrap().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stdout}{stderr}");
        let lines: Vec<&str> = stdout.lines().collect();
        assert!(lines[0].starts_with("minimal-"), "{stdout}");
        assert_eq!(
            lines[1..],
            [
                "demo-1 is WORKLOAD_STATE_RUNNING",
                "demo-1 is WORKLOAD_STATE_RUNNING",
                "demo-1 is gone"
            ]
        );
    }
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn grpc_pair_runs_a_workload() {
    let pair = Command::new(program("grpc_pair"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(|| pair.wait_with_output());
    let output = within_timeout("the pair ends", output)
        .await
        .unwrap()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(
        stdout.lines().collect::<Vec<_>>(),
        [
            "minimal joined",
            "demo-1 is WORKLOAD_STATE_RUNNING",
            "demo-1 is gone"
        ]
    );
}

/// Checks that every Rust block of a document is part of the file that it names.
#[test]
fn documents_quote_their_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for document in [
        "sdk-rust/README.md",
        "docs/guide/bring-your-own-host-rust.md",
        "docs/guide/bring-your-own-scheduler-rust.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let blocks: Vec<&str> = text.split("```rust\n").collect();
        assert!(blocks.len() > 1, "{document} contains no code");
        for pair in blocks.windows(2) {
            let [before, after] = pair else { continue };
            let file = before
                .strip_suffix(" -->\n")
                .and_then(|before| before.rsplit_once("<!-- file: "))
                .map(|(_, file)| file)
                .unwrap_or_else(|| panic!("{document}: code block without a file: {after}"));
            let (code, _) = after.split_once("```").unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(
                source.contains(code),
                "{document}: a code block differs from {file}"
            );
        }
    }
}
