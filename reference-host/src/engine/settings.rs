//! How the engine is set up, and how much of everything it may hand out.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result};

use crate::config::MEMORY_BYTES_MAX;

/// Instances that live at one moment in the whole host: requests in flight and services. Each may
/// reserve 4 GiB of address space, and 47 bits hold some 30 000 of those.
pub const MAX_INSTANCES: u32 = 1000;

/// Core modules that one component may be made of. Generated adapters make it three or four; linked
/// libraries a few dozen.
const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 64;

/// Linear memories and tables of all instances together.
const MAX_MEMORIES: u32 = 2 * MAX_INSTANCES;

/// Memories and tables of one core module: more than one is rare, and few compilers emit it.
const MAX_MEMORIES_PER_MODULE: u32 = 2;
const MAX_TABLES_PER_MODULE: u32 = 4;

/// Entries of one table; interpreters of dynamic languages have some ten thousand functions.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Bytes of engine bookkeeping for one instance.
const MAX_INSTANCE_BYTES: usize = 1 << 20;

/// Stack of a guest in bytes; what the engine itself and host calls need lies above it.
const GUEST_STACK_BYTES: usize = 512 << 10;
const HOST_STACK_BYTES: usize = 2 << 20;

/// Of a finished instance's memory so many bytes stay mapped and are cleared by hand, which is
/// cheaper than a system call for each request.
const KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// An engine that allocates from a pool, or, on a machine without the address space for one, each
/// instance by itself.
pub fn engine() -> Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no room for an instance pool: instances are allocated one by one");
        Engine::new(&base())
    })
}

fn base() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.async_stack_size(HOST_STACK_BYTES);
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
