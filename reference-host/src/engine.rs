//! The Wasm engine: compiles components, checks what they import, and runs them.
//!
//! Only this module and those below it name `wasmtime`.

mod compile;
mod egress;
mod guest;
mod http;
mod log_budget;
mod output;
mod plugins;
mod run;
mod settings;
mod ticker;

use std::sync::Arc;

use berth_proto::WitInterface;
use bytes::Bytes;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

pub use self::compile::CompileError;
use self::compile::Compiler;
use self::guest::{Guest, GuestFactory};
pub use self::http::{Body, HANDLER_TIMEOUT, Handler, HandlerError};
use self::plugins::{Grant, Plugins};
pub use self::run::{Runnable, Unsuccessful};
use self::ticker::Ticker;
use crate::breakage::Breakage;
use crate::gate;
use crate::interface::InterfaceName;
use crate::sandbox::Sandbox;

/// The export that makes a component serve HTTP.
const HANDLER_EXPORT: (&str, &str, &str) = ("wasi", "http", "incoming-handler");

/// Compiles and runs components. One for the process; shared by reference.
pub struct Engine {
    compiler: Compiler,
    baseline: Linker<Guest>,
    plugins: Plugins,
    _ticker: Ticker,
}

/// A compiled component; a cheap clone.
#[derive(Clone)]
pub struct Compiled {
    component: Component,
}

/// A component with all that it imports, ready to be instantiated.
pub struct Prepared {
    pre: InstancePre<Guest>,
    factory: GuestFactory,
    handles_http: bool,
}

/// Why the engine cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the Wasm engine up")]
pub struct EngineError(#[source] wasmtime::Error);

/// Why a component cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// HOST-RES-008, HOST-RES-009
    #[error("{}", joined(.0))]
    Denied(Vec<gate::Denied>),
    /// The imports have the right names and the wrong types, or are too many.
    #[error("cannot be linked: {}", first_line(.0))]
    Link(wasmtime::Error),
    /// It has not the export that its role needs (HOST-SVC-015).
    #[error("does not export {0}")]
    NoExport(&'static str),
}

impl Engine {
    /// Sets the engine up and starts the ticker that makes guests yield.
    pub fn new() -> Result<Self, EngineError> {
        let engine = settings::engine().map_err(EngineError)?;
        let baseline = baseline_linker(&engine).map_err(EngineError)?;
        let ticker = Ticker::start(&engine);
        let plugins = Plugins::new();
        Ok(Self {
            compiler: Compiler::new(engine),
            baseline,
            plugins,
            _ticker: ticker,
        })
    }

    /// Compiles what was pulled, or finds it compiled. `digest` is that of the bytes.
    ///
    /// Cancel safety: a compilation goes on when the caller gives up, and the next one finds it.
    pub async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Compiled, CompileError> {
        let component = self.compiler.compile(digest, bytes).await?;
        Ok(Compiled { component })
    }

    /// The interfaces that workloads may declare and import.
    pub fn offers(&self) -> Vec<WitInterface> {
        self.plugins.offers()
    }

    /// Checks what the component imports against what its workload declares, and links it.
    pub fn prepare(
        &self,
        compiled: &Compiled,
        sandbox: Arc<Sandbox>,
        declared: &[WitInterface],
    ) -> Result<Prepared, PrepareError> {
        let component = &compiled.component;
        let ty = component.component_type();
        let imports: Vec<String> = ty
            .imports(component.engine())
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut linker = self.baseline.clone();
        let all = if Breakage::GrantsUndeclared.is_on() {
            self.offers()
        } else {
            Vec::new()
        };
        let declared = if all.is_empty() { declared } else { &all };
        match gate::judge(&imports, declared, &self.plugins.names()) {
            Ok(granted) => {
                for (name, declaration) in granted {
                    let grant = Grant {
                        sandbox: &sandbox,
                        declaration,
                    };
                    self.plugins
                        .link(&name, &grant, &mut linker)
                        .map_err(PrepareError::Link)?;
                }
            }
            Err(_) if Breakage::AcceptsUnmetImport.is_on() => linker
                .define_unknown_imports_as_traps(component)
                .map_err(PrepareError::Link)?,
            Err(denied) => return Err(PrepareError::Denied(denied)),
        }
        let pre = linker
            .instantiate_pre(component)
            .map_err(PrepareError::Link)?;
        let handles_http = ty
            .exports(component.engine())
            .any(|(name, _)| is_handler(name));
        let factory = GuestFactory::new(component.engine().clone(), sandbox);
        Ok(Prepared {
            pre,
            factory,
            handles_http,
        })
    }
}

impl Prepared {
    /// Whether the component exports a handler of HTTP requests.
    pub fn handles_http(&self) -> bool {
        self.handles_http
    }

    /// The component as a handler of HTTP requests.
    pub fn into_handler(self) -> Result<Handler, PrepareError> {
        let pre = ProxyPre::new(self.pre)
            .map_err(|_| PrepareError::NoExport("wasi:http/incoming-handler"))?;
        Ok(Handler::new(pre, self.factory))
    }

    /// The component as something that runs by itself.
    pub fn into_runnable(self) -> Result<Runnable, PrepareError> {
        let pre = CommandPre::new(self.pre).map_err(|_| PrepareError::NoExport("wasi:cli/run"))?;
        Ok(Runnable::new(pre, self.factory))
    }
}

fn is_handler(export: &str) -> bool {
    InterfaceName::parse(export).is_some_and(|name| {
        (
            name.namespace.as_str(),
            name.package.as_str(),
            name.interface.as_str(),
        ) == HANDLER_EXPORT
    })
}

fn baseline_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    egress::add_name_lookup(&mut linker)?;
    Ok(linker)
}

fn joined(denied: &[gate::Denied]) -> String {
    denied
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// The outermost message of an engine's error, without the backtrace and the causes behind it.
fn first_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}
