//! The host state of one instance, and the factory that creates it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::component::{Component, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Result, Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::egress::{OutgoingHttp, ResolvedNames, socket_check};
use super::epoch_ticker::Yields;
use super::guest_stdio::GuestStdio;
use super::memory_pool::{MemoryPool, MemoryShare};
use super::patience::{MAX_HANDLER_RUN, Patience};
use crate::fault_injection::Breakage;
use crate::sandbox::Sandbox;

/// Epoch ticks after which a guest yields.
const TICKS_BETWEEN_YIELDS: u64 = 1;

/// Limit of the entries of one guest table, because tables are in host memory.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Limit of the resources of one instance: sockets, files, streams, headers and the like. Each is
/// in host memory, outside of the memory limit. A connection of a service takes five.
const MAX_RESOURCES: usize = 8192;

/// Limit of the headers in one resource, as of those in a request to the ingress.
const MAX_FIELDS_BYTES: usize = 64 << 10;

/// The host state of one instance.
pub struct Guest {
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: PatientHttp,
    pub resolved_names: ResolvedNames,
    memory: MemoryLimit,
}

/// Outgoing HTTP of one instance. A timeout that the guest sets extends the patience with it.
struct PatientHttp {
    outgoing: OutgoingHttp,
    patience: Option<Patience>,
}

type SendRequest = Box<dyn Future<Output = Result<Sent, HttpError>> + Send>;
type Sent = (http::Response<WasiBody>, Transfer);
type Transfer = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

/// Creates the stores for instances of one component.
#[derive(Clone)]
pub struct GuestFactory {
    engine: Engine,
    sandbox: Arc<Sandbox>,
    outgoing: OutgoingHttp,
    stdout: GuestStdio,
    stderr: GuestStdio,
    pool: MemoryPool,
    yields: Yields,
    /// Keeps the component in the cache of compiled ones while it is in use.
    _component: Arc<Component>,
}

/// State that a request shares with its instance.
#[derive(Clone)]
pub struct RequestContext {
    /// Time by which the response has to begin.
    pub patience: Patience,
    /// Set when memory was refused because the host has none left for guests.
    pub out_of_memory: Arc<AtomicBool>,
}

impl GuestFactory {
    pub fn new(
        component: Arc<Component>,
        sandbox: Arc<Sandbox>,
        pool: MemoryPool,
        yields: Yields,
    ) -> Self {
        let stdout = GuestStdio::new(&sandbox, "stdout");
        let stderr = GuestStdio::new(&sandbox, "stderr");
        let outgoing = OutgoingHttp::new(sandbox.egress.clone());
        Self {
            engine: component.engine().clone(),
            sandbox,
            outgoing,
            stdout,
            stderr,
            pool,
            yields,
            _component: component,
        }
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Creates a store that gives its instance only what the sandbox allows.
    pub fn store(&self, request: Option<RequestContext>) -> Result<Store<Guest>> {
        let mut store = Store::new(&self.engine, self.guest(request)?);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(TICKS_BETWEEN_YIELDS);
        let yields = self.yields.clone();
        store.epoch_deadline_callback(move |_| {
            yields.record();
            Ok(UpdateDeadline::Yield(TICKS_BETWEEN_YIELDS))
        });
        Ok(store)
    }

    fn guest(&self, request: Option<RequestContext>) -> Result<Guest> {
        let (patience, out_of_memory) = match request {
            Some(request) => (Some(request.patience), request.out_of_memory),
            None => (None, Arc::default()),
        };
        let resolved_names = ResolvedNames::default();
        let (mut table, mut http) = (ResourceTable::new(), WasiHttpCtx::new());
        table.set_max_capacity(MAX_RESOURCES);
        http.set_field_size_limit(MAX_FIELDS_BYTES);
        Ok(Guest {
            table,
            wasi: self.wasi(&resolved_names)?,
            http,
            outgoing: PatientHttp {
                outgoing: self.outgoing.clone(),
                patience,
            },
            resolved_names,
            memory: MemoryLimit {
                share: self.pool.share(),
                granted_bytes: 0,
                out_of_memory,
                limit_bytes: self.sandbox.memory_limit_bytes,
            },
        })
    }

    fn wasi(&self, resolved_names: &ResolvedNames) -> Result<WasiCtx> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.sandbox.environment);
        wasi.stdout(self.stdout.for_instance());
        wasi.stderr(self.stderr.for_instance());
        for mount in &self.sandbox.mounts {
            let perms = if mount.read_only {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            wasi.preopened_dir(&mount.host_path, &mount.guest_path, perms)?;
        }
        if Breakage::UnrestrictedSockets.is_on() {
            wasi.allow_tcp(true).allow_udp(true).inherit_network();
        } else if !self.sandbox.egress.allows_no_socket() {
            let check = socket_check(self.sandbox.egress.clone(), resolved_names.clone());
            wasi.allow_tcp(true)
                .allow_udp(true)
                .socket_addr_check(check);
        }
        // The linker's name lookup checks each name against the allow-list.
        wasi.allow_ip_name_lookup(true);
        Ok(wasi.build())
    }
}

impl Guest {
    pub fn egress(&self) -> &crate::egress::Egress {
        self.outgoing.outgoing.egress()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpHooks for PatientHttp {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        transfer: Transfer,
    ) -> SendRequest {
        if let (Some(patience), Some(options)) = (&self.patience, &options) {
            let timeouts = [
                options.connect_timeout,
                options.first_byte_timeout,
                options.between_bytes_timeout,
            ];
            let waits: Duration = timeouts
                .into_iter()
                .flatten()
                .fold(Duration::ZERO, |sum, limit| sum.saturating_add(limit));
            patience.extend(waits.min(MAX_HANDLER_RUN));
        }
        self.outgoing.send_request(request, options, transfer)
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}

/// Limits the linear memories of an instance (HOST-RES-001) and of all guests together. Growth
/// beyond the limit fails as if the machine were out of memory, and the guest handles it.
struct MemoryLimit {
    /// All linear memories of the instance.
    share: MemoryShare,
    /// Set when the limit of the host was reached, and not the one of the instance.
    out_of_memory: Arc<AtomicBool>,
    /// The most recent grant, subtracted again if the growth fails for another reason.
    granted_bytes: usize,
    limit_bytes: usize,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.granted_bytes = 0;
            return Ok(false);
        }
        let requested = desired.saturating_sub(current);
        let used = self.share.bytes().saturating_add(requested);
        self.granted_bytes = 0;
        if used > self.limit_bytes {
            if Breakage::AllocationKillsHost.is_on() {
                std::process::abort();
            }
            return Ok(false);
        }
        if !self.share.grow(requested) {
            self.out_of_memory.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        self.granted_bytes = requested;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.share.shrink(std::mem::take(&mut self.granted_bytes));
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}
