//! Settings and limits of the engine.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result};

use crate::config::MEMORY_BYTES_MAX;

/// Limit of services in the whole host, each with one instance: as many as workloads by default.
/// Services that do nothing take no instance from requests.
pub const MAX_SERVICES: u32 = 1024;

/// Limit of requests in flight in the whole host, each with one instance.
pub const MAX_REQUESTS: u32 = 1000;

/// Limit of instances. Each may reserve 4 GiB of address space, and a 47-bit address space has room
/// for about 30,000 of them.
const MAX_INSTANCES: u32 = MAX_SERVICES + MAX_REQUESTS;

/// Limit of core modules in one component. A component with generated adapters has three or four,
/// a component with linked libraries a few dozen.
const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 64;

/// Limit of linear memories of all instances together. Few components have more than one.
const MAX_MEMORIES: u32 = MAX_INSTANCES + MAX_INSTANCES / 2;

/// Limits of memories and tables in one core module. Few compilers emit more than one of each.
const MAX_MEMORIES_PER_MODULE: u32 = 2;
const MAX_TABLES_PER_MODULE: u32 = 4;

/// Limit of entries in one table. Interpreters of dynamic languages have about ten thousand
/// functions.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Limit of the engine's bookkeeping for one instance, in bytes.
const MAX_INSTANCE_BYTES: usize = 1 << 20;

/// Part of the async stack that a guest may use, in bytes. The rest is for the engine and for host
/// calls.
const GUEST_STACK_BYTES: usize = 512 << 10;
/// Stack of one instance, shared by the guest, the engine and host calls, in bytes.
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Memory of a finished instance that stays mapped and is zeroed in place, in bytes. This is
/// cheaper than a system call for each request.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Creates an engine that allocates from a pool, or, on a machine without enough address space,
/// each instance separately.
pub fn engine() -> Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "cannot reserve an instance pool; allocating instances one by one");
        Engine::new(&base())
    })
}

fn base() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.async_stack_size(ASYNC_STACK_BYTES);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(4 * MAX_INSTANCES)
        .total_memories(MAX_MEMORIES)
        .total_tables(4 * MAX_INSTANCES)
        .total_stacks(MAX_INSTANCES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES_PER_COMPONENT)
        .max_component_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .max_memories_per_module(MAX_MEMORIES_PER_MODULE)
        .max_tables_per_module(MAX_TABLES_PER_MODULE)
        .max_memory_size(MEMORY_BYTES_MAX as usize)
        .table_elements(MAX_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES);
    pool
}
