//! Compiles components, a few at a time, each only once; keeps those that are in use or were used
//! most recently.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{sleep, timeout};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Limit of cached components, because each holds its machine code, several times the size of its
/// image.
const MAX_CACHED: usize = 64;

/// Limit of concurrent compilations in the whole host: each already uses all processors, so more
/// would only use memory.
const MAX_CONCURRENT: usize = 2;

/// Time after which a compilation gives up its place among the concurrent ones. A start fails after
/// twice this time, because it may have waited for others. Components of tens of megabytes need a
/// few seconds.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Limit of compilations that are over [`TIME_LIMIT`] and cannot be interrupted. Above it, they
/// keep their places, so that the host is not filled with them.
const MAX_OVERDUE: usize = 8;

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
    /// The compilation takes too long.
    #[error("compiling the image takes longer than {} s", (TIME_LIMIT * 2).as_secs())]
    Timeout,
    /// The compilation panicked.
    #[error("cannot compile the image: the compiler failed")]
    Failed,
}

pub struct Compiler {
    engine: Engine,
    permits: Arc<Semaphore>,
    overdue: Arc<Semaphore>,
    time_limit: Duration,
    cache: Mutex<Cache>,
}

type Slot = Arc<OnceCell<Arc<Component>>>;

#[derive(Default)]
struct Cache {
    by_digest: HashMap<String, (u64, Slot)>,
    /// Components that were removed from the cache while a workload used them, so that they are
    /// found as long as they exist.
    in_use: HashMap<String, Weak<Component>>,
    uses: u64,
}

impl Compiler {
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            overdue: Arc::new(Semaphore::new(MAX_OVERDUE)),
            time_limit: TIME_LIMIT,
            cache: Mutex::default(),
        }
    }

    /// Compiles `bytes`. Concurrent calls for one digest share one compilation; a failure is not
    /// cached. A compilation over the time limit goes on, and a later call may find its result.
    ///
    /// Cancel safety: the compilation runs in its own task and finishes for the next caller.
    pub async fn compile(
        &self,
        digest: &str,
        bytes: Bytes,
    ) -> Result<Arc<Component>, CompileError> {
        let slot = self.slot(digest);
        if let Some(component) = slot.get() {
            return Ok(component.clone());
        }
        let (engine, permits) = (self.engine.clone(), self.permits.clone());
        let (overdue, time_limit) = (self.overdue.clone(), self.time_limit);
        let mut compilation = tokio::spawn(async move {
            let compiling = || compile_with_permit(engine, permits, overdue, time_limit, bytes);
            let component = slot.get_or_try_init(compiling).await?;
            Ok(component.clone())
        });
        // Twice the limit: once for the compilations before this one.
        let late = sleep(time_limit * 2);
        tokio::select! {
            result = &mut compilation => result.unwrap_or(Err(CompileError::Failed)),
            () = late => Err(CompileError::Timeout),
        }
    }

    fn slot(&self, digest: &str) -> Slot {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.slot(digest)
    }
}

async fn compile_with_permit(
    engine: Engine,
    permits: Arc<Semaphore>,
    overdue: Arc<Semaphore>,
    time_limit: Duration,
    bytes: Bytes,
) -> Result<Arc<Component>, CompileError> {
    let permit = permits.acquire_owned().await;
    let mut compilation = tokio::task::spawn_blocking(move || compile(&engine, &bytes));
    let result = match timeout(time_limit, &mut compilation).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(?time_limit, "compilation takes too long");
            match overdue.try_acquire_owned() {
                Ok(_overdue) => {
                    drop(permit);
                    compilation.await
                }
                Err(_) => compilation.await,
            }
        }
    };
    result.unwrap_or(Err(CompileError::Failed)).map(Arc::new)
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
                self.remove(oldest);
            }
        }
        let in_use = self.in_use.remove(digest).and_then(|it| it.upgrade());
        let slot = Slot::new(OnceCell::new_with(in_use));
        self.by_digest
            .insert(digest.to_owned(), (now, slot.clone()));
        slot
    }

    fn remove(&mut self, digest: String) {
        self.in_use
            .retain(|_, component| component.strong_count() > 0);
        let removed = self.by_digest.remove(&digest);
        if let Some(component) = removed.as_ref().and_then(|(_, slot)| slot.get()) {
            self.in_use.insert(digest, Arc::downgrade(component));
        }
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
    async fn component_in_use_is_found_after_its_eviction() {
        let compiler = Compiler::new(Engine::default());
        let empty = Bytes::from_static(b"\0asm\x0d\0\x01\0");
        let used = compiler.compile("used", empty.clone()).await.unwrap();
        for n in 0..MAX_CACHED {
            compiler.slot(&format!("other {n}"));
        }
        let again = compiler.compile("used", empty).await.unwrap();
        assert!(Arc::ptr_eq(&used, &again));
    }

    #[tokio::test]
    async fn compilation_over_the_time_limit_gives_up_its_place() {
        let mut compiler = Compiler::new(Engine::default());
        compiler.time_limit = Duration::ZERO;
        let module = format!(
            "(component (core module {}))",
            "(func (param i64) (result i64) local.get 0 i64.const 7 i64.mul)".repeat(5_000)
        );
        let large = Bytes::from(wat::parse_str(module).unwrap());
        let result = compiler.compile("large", large).await;
        assert!(matches!(result, Err(CompileError::Timeout)), "{result:?}");
        let permits = tokio::time::timeout(Duration::from_secs(20), async {
            compiler.permits.acquire_many(MAX_CONCURRENT as u32).await
        });
        assert!(permits.await.unwrap().is_ok());
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
