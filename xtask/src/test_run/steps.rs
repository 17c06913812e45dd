//! The steps of `cargo xtask test`, the quick and the telling ones first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Setting, Step, StepError, Tally, conformance};
use crate::bindings::{BindingsError, Freshness, Tools, go, python};
use crate::tidy::Severity;
use crate::{cargo, chart, r#gen, kube_api, matrix, nats_server, tidy};

/// In this order. All builds are of the dev profile, so that nothing is compiled twice.
pub(super) const STEPS: [Step; 14] = [
    Step {
        name: "format",
        run: format,
    },
    Step {
        name: "generated files",
        run: generated_files,
    },
    Step {
        name: "tidy",
        run: tidy_rules,
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "nats-server",
        run: obtain_nats_server,
    },
    Step {
        name: "Kubernetes API server",
        run: obtain_kube_api,
    },
    Step {
        name: "tests",
        run: tests,
    },
    Step {
        name: "programs",
        run: programs,
    },
    Step {
        name: "arguments in the chart",
        run: chart_arguments,
    },
    Step {
        name: "conformance",
        run: conformance::judge,
    },
    Step {
        name: "Go",
        run: go_bindings,
    },
    Step {
        name: "Python",
        run: python_bindings,
    },
    Step {
        name: "hosts and schedulers of all languages",
        run: all_languages,
    },
    Step {
        name: "self test of the suite",
        run: self_test,
    },
];

/// What others cannot do without; quick once it has been done.
pub(super) const OBTAINING: [&str; 2] = ["nats-server", "Kubernetes API server"];

fn format(setting: &mut Setting) -> Result<Tally, StepError> {
    step(&mut cargo::command(
        &setting.root,
        &["fmt", "--all", "--check"],
    ))
}

fn generated_files(setting: &mut Setting) -> Result<Tally, StepError> {
    let stale = r#gen::stale(&setting.root)?;
    for line in &stale {
        println!("{line}");
    }
    if !stale.is_empty() {
        println!(
            "Generated files are stale: run `{}` and commit the result.",
            r#gen::COMMAND
        );
    }
    let root = &setting.root;
    let fresh =
        go::generated(root, Freshness::Checked)? && python::generated(root, Freshness::Checked)?;
    Ok(Tally::of(stale.is_empty() && fresh))
}

fn tidy_rules(setting: &mut Setting) -> Result<Tally, StepError> {
    let found = tidy::check(&setting.root)?;
    for violation in &found {
        println!("{violation}");
    }
    Ok(Tally::of(
        found
            .iter()
            .all(|violation| violation.severity != Severity::Failure),
    ))
}

fn clippy(setting: &mut Setting) -> Result<Tally, StepError> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    step(&mut cargo::command(&setting.root, &arguments))
}

fn obtain_nats_server(setting: &mut Setting) -> Result<Tally, StepError> {
    let program = nats_server::obtain(&setting.root)?;
    println!("nats-server: {}", program.display());
    setting.nats_server = Some(program);
    Ok(Tally::PASSED)
}

fn obtain_kube_api(setting: &mut Setting) -> Result<Tally, StepError> {
    let dir = kube_api::obtain(&setting.root)?;
    println!("kube-apiserver and what belongs to it: {}", dir.display());
    setting.kube_api = Some(dir);
    Ok(Tally::PASSED)
}

fn tests(setting: &mut Setting) -> Result<Tally, StepError> {
    let arguments = ["test", "--workspace", "--locked", "--no-fail-fast"];
    let mut command = with_peers(cargo::command(&setting.root, &arguments), setting);
    let failed = |source| StepError::Program {
        program: "cargo test".to_owned(),
        source,
    };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|source| StepError::Output {
                program: "cargo test".to_owned(),
                source,
            })?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally = tally + Tally::of_line(&line).unwrap_or_default();
        }
    }
    let success = child.wait().map_err(failed)?.success();
    // A crate that does not compile, or a test binary that dies, reports no failed test.
    Ok(if success || tally.failed > 0 {
        tally
    } else {
        tally + Tally::FAILED
    })
}

/// The programs for the steps to come. Those with deliberate faults are kept under other names, so that the plain
/// ones stand where they are looked for.
///
/// Both are made by `cargo test`, never by `cargo build`: without the dev-dependencies cargo turns on
/// fewer features of what is shared, and would compile the engine a second time.
fn programs(setting: &mut Setting) -> Result<Tally, StepError> {
    let root = &setting.root;
    let make = [
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--test",
        "it",
        "--example",
        "with_api_server",
    ];
    let features = "berth-host/breakage,berth-scheduler/breakage";
    let faulty = step(cargo::command(root, &make).args(["--features", features]))?;
    if faulty == Tally::FAILED {
        return Ok(Tally::FAILED);
    }
    for (plain, faulty) in [
        ("berth-host", FAULTY_HOST),
        ("berth-scheduler", FAULTY_SCHEDULER),
    ] {
        let built = cargo::built(root, "debug", plain);
        let kept = cargo::built(root, "debug", faulty);
        std::fs::copy(&built, &kept).map_err(|source| StepError::Copy {
            path: built,
            source,
        })?;
    }
    step(&mut cargo::command(root, &make))
}

