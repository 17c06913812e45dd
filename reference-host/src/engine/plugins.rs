//! The gated interfaces that this host offers: each a plugin, each in one file.

mod config;
mod keyvalue;
mod logging;

use berth_proto::WitInterface;
use wasmtime::Result;
use wasmtime::component::Linker;

use self::config::Config;
use self::keyvalue::KeyValue;
use self::logging::Logging;
use super::guest::Guest;
use crate::interface::InterfaceName;
use crate::sandbox::Sandbox;

/// What a component is granted an interface with.
pub struct Grant<'a> {
    /// The component.
    pub sandbox: &'a Sandbox,
    /// The declaration of the interface by its workload, with its configuration.
    #[allow(dead_code, reason = "the in-memory plugins take no configuration")]
    pub declaration: &'a WitInterface,
}

/// Offers the interfaces of one package to components.
pub trait Plugin: Send + Sync {
    /// What heartbeats say of it.
    fn offers(&self) -> WitInterface;

    /// Defines one of its interfaces, by the name under which the component imports it. It is called
    /// once for each component that is granted the interface; what belongs to that component is
    /// captured by the functions it defines.
    fn link(
        &self,
        name: &InterfaceName,
        grant: &Grant<'_>,
        linker: &mut Linker<Guest>,
    ) -> Result<()>;
}

/// All plugins of the host.
pub struct Plugins {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Plugins {
    pub fn new() -> Self {
        Self {
            plugins: vec![
                Box::new(Config),
                Box::new(KeyValue::default()),
                Box::new(Logging),
            ],
        }
    }

    /// What heartbeats say.
    pub fn offers(&self) -> Vec<WitInterface> {
        self.plugins.iter().map(|plugin| plugin.offers()).collect()
    }

    /// Every interface by its name.
    pub fn names(&self) -> Vec<InterfaceName> {
        self.offers().iter().flat_map(names).collect()
    }

    pub fn link(
        &self,
        name: &InterfaceName,
        grant: &Grant<'_>,
        linker: &mut Linker<Guest>,
    ) -> Result<()> {
        let plugin = self
            .plugins
            .iter()
            .find(|plugin| names(&plugin.offers()).any(|offer| offer.agrees_with(name)));
        match plugin {
            Some(plugin) => plugin.link(name, grant, linker),
            None => Err(wasmtime::format_err!("no plugin offers {name}")),
        }
    }
}

fn names(offer: &WitInterface) -> impl Iterator<Item = InterfaceName> {
    offer.interfaces.iter().map(|interface| InterfaceName {
        namespace: offer.namespace.clone(),
        package: offer.package.clone(),
        interface: interface.clone(),
        version: offer.version.clone(),
    })
}
