//! What the host keeps for one instance, and how a fresh instance is given it.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Result, Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::egress::{LookedUp, OutgoingHttp, socket_check};
use super::output::Output;
use crate::breakage::Breakage;
use crate::sandbox::Sandbox;

/// Ticks until a guest is made to yield for the first time, and each time after.
const TICKS_BETWEEN_YIELDS: u64 = 1;

/// Entries in one table of a guest, which live in host memory.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// The state of one instance.
pub struct Guest {
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: OutgoingHttp,
    pub looked_up: LookedUp,
    memory: MemoryLimit,
}

/// Makes the stores of one component's instances.
#[derive(Clone)]
pub struct GuestFactory {
    engine: Engine,
    sandbox: Arc<Sandbox>,
    outgoing: OutgoingHttp,
    stdout: Output,
    stderr: Output,
}

impl GuestFactory {
    pub fn new(engine: Engine, sandbox: Arc<Sandbox>) -> Self {
        let stdout = Output::new(&sandbox, "stdout");
        let stderr = Output::new(&sandbox, "stderr");
        let outgoing = OutgoingHttp::new(sandbox.egress.clone());
        Self {
            engine,
            sandbox,
            outgoing,
            stdout,
            stderr,
        }
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// A store with nothing in it but what the sandbox allows.
    pub fn store(&self) -> Result<Store<Guest>> {
        let mut store = Store::new(&self.engine, self.guest()?);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(TICKS_BETWEEN_YIELDS);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(TICKS_BETWEEN_YIELDS)));
        Ok(store)
    }

    fn guest(&self) -> Result<Guest> {
        let looked_up = LookedUp::default();
        Ok(Guest {
            table: ResourceTable::new(),
            wasi: self.wasi(&looked_up)?,
            http: WasiHttpCtx::new(),
            outgoing: self.outgoing.clone(),
            looked_up,
            memory: MemoryLimit {
                used_bytes: 0,
                granted_bytes: 0,
                limit_bytes: self.sandbox.memory_limit_bytes,
            },
        })
    }

    fn wasi(&self, looked_up: &LookedUp) -> Result<WasiCtx> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.sandbox.environment);
        wasi.stdout(self.stdout.clone());
        wasi.stderr(self.stderr.clone());
        for mount in &self.sandbox.mounts {
            let perms = if mount.read_only {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            wasi.preopened_dir(&mount.host_path, &mount.guest_path, perms)?;
        }
        if Breakage::OpenSockets.is_on() {
            wasi.allow_tcp(true).allow_udp(true).inherit_network();
        } else if !self.sandbox.egress.allows_no_socket() {
            wasi.allow_tcp(true)
                .allow_udp(true)
                .socket_addr_check(socket_check(self.sandbox.egress.clone(), looked_up.clone()));
        }
        // Which names may be looked up is decided where the lookup is linked.
        wasi.allow_ip_name_lookup(true);
        Ok(wasi.build())
    }
}

impl Guest {
    pub fn egress(&self) -> &crate::egress::Egress {
        self.outgoing.egress()
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

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}

/// Holds all linear memories of an instance together within its limit (HOST-RES-001). Growing past
/// it fails as if memory were short; the guest decides what to make of that.
struct MemoryLimit {
    used_bytes: usize,
    /// What was granted last; given back when the growth then fails for another reason.
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
        let wanted = desired.saturating_sub(current);
        let used = self.used_bytes.saturating_add(wanted);
        self.granted_bytes = 0;
        if used > self.limit_bytes {
            if Breakage::AllocationEndsHost.is_on() {
                std::process::abort();
            }
            return Ok(false);
        }
        (self.used_bytes, self.granted_bytes) = (used, wanted);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.used_bytes -= std::mem::take(&mut self.granted_bytes);
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
