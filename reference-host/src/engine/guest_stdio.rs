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

/// The standard output or error of a component. All its instances share it.
#[derive(Clone)]
pub struct GuestStdio {
    shared: Arc<Shared>,
}

struct Shared {
    workload: Arc<str>,
    component: Arc<str>,
    stream: &'static str,
    line: Mutex<Vec<u8>>,
    budget: LogBudget,
}

impl GuestStdio {
    pub fn new(sandbox: &Sandbox, stream: &'static str) -> Self {
        let (workload, component) = (sandbox.workload_id.clone(), sandbox.component.clone());
        let (line, budget) = (Mutex::default(), LogBudget::default());
        Self {
            shared: Arc::new(Shared {
                workload,
                component,
                stream,
                line,
                budget,
            }),
        }
    }
}

impl Shared {
    fn write(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            if byte == b'\n' || line.len() == MAX_LINE_BYTES {
                self.log(&line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }

    fn log(&self, line: &[u8]) {
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

impl Drop for Shared {
    fn drop(&mut self) {
        let line = std::mem::take(self.line.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            self.log(&line);
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
        self.shared.write(&bytes);
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
        self.shared.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
