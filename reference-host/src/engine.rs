//! The Wasm engine: compiles components, checks their imports, and runs them.
//!
//! Only this module and its submodules name `wasmtime`.

mod compile;
mod egress;
mod epoch_ticker;
mod file_guard;
mod guest;
mod guest_stdio;
mod http;
mod linker;
mod log_budget;
mod memory_pool;
mod patience;
mod plugins;
mod run;
mod settings;

use std::sync::Arc;

use berth_proto::WitInterface;
use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

pub use self::compile::CompileError;
use self::compile::Compiler;
use self::epoch_ticker::EpochTicker;
use self::guest::{Guest, GuestFactory};
pub use self::http::{Body, HANDLER_TIMEOUT, Handler, HandlerError};
use self::memory_pool::MemoryPool;
pub use self::patience::MAX_HANDLER_RUN;
use self::plugins::{Grant, Plugins};
pub use self::run::{RunFailure, Runnable};
use crate::declarations::is_handler;
use crate::fault_injection::Breakage;
use crate::import_policy::{self, ImportError};
use crate::interface::InterfaceName;
use crate::sandbox::Sandbox;

/// Compiles and runs components. A process needs one engine.
pub struct Engine {
    compiler: Compiler,
    baseline: Linker<Guest>,
    plugins: Plugins,
    pool: MemoryPool,
    permits: Permits,
    ticker: EpochTicker,
}

/// The places of services and of requests in the host. Neither takes the others' instances.
#[derive(Clone)]
struct Permits {
    services: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

/// A compiled component. Clones are cheap.
#[derive(Clone)]
pub struct Compiled {
    component: Arc<Component>,
}

/// A component with all its imports linked, ready to be instantiated.
pub struct Linked {
    pre: InstancePre<Guest>,
    factory: GuestFactory,
    permits: Permits,
    handler_export: Option<String>,
}

/// Reason why the engine cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the Wasm engine")]
pub struct EngineError(#[source] wasmtime::Error);

/// Reason why a component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Imports that the host does not offer, or that the workload does not declare (HOST-RES-008,
    /// HOST-RES-009).
    #[error("{}", joined(.0))]
    Imports(Vec<ImportError>),
    /// The imports have the right names but the wrong types, or the component has too many imports.
    #[error("cannot link the component: {}", first_line(.0))]
    Engine(wasmtime::Error),
    /// The component lacks the export that its use in the workload needs (HOST-SVC-015).
    #[error("cannot find export {0}")]
    NoExport(&'static str),
    /// The host is at its limit of services.
    #[error("the host already runs {0} services, its maximum")]
    TooManyServices(u32),
}

impl Engine {
    /// Creates the engine and starts the ticker that makes guests yield. The linear memories of all
    /// guests together have at most `guest_memory_bytes`.
    pub fn new(guest_memory_bytes: u64) -> Result<Self, EngineError> {
        let engine = settings::engine().map_err(EngineError)?;
        let baseline = linker::baseline(&engine).map_err(EngineError)?;
        let ticker = EpochTicker::start(&engine);
        let plugins = Plugins::new();
        Ok(Self {
            compiler: Compiler::new(engine),
            baseline,
            plugins,
            pool: MemoryPool::new(usize::try_from(guest_memory_bytes).unwrap_or(usize::MAX)),
            permits: Permits {
                services: Arc::new(Semaphore::new(settings::MAX_SERVICES as usize)),
                requests: Arc::new(Semaphore::new(settings::MAX_REQUESTS as usize)),
            },
            ticker,
        })
    }

    /// Compiles `bytes`, or returns the cached component with `digest`, which must be the digest of
    /// `bytes`.
    ///
    /// Cancel safety: if the future is dropped, the compilation continues and the next call finds
    /// its result.
    pub async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Compiled, CompileError> {
        let component = self.compiler.compile(digest, bytes).await?;
        Ok(Compiled { component })
    }

    /// Returns the interfaces that workloads may declare and import.
    pub fn offered_interfaces(&self) -> Vec<WitInterface> {
        self.plugins.offered_interfaces()
    }

    /// Checks the imports of the component against the declarations of its workload, and links it.
    pub fn link(
        &self,
        compiled: &Compiled,
        sandbox: Arc<Sandbox>,
        declared: &[WitInterface],
    ) -> Result<Linked, LinkError> {
        let component = &compiled.component;
        let ty = component.component_type();
        let imports: Vec<String> = ty
            .imports(component.engine())
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut linker = self.baseline.clone();
        let declared_by_fault = if Breakage::GrantsUndeclaredImports.is_on() {
            self.offered_interfaces()
        } else {
            Vec::new()
        };
        let declared = if declared_by_fault.is_empty() {
            declared
        } else {
            &declared_by_fault
        };
        match import_policy::check_imports(&imports, declared, &self.plugins.names()) {
            Ok(granted) => {
                for (name, declaration) in granted {
                    let grant = Grant {
                        sandbox: &sandbox,
                        declaration,
                    };
                    self.plugins
                        .link(&name, &grant, &mut linker)
                        .map_err(LinkError::Engine)?;
                }
            }
            Err(_) if Breakage::AcceptsUnmetImport.is_on() => linker
                .define_unknown_imports_as_traps(component)
                .map_err(LinkError::Engine)?,
            Err(errors) => return Err(LinkError::Imports(errors)),
        }
        let pre = linker
            .instantiate_pre(component)
            .map_err(LinkError::Engine)?;
        let handler_export = ty
            .exports(component.engine())
            .map(|(name, _)| name)
            .find(|name| InterfaceName::parse(name).is_some_and(|name| is_handler(&name)))
            .map(str::to_owned);
        let (pool, yields) = (self.pool.clone(), self.ticker.yields());
        let factory = GuestFactory::new(compiled.component.clone(), sandbox, pool, yields);
        Ok(Linked {
            pre,
            factory,
            permits: self.permits.clone(),
            handler_export,
        })
    }
}

impl Linked {
    /// Returns the HTTP handler that the component exports, of any release of WASI.
    pub fn handler_export(&self) -> Option<&str> {
        self.handler_export.as_deref()
    }

    /// Returns the component as an HTTP handler.
    pub fn into_handler(self) -> Result<Handler, LinkError> {
        let pre = ProxyPre::new(self.pre)
            .map_err(|_| LinkError::NoExport("wasi:http/incoming-handler of WASI 0.2"))?;
        Ok(Handler::new(pre, self.factory, self.permits.requests))
    }

    /// Returns the component as a command with `wasi:cli/run`.
    pub fn into_runnable(self) -> Result<Runnable, LinkError> {
        let pre = CommandPre::new(self.pre).map_err(|_| LinkError::NoExport("wasi:cli/run"))?;
        let permit = self.permits.services.try_acquire_owned();
        let permit = permit.map_err(|_| LinkError::TooManyServices(settings::MAX_SERVICES))?;
        Ok(Runnable::new(pre, self.factory, permit))
    }
}

fn joined(errors: &[ImportError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Returns the first line of an engine error, without the backtrace.
fn first_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}
