//! Running a program, from the parsed command line to the exit code.

use std::error::Error;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::{Log, cancel_on_signal, error_chain};

/// Exit code for an invalid command line, as in clap. The settings of the log are part of the
/// command line.
const USAGE: u8 = 2;

/// Runs a program until it returns. SIGTERM and SIGINT cancel its token.
///
/// Prints an error with all its causes to standard error. The exit code is 0 on success, 1 on an
/// error, and 2 if the log cannot be initialized, because its settings come from the command line.
/// Does not wait for blocking threads.
pub fn run_program<E, F>(
    name: &str,
    log: &Log,
    run: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    E: Into<Box<dyn Error>>,
    F: Future<Output = Result<(), E>>,
{
    if let Err(error) = log.init() {
        eprintln!("{name}: {}", error_chain(&error));
        return ExitCode::from(USAGE);
    }
    match block_on(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn block_on<E, F>(run: impl FnOnce(CancellationToken) -> F) -> Result<(), Box<dyn Error>>
where
    E: Into<Box<dyn Error>>,
    F: Future<Output = Result<(), E>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let shutdown = CancellationToken::new();
    let result = runtime.block_on(async {
        cancel_on_signal(shutdown.clone())?;
        run(shutdown).await.map_err(Into::into)
    });
    // A compilation or a name lookup may still occupy a blocking thread.
    runtime.shutdown_background();
    result
}
