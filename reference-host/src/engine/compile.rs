//! Compiles components, a few at a time, each only once, and caches the most recently used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Limit of cached components, because each holds its machine code, several times the size of its
/// image.
const MAX_CACHED: usize = 64;

/// Limit of concurrent compilations in the whole host: each already uses all processors, so more
/// would only use memory.
const MAX_CONCURRENT: usize = 2;

/// Reason why an image cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A core module instead of a component (HOST-IMG-005).
    #[error("the image is a core module, not a component")]
    CoreModule,
    /// The image is not Wasm (HOST-IMG-005).
    #[error("the image is not WebAssembly")]
    NotWasm,
    /// The compiler rejected the component.
    #[error("cannot compile the image: {0}")]
    Invalid(String),
    /// The compilation panicked.
    #[error("cannot compile the image: the compiler failed")]
    Failed,
}

pub struct Compiler {
    engine: Engine,
    permits: Arc<Semaphore>,
    cache: Mutex<Cache>,
}

type Slot = Arc<OnceCell<Component>>;

#[derive(Default)]
struct Cache {
    by_digest: HashMap<String, (u64, Slot)>,
    uses: u64,
}

impl Compiler {
    pub fn new(engine: Engine) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Self {
            engine,
            permits,
            cache: Mutex::default(),
        }
    }

    /// Compiles `bytes`. Concurrent calls for one digest share one compilation; a failure is not
    /// cached.
    ///
    /// Cancel safety: the compilation runs in its own task and finishes for the next caller.
    pub async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Component, CompileError> {
        let slot = self.slot(digest);
        if let Some(component) = slot.get() {
            return Ok(component.clone());
        }
        let (engine, permits) = (self.engine.clone(), self.permits.clone());
        let compilation = tokio::spawn(async move {
            let component = slot
                .get_or_try_init(|| compile_with_permit(engine, permits, bytes))
                .await?;
            Ok(component.clone())
        });
        compilation.await.unwrap_or(Err(CompileError::Failed))
    }

    fn slot(&self, digest: &str) -> Slot {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.slot(digest)
    }
}

async fn compile_with_permit(
    engine: Engine,
    permits: Arc<Semaphore>,
    bytes: Bytes,
) -> Result<Component, CompileError> {
    let permit = permits.acquire_owned().await;
    let compilation = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        compile(&engine, &bytes)
    });
    compilation.await.unwrap_or(Err(CompileError::Failed))
}

impl Cache {
    fn slot(&mut self, digest: &str) -> Slot {
        self.uses += 1;
        let now = self.uses;
        if let Some((used, slot)) = self.by_digest.get_mut(digest) {
            *used = now;
            return slot.clone();
        }
        if self.by_digest.len() >= MAX_CACHED {
            let oldest = self.by_digest.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) {
                self.by_digest.remove(&oldest);
            }
        }
        let slot = Slot::default();
        self.by_digest
            .insert(digest.to_owned(), (now, slot.clone()));
        slot
    }
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, CompileError> {
    /// The first eight bytes of a core module. A component differs in the last two.
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.starts_with(CORE_MODULE) {
        return Err(CompileError::CoreModule);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm);
    }
    Component::from_binary(engine, bytes)
        .map_err(|error| CompileError::Invalid(super::first_line(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicts_least_recently_used_component() {
        let mut cache = Cache::default();
        let first = cache.slot("first");
        for n in 0..MAX_CACHED {
            assert!(Arc::ptr_eq(&first, &cache.slot("first")));
            cache.slot(&format!("other {n}"));
        }
        assert_eq!(cache.by_digest.len(), MAX_CACHED);
        assert!(cache.by_digest.contains_key("first"));
        assert!(!cache.by_digest.contains_key("other 0"));
    }

    #[tokio::test]
    async fn rejects_invalid_images_with_reason() {
        let compiler = Compiler::new(Engine::default());
        let compile = |bytes: &'static [u8]| compiler.compile("d", Bytes::from_static(bytes));
        assert!(matches!(compile(b"text").await, Err(CompileError::NotWasm)));
        assert!(matches!(compile(b"").await, Err(CompileError::NotWasm)));
        let module = b"\0asm\x01\0\0\0";
        assert!(matches!(
            compile(module).await,
            Err(CompileError::CoreModule)
        ));
        let truncated = b"\0asm\x0d\0\x01\0\x01";
        assert!(matches!(
            compile(truncated).await,
            Err(CompileError::Invalid(_))
        ));
        let component = b"\0asm\x0d\0\x01\0";
        assert!(compile(component).await.is_ok());
    }
}
