//! Standard output and error of guests, written to the host's log line by line with the workload's
//! id.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::log_budget::{LogBudget, Permit};
use crate::sandbox::Sandbox;

/// Length at which a line is split, in bytes.
const MAX_LINE_BYTES: usize = 4096;

/// Limit of a single write by a guest, in bytes.
const MAX_WRITE_BYTES: usize = 64 << 10;

/// The standard output or error of one instance. Clones share its unfinished line.
#[derive(Clone)]
pub struct GuestStdio {
    line: Arc<Line>,
}

/// The log of a component's standard output or error. All its instances share the budget.
struct Log {
    workload: Arc<str>,
    component: Arc<str>,
    stream: &'static str,
    budget: LogBudget,
}

struct Line {
    log: Arc<Log>,
    unfinished: Mutex<Vec<u8>>,
}

impl GuestStdio {
    pub fn new(sandbox: &Sandbox, stream: &'static str) -> Self {
        let log = Log {
            workload: sandbox.workload_id.clone(),
            component: sandbox.component.clone(),
            stream,
            budget: LogBudget::default(),
        };
        Self::with_log(Arc::new(log))
    }

    /// Returns the stream of another instance of the component, with a line of its own.
    pub fn for_instance(&self) -> Self {
        Self::with_log(self.line.log.clone())
    }

    fn with_log(log: Arc<Log>) -> Self {
        let unfinished = Mutex::default();
        Self {
            line: Arc::new(Line { log, unfinished }),
        }
    }
}

impl Line {
    fn write(&self, bytes: &[u8]) {
        let unfinished = self.unfinished.lock();
        let mut line = unfinished.unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            if byte == b'\n' || line.len() == MAX_LINE_BYTES {
                self.log.line(&line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
}

impl Log {
    fn line(&self, line: &[u8]) {
        let Permit::Granted { omitted } = self.budget.request() else {
            return;
        };
        if omitted > 0 {
            self.event(&format!("({omitted} lines omitted)"));
        }
        self.event(&String::from_utf8_lossy(line));
    }

    fn event(&self, text: &str) {
        tracing::info!(
            target: "berth_host::guest",
            workload = ?self.workload, component = ?self.component, stream = self.stream,
            "{}", text.escape_debug()
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let unfinished = self.unfinished.get_mut();
        let line = std::mem::take(unfinished.unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            self.log.line(&line);
        }
    }
}

impl IsTerminal for GuestStdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestStdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.line.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE_BYTES)
    }
}

impl Pollable for GuestStdio {
    fn ready<'a, 'f>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for GuestStdio {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.line.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_concurrent_instances_do_not_mix() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let log = Log {
                workload: "w".into(),
                component: "c".into(),
                stream: "stdout",
                budget: LogBudget::default(),
            };
            let component = GuestStdio::with_log(Arc::new(log));
            let (one, two) = (component.for_instance(), component.for_instance());
            one.line.write(b"first ");
            two.line.write(b"second ");
            one.clone().line.write(b"one\n");
            two.line.write(b"two");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains(" first one ") && text.contains(" second two "),
            "{text}"
        );
    }
}
