//! The two examples of the README, run as they are.

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
    // Examples lie beside the directory of this program, and `cargo test` has built them.
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not built: cargo build --examples",
        program.display()
    );
    let mut command = Command::new(program);
    command.arg(url);
    command
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

/// What the README shows is what was run above.
#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let readme = std::fs::read_to_string(format!("{folder}../README.md")).unwrap();
    for name in ["minimal_host", "minimal_scheduler"] {
        let code = std::fs::read_to_string(format!("{folder}examples/{name}.rs")).unwrap();
        let shown = format!("<!-- example: {name} -->\n```rust\n{code}```\n");
        assert!(
            readme.contains(&shown),
            "sdk-rust/README.md shows another {name}"
        );
    }
}
