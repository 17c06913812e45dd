//! Chooses the component that serves HTTP, and its route.

use berth_proto::WitInterface;

use super::Dependencies;
use super::prepared::Prepared;
use super::start_failure::{PartError, StartFailure};
use crate::declarations;
use crate::engine::Handler;
use crate::fault_injection::Breakage;
use crate::http_endpoint::HttpRoute;

/// Returns the route to the component that handles HTTP, if the workload declares an HTTP handler
/// (HOST-HTTP-012), and notes about handlers that are declared or exported in vain.
pub(super) fn http_route(
    dependencies: &Dependencies,
    components: Vec<Prepared>,
    declared: &[WitInterface],
    name: &str,
) -> Result<(Option<HttpRoute>, Vec<String>), StartFailure> {
    let mut handlers: Vec<_> = components
        .into_iter()
        .filter(|component| component.linked.handler_export().is_some())
        .collect();
    let host_names = declarations::http_host_names(declared);
    if host_names.is_some() && handlers.len() > 1 {
        let labels = handlers.into_iter().map(|handler| handler.part.label);
        return Err(StartFailure::SeveralHandlers(labels.collect()));
    }
    let Some(host_names) = host_names else {
        let undeclared = handlers.iter().map(|handler| {
            let export = handler.linked.handler_export().unwrap_or_default();
            format!(
                "{} exports {export}, which is not declared in hostInterfaces and so not reachable",
                handler.part.label
            )
        });
        let notes = undeclared.collect();
        if Breakage::UndeclaredHandlerReachable.is_on()
            && let Some(component) = handlers.pop()
        {
            let route = injected_undeclared_route(dependencies, component, declared, name)?;
            return Ok((route, notes));
        }
        return Ok((None, notes));
    };
    let Some(component) = handlers.pop() else {
        let note = "hostInterfaces declares the handler of wasi:http, but no component exports it, \
                    so no requests are served";
        return Ok((None, vec![note.to_owned()]));
    };
    let host_names = match host_names {
        Err(_) if Breakage::AcceptsInvalidHostName.is_on() => return Ok((None, Vec::new())),
        Ok(names) if Breakage::NoAliases.is_on() => names.into_iter().take(1).collect(),
        names => names.map_err(StartFailure::NoHostName)?,
    };
    let ingress = dependencies
        .ingress
        .clone()
        .ok_or(StartFailure::NoIngress)?;
    let route = HttpRoute {
        ingress,
        host_names,
        handler: into_handler(component)?,
    };
    Ok((Some(route), Vec::new()))
}

fn into_handler(component: Prepared) -> Result<Handler, StartFailure> {
    let Prepared { part, linked } = component;
    linked
        .into_handler()
        .map_err(|error| StartFailure::of_part(part, PartError::Link(error)))
}

/// Injected fault: routes requests to an undeclared handler, under the host names of every declared
/// interface and under the name of the workload.
fn injected_undeclared_route(
    dependencies: &Dependencies,
    component: Prepared,
    declared: &[WitInterface],
    name: &str,
) -> Result<Option<HttpRoute>, StartFailure> {
    let mut host_names: Vec<String> = declared
        .iter()
        .flat_map(|declared| declared.config.get("host"))
        .map(|host| host.to_ascii_lowercase())
        .collect();
    host_names.push(name.to_ascii_lowercase());
    let ingress = dependencies
        .ingress
        .clone()
        .ok_or(StartFailure::NoIngress)?;
    Ok(Some(HttpRoute {
        ingress,
        host_names,
        handler: into_handler(component)?,
    }))
}
