//! The steps of `cargo xtask test`, the fast and most informative ones first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::step::{Context, Step, StepError, run_command, suite_on_kube, with_peers};
use super::{Counters, conformance};
use crate::bindings::{BindingsError, Mode, Tools, go, python};
use crate::tidy::Severity;
use crate::{cargo, chart, r#gen, interop_matrix, kube_api, nats_server, tidy};

/// All steps in sequence. All builds use the dev profile, so that nothing is compiled twice.
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
        run: provide_nats_server,
    },
    Step {
        name: "Kubernetes API server",
        run: provide_kube_api,
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
        name: "chart arguments",
        run: chart_arguments,
    },
    Step {
        name: "conformance",
        run: conformance::run,
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
        name: "interop matrix",
        run: interop,
    },
    Step {
        name: "self test of the suite",
        run: self_test,
    },
];

/// Steps that provide programs for other steps, and therefore always run. They are fast once the
/// programs are cached.
pub(super) const PROVIDERS: [&str; 2] = ["nats-server", "Kubernetes API server"];

fn format(context: &mut Context) -> Result<Counters, StepError> {
    run_command(&mut cargo::command(
        &context.root,
        &["fmt", "--all", "--check"],
    ))
}

fn generated_files(context: &mut Context) -> Result<Counters, StepError> {
    let stale = r#gen::stale(&context.root)?;
    for line in &stale {
        println!("{line}");
    }
    if !stale.is_empty() {
        println!(
            "Generated files are stale: run `{}` and commit the result.",
            r#gen::COMMAND
        );
    }
    let root = &context.root;
    let fresh = go::generate(root, Mode::Check)? && python::generate(root, Mode::Check)?;
    Ok(Counters::of(stale.is_empty() && fresh))
}

fn tidy_rules(context: &mut Context) -> Result<Counters, StepError> {
    let violations = tidy::check(&context.root)?;
    for violation in &violations {
        println!("{violation}");
    }
    Ok(Counters::of(
        violations
            .iter()
            .all(|violation| violation.severity != Severity::Failure),
    ))
}

fn clippy(context: &mut Context) -> Result<Counters, StepError> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    run_command(&mut cargo::command(&context.root, &arguments))
}

fn provide_nats_server(context: &mut Context) -> Result<Counters, StepError> {
    let program = nats_server::obtain(&context.root)?;
    println!("nats-server: {}", program.display());
    context.nats_server = Some(program);
    Ok(Counters::PASSED)
}

fn provide_kube_api(context: &mut Context) -> Result<Counters, StepError> {
    let dir = kube_api::obtain(&context.root)?;
    println!("kube-apiserver and related programs: {}", dir.display());
    context.kube_api = Some(dir);
    Ok(Counters::PASSED)
}

fn tests(context: &mut Context) -> Result<Counters, StepError> {
    let arguments = ["test", "--workspace", "--locked", "--no-fail-fast"];
    let mut command = with_peers(cargo::command(&context.root, &arguments), context);
    let program_error = |source| StepError::Program {
        program: "cargo test".to_owned(),
        source,
    };
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(program_error)?;
    let mut counters = Counters::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|source| StepError::Output {
                program: "cargo test".to_owned(),
                source,
            })?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counters = counters + Counters::parse_line(&line).unwrap_or_default();
        }
    }
    let success = child.wait().map_err(program_error)?.success();
    // A crate that does not compile, or a test binary that crashes, reports no failed test.
    Ok(if success || counters.failed > 0 {
        counters
    } else {
        counters + Counters::FAILED
    })
}

/// Builds the programs for the following steps. Keeps those with fault injection under other names,
/// and then builds the plain programs under their usual names.
///
/// Uses `cargo test` for both, never `cargo build`: without the dev-dependencies, cargo enables
/// fewer features of shared crates, and would compile the engine a second time.
fn programs(context: &mut Context) -> Result<Counters, StepError> {
    let root = &context.root;
    let build = [
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--test",
        "it",
        "--example",
        "with_api_server",
    ];
    let features = "berth-host/fault-injection,berth-scheduler/fault-injection";
    let built = run_command(cargo::command(root, &build).args(["--features", features]))?;
    if built == Counters::FAILED {
        return Ok(Counters::FAILED);
    }
    for (plain, faulty) in [
        ("berth-host", FAULTY_HOST),
        ("berth-scheduler", FAULTY_SCHEDULER),
    ] {
        let from = cargo::program(root, "debug", plain);
        let to = cargo::program(root, "debug", faulty);
        std::fs::copy(&from, &to).map_err(|source| StepError::Copy { path: from, source })?;
    }
    run_command(&mut cargo::command(root, &build))
}

/// Checks that the programs accept the arguments in the chart. `--help` is appended, so that they
/// exit at once.
fn chart_arguments(context: &mut Context) -> Result<Counters, StepError> {
    let Some(programs) = &context.kube_api else {
        return Ok(Counters::FAILED);
    };
    let values = [
        "--set",
        "scheduler.watchNamespaces={a,b},hosts.groupDefaults.labels.zone=a",
    ];
    let rendering = chart::render(&context.root, programs, &values)?;
    let mut counters = Counters::default();
    for (container, program) in CONTAINERS {
        let program = cargo::program(&context.root, "debug", program);
        let lists = chart::arguments_of(&rendering, container)?;
        if lists.is_empty() {
            println!("the chart has no container {container}");
            return Ok(Counters::FAILED);
        }
        for arguments in lists {
            let mut command = Command::new(&program);
            command.args(arguments).arg("--help").stdout(Stdio::null());
            counters = counters + run_command(&mut command)?;
        }
    }
    // Counts as one step, whatever the number of host groups.
    Ok(Counters::of(counters.failed == 0))
}

/// Containers of the chart and their programs.
const CONTAINERS: [(&str, &str); 2] = [("host", "berth-host"), ("scheduler", "berth-scheduler")];

/// The reference host, built with the feature `fault-injection`.
const FAULTY_HOST: &str = "berth-host-breakage";

/// The reference scheduler, built with the feature `fault-injection`.
const FAULTY_SCHEDULER: &str = "berth-scheduler-breakage";

fn self_test(context: &mut Context) -> Result<Counters, StepError> {
    let program = |name: &str| cargo::program(&context.root, "debug", name);
    let mut command = suite_on_kube(context, "selftest");
    command
        .args(["--slow", "--quiet", "--breakage-host"])
        .arg(program(FAULTY_HOST))
        .arg("--breakage-scheduler")
        .arg(program(FAULTY_SCHEDULER));
    run_command(&mut command)
}

fn go_bindings(context: &mut Context) -> Result<Counters, StepError> {
    test_language(context, go::test)
}

fn python_bindings(context: &mut Context) -> Result<Counters, StepError> {
    test_language(context, python::test)
}

fn test_language(
    context: &Context,
    test: fn(&Path, Tools<'_>) -> Result<bool, BindingsError>,
) -> Result<Counters, StepError> {
    let suite = cargo::program(&context.root, "debug", "berth-conformance");
    let host = cargo::program(&context.root, "debug", "berth-host");
    let nats_server = context
        .nats_server
        .as_deref()
        .unwrap_or(Path::new("nats-server"));
    let tools = Tools {
        nats_server,
        suite: &suite,
        host: &host,
    };
    Ok(Counters::of(test(&context.root, tools)?))
}

fn interop(context: &mut Context) -> Result<Counters, StepError> {
    let nats_server = context
        .nats_server
        .as_deref()
        .unwrap_or(Path::new("nats-server"));
    Ok(Counters::of(interop_matrix::run(
        &context.root,
        nats_server,
    )?))
}
