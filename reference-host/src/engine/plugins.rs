//! The gated interfaces that this host offers. Each plugin has one file.

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

/// The context in which a component is granted an interface.
pub struct Grant<'a> {
    /// Sandbox of the component.
    pub sandbox: &'a Sandbox,
    /// The workload's declaration of the interface, with its configuration.
    #[allow(dead_code, reason = "the in-memory plugins take no configuration")]
    pub declaration: &'a WitInterface,
}

/// Provides the interfaces of one package to components.
pub trait Plugin: Send + Sync {
    /// Returns the package and its interfaces, as heartbeats announce them.
    fn offer(&self) -> WitInterface;

    /// Defines one interface in `linker`, under the name that the component imports. Called once
    /// for each component that is granted the interface. The defined functions capture any state of
    /// that component.
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

    /// Returns the offered interfaces, as heartbeats announce them.
    pub fn offered_interfaces(&self) -> Vec<WitInterface> {
        self.plugins.iter().map(|plugin| plugin.offer()).collect()
    }

    /// Returns the name of each offered interface.
    pub fn names(&self) -> Vec<InterfaceName> {
        self.offered_interfaces().iter().flat_map(names).collect()
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
            .find(|plugin| names(&plugin.offer()).any(|offer| offer.agrees_with(name)));
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
