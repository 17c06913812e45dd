//! Runs one guest at a time on Wasmtime, with all interfaces that a role may import.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_conformance::spec::roles::Role;
use berth_conformance::testbed::guest;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, Lower, Resource, ResourceTable, ResourceType,
};
use wasmtime::{Config, Engine, Error, Result, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

const TICK: Duration = Duration::from_millis(10);

/// The environment of a guest.
#[derive(Clone, Default)]
pub struct Setup {
    variables: Vec<(String, String)>,
    directory: Option<(PathBuf, bool)>,
    config: HashMap<String, String>,
    memory_bytes: Option<usize>,
    interrupt_after_ms: Option<u64>,
    sockets: bool,
    keys: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    pub fn with_variable(key: &str, value: &str) -> Setup {
        Setup::default().and_variable(key, value)
    }

    pub fn and_variable(mut self, key: &str, value: &str) -> Setup {
        self.variables.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn writable_directory(mut self, path: &Path) -> Setup {
        let writable = true;
        self.directory = Some((path.to_owned(), writable));
        self
    }

    pub fn read_only_directory(mut self, path: &Path) -> Setup {
        let writable = false;
        self.directory = Some((path.to_owned(), writable));
        self
    }

    pub fn config(mut self, key: &str, value: &str) -> Setup {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn memory_mib(mut self, mib: usize) -> Setup {
        self.memory_bytes = Some(mib << 20);
        self
    }

    pub fn interrupt_after_ms(mut self, ms: u64) -> Setup {
        self.interrupt_after_ms = Some(ms);
        self
    }

    pub fn sockets(mut self) -> Setup {
        self.sockets = true;
        self
    }

    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// The end of a service.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Success,
    Failed,
    Exit(i32),
    Trap(&'static str),
    Other(String),
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    limits: StoreLimits,
    setup: Setup,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

pub struct Runner {
    engine: Engine,
    linker: Linker<State>,
    ticker: tokio::task::JoinHandle<()>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl Runner {
    pub fn new() -> Runner {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        add_config(&mut linker).unwrap();
        add_keyvalue(&mut linker).unwrap();
        add_logging(&mut linker).unwrap();
        let ticked_engine = engine.clone();
        let ticker = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                ticked_engine.increment_epoch();
            }
        });
        Runner {
            engine,
            linker,
            ticker,
        }
    }

    fn component(&self, role: Role) -> Result<Component> {
        Component::new(&self.engine, guest::image(role).unwrap())
    }

    fn store(&self, setup: Setup) -> Store<State> {
        let mut wasi = WasiCtx::builder();
        for (key, value) in &setup.variables {
            wasi.env(key, value);
        }
        if let Some((path, writable)) = &setup.directory {
            let perms = if *writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            wasi.preopened_dir(path, "/mnt", perms).unwrap();
        }
        if setup.sockets {
            wasi.inherit_network().allow_tcp(true);
        }
        let mut limits = StoreLimitsBuilder::new();
        if let Some(bytes) = setup.memory_bytes {
            limits = limits.memory_size(bytes);
        }
        let ticks = setup
            .interrupt_after_ms
            .map_or(u64::MAX / 2, |ms| ms / TICK.as_millis() as u64);
        let state = State {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            limits: limits.build(),
            setup,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(ticks);
        store
    }

    /// Instantiates the image, which requires that it compiles and that all its imports exist.
    pub async fn instantiate(&self, role: Role) -> std::result::Result<(), String> {
        let instantiate = async {
            let component = self.component(role)?;
            let mut store = self.store(Setup::default());
            self.linker
                .instantiate_async(&mut store, &component)
                .await
                .map(drop)
        };
        instantiate.await.map_err(|error| format!("{error:?}"))
    }

    pub async fn get(
        &self,
        role: Role,
        path: &str,
        setup: Setup,
    ) -> std::result::Result<String, String> {
        let request = Request::builder()
            .uri(format!("http://berth.example{path}"))
            .body(String::new())
            .map_err(|error| error.to_string())?;
        self.request(role, request, setup).await
    }

    /// Returns the body of the response, whose status must be 200, or the trap if there is no
    /// response.
    pub async fn request(
        &self,
        role: Role,
        request: Request<String>,
        setup: Setup,
    ) -> std::result::Result<String, String> {
        self.handle(role, request, setup)
            .await
            .map_err(|error| format!("{error:?}"))
    }

    async fn handle(&self, role: Role, request: Request<String>, setup: Setup) -> Result<String> {
        let pre = ProxyPre::new(self.linker.instantiate_pre(&self.component(role)?)?)?;
        let mut store = self.store(setup);
        let request = request.map(|text| Full::new(Bytes::from(text)));
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Http, request)?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let out = store.data_mut().http().new_response_outparam(sender)?;
        let task = tokio::spawn(async move {
            let proxy = pre.instantiate_async(&mut store).await?;
            proxy
                .wasi_http_incoming_handler()
                .call_handle(&mut store, request, out)
                .await
        });
        let Ok(response) = receiver.await else {
            task.await??;
            return Err(Error::msg("no response"));
        };
        let response = response.map_err(|code| Error::msg(format!("{code:?}")))?;
        assert_eq!(response.status(), 200);
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|e| Error::msg(format!("{e:?}")))?;
        task.await??;
        Ok(String::from_utf8(body.to_bytes().to_vec())?)
    }

    pub async fn run(&self, role: Role, setup: Setup) -> End {
        let pre = self
            .linker
            .instantiate_pre(&self.component(role).unwrap())
            .unwrap();
        let mut store = self.store(setup);
        let command = CommandPre::new(pre)
            .unwrap()
            .instantiate_async(&mut store)
            .await
            .unwrap();
        end(command.wasi_cli_run().call_run(&mut store).await)
    }
}

fn end(result: Result<std::result::Result<(), ()>>) -> End {
    let error = match result {
        Ok(Ok(())) => return End::Success,
        Ok(Err(())) => return End::Failed,
        Err(error) => error,
    };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return End::Exit(*code);
    }
    match error.downcast_ref() {
        Some(wasmtime::Trap::UnreachableCodeReached) => End::Trap("unreachable"),
        Some(wasmtime::Trap::Interrupt) => End::Trap("interrupt"),
        _ => End::Other(format!("{error:?}")),
    }
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

fn add_config(linker: &mut Linker<State>) -> Result<()> {
    linker.instance("wasi:config/store@0.2.0-rc.1")?.func_wrap(
        "get",
        |store, (key,): (String,)| -> Result<(std::result::Result<Option<String>, ConfigError>,)> {
            Ok((Ok(store.data().setup.config.get(&key).cloned()),))
        },
    )
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum KeyvalueError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

struct Bucket;

type KeyvalueResult<T> = Result<(std::result::Result<T, KeyvalueError>,)>;

fn add_keyvalue(linker: &mut Linker<State>) -> Result<()> {
    let mut store = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    store.resource(
        "bucket",
        ResourceType::host::<Bucket>(),
        |mut store, rep| {
            store
                .data_mut()
                .table
                .delete(Resource::<Bucket>::new_own(rep))?;
            Ok(())
        },
    )?;
    store.func_wrap(
        "open",
        |mut store, (name,): (String,)| -> KeyvalueResult<Resource<Bucket>> {
            if name != "default" {
                return Ok((Err(KeyvalueError::NoSuchStore),));
            }
            Ok((Ok(store.data_mut().table.push(Bucket)?),))
        },
    )?;
    store.func_wrap(
        "[method]bucket.get",
        |store, (_, key): (Resource<Bucket>, String)| -> KeyvalueResult<Option<Vec<u8>>> {
            Ok((Ok(store
                .data()
                .setup
                .keys
                .lock()
                .unwrap()
                .get(&key)
                .cloned()),))
        },
    )?;
    store.func_wrap(
        "[method]bucket.set",
        |store, (_, key, value): (Resource<Bucket>, String, Vec<u8>)| -> KeyvalueResult<()> {
            store.data().setup.keys.lock().unwrap().insert(key, value);
            Ok((Ok(()),))
        },
    )?;
    store.func_wrap(
        "[method]bucket.delete",
        |store, (_, key): (Resource<Bucket>, String)| -> KeyvalueResult<()> {
            store.data().setup.keys.lock().unwrap().remove(&key);
            Ok((Ok(()),))
        },
    )
}

#[derive(Clone, Copy, ComponentType, Debug, Lift, Lower)]
#[component(enum)]
#[allow(dead_code, reason = "guests make these values")]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

fn add_logging(linker: &mut Linker<State>) -> Result<()> {
    linker
        .instance("wasi:logging/logging@0.1.0-draft")?
        .func_wrap(
            "log",
            |store, (level, context, message): (Level, String, String)| -> Result<()> {
                let line = format!("{level:?} {context} {message}").to_lowercase();
                store.data().setup.log.lock().unwrap().push(line);
                Ok(())
            },
        )
}