/// The programs take the arguments that the chart gives them. With `--help` behind them they do no more than that.
fn chart_arguments(setting: &mut Setting) -> Result<Tally, StepError> {
    let Some(programs) = &setting.kube_api else {
        return Ok(Tally::FAILED);
    };
    let values = [
        "--set",
        "scheduler.watchNamespaces={a,b},hosts.groupDefaults.labels.zone=a",
    ];
    let rendering = chart::render(&setting.root, programs, &values)?;
    let mut tally = Tally::default();
    for (container, program) in CONTAINERS {
        let program = cargo::built(&setting.root, "debug", program);
        let lists = chart::arguments_of(&rendering, container)?;
        if lists.is_empty() {
            println!("no container is called {container}");
            return Ok(Tally::FAILED);
        }
        for arguments in lists {
            let mut command = Command::new(&program);
            command.args(arguments).arg("--help").stdout(Stdio::null());
            tally = tally + step(&mut command)?;
        }
    }
    // One step, however many groups of hosts there are.
    Ok(Tally::of(tally.failed == 0))
}

/// What runs in the containers of the chart.
const CONTAINERS: [(&str, &str); 2] = [("host", "berth-host"), ("scheduler", "berth-scheduler")];

/// The reference host, built with the feature `breakage`.
const FAULTY_HOST: &str = "berth-host-breakage";

/// The reference scheduler, likewise.
const FAULTY_SCHEDULER: &str = "berth-scheduler-breakage";

/// Runs a command beside an API server of its own.
const WITH_API_SERVER: &str = "examples/with_api_server";

fn self_test(setting: &mut Setting) -> Result<Tally, StepError> {
    let program = |name: &str| cargo::built(&setting.root, "debug", name);
    let mut command = suite_on_kube(setting, "selftest");
    command
        .args(["--slow", "--quiet", "--breakage-host"])
        .arg(program(FAULTY_HOST))
        .arg("--breakage-scheduler")
        .arg(program(FAULTY_SCHEDULER));
    step(&mut command)
}

fn go_bindings(setting: &mut Setting) -> Result<Tally, StepError> {
    language(setting, go::test)
}

fn python_bindings(setting: &mut Setting) -> Result<Tally, StepError> {
    language(setting, python::test)
}

fn language(
    setting: &Setting,
    test: fn(&Path, Tools<'_>) -> Result<bool, BindingsError>,
) -> Result<Tally, StepError> {
    let suite = cargo::built(&setting.root, "debug", "berth-conformance");
    let host = cargo::built(&setting.root, "debug", "berth-host");
    let nats_server = setting
        .nats_server
        .as_deref()
        .unwrap_or(Path::new("nats-server"));
    let tools = Tools {
        nats_server,
        suite: &suite,
        host: &host,
    };
    Ok(Tally::of(test(&setting.root, tools)?))
}

fn all_languages(setting: &mut Setting) -> Result<Tally, StepError> {
    let nats_server = setting
        .nats_server
        .as_deref()
        .unwrap_or(Path::new("nats-server"));
    Ok(Tally::of(matrix::run(&setting.root, nats_server)?))
}

pub(super) fn suite(setting: &Setting, subcommand: &str) -> Command {
    let program = cargo::built(&setting.root, "debug", "berth-conformance");
    let mut command = with_peers(Command::new(program), setting);
    command.current_dir(&setting.root).arg(subcommand);
    command.env(
        "BERTH_HOST",
        cargo::built(&setting.root, "debug", "berth-host"),
    );
    command
}

/// The same beside an API server of its own.
pub(super) fn suite_on_kube(setting: &Setting, subcommand: &str) -> Command {
    let program = |name: &str| cargo::built(&setting.root, "debug", name);
    let mut command = with_peers(Command::new(program(WITH_API_SERVER)), setting);
    command.arg(program("berth-conformance")).arg(subcommand);
    command
        .current_dir(&setting.root)
        .env("BERTH_HOST", program("berth-host"));
    command
}

/// The real programs that tests and the suite meet, where they are looked for.
fn with_peers(mut command: Command, setting: &Setting) -> Command {
    if let Some(program) = &setting.nats_server {
        command.env(nats_server::VARIABLE, program);
    }
    if let Some(dir) = &setting.kube_api {
        command.env(kube_api::VARIABLE, dir);
    }
    command
}

pub(super) fn step(command: &mut Command) -> Result<Tally, StepError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|source| StepError::Program { program, source })?;
    Ok(Tally::of(status.success()))
}
