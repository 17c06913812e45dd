//! `wasi:config/store`: a component reads the values of its own `localResources.config`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use berth_proto::WitInterface;
use wasmtime::Result;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{Grant, Plugin};
use crate::engine::guest::Guest;
use crate::fault_injection::Breakage;
use crate::interface::InterfaceName;

pub struct Config;

/// The interface's error type. Reading from memory never fails, so it is never constructed.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "the interface's type has these cases")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

impl Plugin for Config {
    fn offer(&self) -> WitInterface {
        WitInterface {
            namespace: "wasi".into(),
            package: "config".into(),
            version: "0.2.0-rc.1".into(),
            interfaces: vec!["store".into()],
            ..Default::default()
        }
    }

    fn link(
        &self,
        name: &InterfaceName,
        grant: &Grant<'_>,
        linker: &mut Linker<Guest>,
    ) -> Result<()> {
        let mut store = linker.instance(&name.to_string())?;
        let values = values(&grant.sandbox.config);
        store.func_wrap("get", {
            let values = values.clone();
            move |_, (key,): (String,)| Ok((Ok::<_, Error>(values.get(&key).cloned()),))
        })?;
        store.func_wrap("get-all", move |_, (): ()| {
            let mut all: Vec<_> = values.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            all.sort();
            Ok((Ok::<_, Error>(all),))
        })
    }
}

fn values(own: &Arc<BTreeMap<String, String>>) -> Arc<BTreeMap<String, String>> {
    /// Injected fault: the values of all components together, which HOST-RES-017 forbids to share.
    static SHARED: Mutex<Option<BTreeMap<String, String>>> = Mutex::new(None);
    if !Breakage::SharedConfig.is_on() {
        return own.clone();
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = shared.get_or_insert_default();
    for (key, value) in own.iter() {
        shared.entry(key.clone()).or_insert_with(|| value.clone());
    }
    Arc::new(shared.clone())
}
