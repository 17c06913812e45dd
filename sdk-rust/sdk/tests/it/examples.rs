//! The examples of the README and the guides, run as they are.

use std::process::{Child, Command, Stdio};

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::soon;

/// Ends the program with the test.
struct Running(Child);

impl Drop for Running {
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

/// Examples lie beside the directory of this program, and `cargo test` has built them.
pub(crate) fn program(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not built: cargo build --examples",
        program.display()
    );
    program.to_str().unwrap().to_owned()
}

on_both_brokers! {
    async fn the_minimal_scheduler_runs_a_workload_on_the_minimal_host(broker: TestBroker) {
        let scheduler = example("minimal_scheduler", &broker.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _host = Running(
            example("minimal_host", &broker.url()).stdout(Stdio::null()).spawn().unwrap(),
        );
        let output = tokio::task::spawn_blocking(|| scheduler.wait_with_output());
        let output = soon("the scheduler ends", output).await.unwrap().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}{errors}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("minimal-"), "{said}");
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
async fn the_pair_over_grpc_runs_a_workload() {
    let pair = Command::new(program("grpc_pair"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(|| pair.wait_with_output());
    let output = soon("it ends", output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}{errors}");
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "minimal joined",
            "demo-1 is WORKLOAD_STATE_RUNNING",
            "demo-1 is gone"
        ]
    );
}

/// Every block of Rust in a document stands in the file that it names, as it is.
#[test]
fn documents_show_the_files_that_are_run() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for document in [
        "sdk-rust/README.md",
        "docs/guide/bring-your-own-host-rust.md",
        "docs/guide/bring-your-own-scheduler-rust.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let blocks: Vec<&str> = text.split("```rust\n").collect();
        assert!(blocks.len() > 1, "{document} shows no code");
        for pair in blocks.windows(2) {
            let [before, after] = pair else { continue };
            let file = before
                .strip_suffix(" -->\n")
                .and_then(|before| before.rsplit_once("<!-- file: "))
                .map(|(_, file)| file)
                .unwrap_or_else(|| panic!("{document}: code without a file: {after}"));
            let (code, _) = after.split_once("```").unwrap();
            let source = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(
                source.contains(code),
                "{document} does not show {file} as it is"
            );
        }
    }
}
