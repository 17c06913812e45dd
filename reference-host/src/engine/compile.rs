//! Compiles components, each once, a few at a time, and remembers the latest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Components that are remembered. Each holds its machine code, some times the size of its image.
const MAX_REMEMBERED: usize = 64;

/// Compilations at one moment. Each already uses all processors; more would only hold memory.
const MAX_CONCURRENT: usize = 2;

/// Why bytes are no component that can run.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A module without the component layer around it (HOST-IMG-005).
    #[error("is a core module, not a component")]
    CoreModule,
    /// Not Wasm at all (HOST-IMG-005).
    #[error("is not WebAssembly")]
    NotWasm,
    /// The engine refused it.
    #[error("cannot be compiled: {0}")]
    Invalid(String),
    /// The compilation itself failed.
    #[error("cannot be compiled: the compiler failed")]
    Failed,
}

pub struct Compiler {
    engine: Engine,
    permits: Arc<Semaphore>,
    remembered: Mutex<Remembered>,
}

type Slot = Arc<OnceCell<Component>>;

#[derive(Default)]
struct Remembered {
    by_digest: HashMap<String, (u64, Slot)>,
    uses: u64,
}

impl Compiler {
    pub fn new(engine: Engine) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Self {
            engine,
            permits,
            remembered: Mutex::default(),
        }
    }

    /// Overlapping calls for one digest share one compilation; a failure is not remembered.
    ///
    /// Cancel safety: the compilation is a task of its own and ends for the next caller.
    pub async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Component, CompileError> {
        let slot = self.slot(digest);
        if let Some(component) = slot.get() {
            return Ok(component.clone());
        }
        let (engine, permits) = (self.engine.clone(), self.permits.clone());
        let compiling = tokio::spawn(async move {
            let component = slot
                .get_or_try_init(|| compile_alone(engine, permits, bytes))
                .await?;
            Ok(component.clone())
        });
        compiling.await.unwrap_or(Err(CompileError::Failed))
    }

    fn slot(&self, digest: &str) -> Slot {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.slot(digest)
    }
}

async fn compile_alone(
    engine: Engine,
    permits: Arc<Semaphore>,
    bytes: Bytes,
) -> Result<Component, CompileError> {
    let permit = permits.acquire_owned().await;
    let compiling = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        compile(&engine, &bytes)
    });
    compiling.await.unwrap_or(Err(CompileError::Failed))
}

impl Remembered {
    fn slot(&mut self, digest: &str) -> Slot {
        self.uses += 1;
        let now = self.uses;
        if let Some((used, slot)) = self.by_digest.get_mut(digest) {
            *used = now;
            return slot.clone();
        }
        if self.by_digest.len() >= MAX_REMEMBERED {
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
    /// The first eight bytes of a core module; a component differs in the last two.
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
    fn the_longest_unused_is_forgotten() {
        let mut remembered = Remembered::default();
        let first = remembered.slot("first");
        for n in 0..MAX_REMEMBERED {
            assert!(Arc::ptr_eq(&first, &remembered.slot("first")));
            remembered.slot(&format!("other {n}"));
        }
        assert_eq!(remembered.by_digest.len(), MAX_REMEMBERED);
        assert!(remembered.by_digest.contains_key("first"));
        assert!(!remembered.by_digest.contains_key("other 0"));
    }

    #[tokio::test]
    async fn what_is_no_component_is_named() {
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
