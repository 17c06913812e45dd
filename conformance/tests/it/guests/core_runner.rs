//! Runs the core module of a service component twice in the same memory.

use wasmtime::{Caller, Engine, Linker, Module, Store};

/// Paths that the guest has requested.
type Paths = Vec<String>;

/// Returns the paths of the beacons of two runs; the second run uses the memory of the first.
pub fn beacon_paths_of_two_runs(component: &[u8]) -> Vec<String> {
    let engine = Engine::default();
    let module = Module::new(&engine, core_module(component)).unwrap();
    let mut linker = Linker::<Paths>::new(&engine);
    linker
        .func_wrap("wasi:cli/environment@0.2.0", "get-environment", variable)
        .unwrap();
    let name = "[method]outgoing-request.set-path-with-query";
    linker
        .func_wrap("wasi:http/types@0.2.0", name, set_path)
        .unwrap();
    let mut store = Store::new(&engine, Paths::new());
    linker
        .define_unknown_imports_as_default_values(&mut store, &module)
        .unwrap();
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let run = instance
        .get_typed_func::<(), i32>(&mut store, "wasi:cli/run@0.2.0#run")
        .unwrap();
    for _ in 0..2 {
        run.call(&mut store, ()).unwrap_err();
    }
    store.into_data()
}

/// Returns the first core module of a component: a section with id 1 that begins with a module
/// header.
fn core_module(component: &[u8]) -> &[u8] {
    let header = b"\0asm\x01\0\0\0";
    let start = component
        .windows(header.len())
        .position(|window| window == header)
        .unwrap();
    // The length of the section precedes it, here as LEB128 of at most three bytes.
    let length = (1..=3)
        .filter_map(|width| {
            let bytes = &component[start - width..start];
            let last = bytes.len() - 1;
            let continued = bytes[..last].iter().all(|byte| byte & 0x80 != 0);
            let section_id = component[start - width - 1];
            (continued && bytes[last] & 0x80 == 0 && section_id == 1).then(|| {
                bytes
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f))
            })
        })
        .next()
        .unwrap();
    &component[start..start + length]
}

/// Returns one variable without a name and with the value `host/token`, at the unused address 4096.
fn variable(mut caller: Caller<'_, Paths>, list: i32) {
    let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
    let data = memory.data_mut(&mut caller);
    let mut put = |at: usize, words: &[u32]| {
        for (index, word) in words.iter().enumerate() {
            data[at + 4 * index..at + 4 * index + 4].copy_from_slice(&word.to_le_bytes());
        }
    };
    let value = b"host/token";
    put(list as usize, &[4096, 1]);
    put(4096, &[0, 0, 4200, value.len() as u32]);
    data[4200..4200 + value.len()].copy_from_slice(value);
}

fn set_path(mut caller: Caller<'_, Paths>, _: i32, _: i32, ptr: i32, len: i32) -> i32 {
    let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
    let bytes = &memory.data(&caller)[ptr as usize..(ptr + len) as usize];
    let path = String::from_utf8(bytes.to_vec()).unwrap();
    caller.data_mut().push(path);
    0
}
