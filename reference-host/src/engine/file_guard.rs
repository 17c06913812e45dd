//! Keeps guests from opening files while the host needs the remaining descriptors.

use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};

use super::guest::Guest;
use crate::descriptors;

/// Interface of `open-at`, in the version of the engine.
const FILESYSTEM: &str = "wasi:filesystem/types@0.2.12";

/// Replaces the engine's `open-at`. The linker must allow it.
pub fn replace_open_at(linker: &mut Linker<Guest>) -> Result<()> {
    linker
        .instance(FILESYSTEM)?
        .func_wrap_async("[method]descriptor.open-at", |store, arguments| {
            Box::new(open_at(store, arguments))
        })
}

type Arguments = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

async fn open_at(
    mut store: StoreContextMut<'_, Guest>,
    (directory, path_flags, path, open_flags, flags): Arguments,
) -> Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    if !descriptors::guests_may_open() {
        return Ok((Err(ErrorCode::Quota),));
    }
    let mut files = store.data_mut().filesystem();
    let opened = files.open_at(directory, path_flags, path, open_flags, flags);
    Ok((match opened.await {
        Ok(file) => Ok(file),
        Err(error) => Err(error.downcast()?),
    },))
}
