//! Recipe of each guest: its world, the parts that it shares with other guests, and its own text.

use bytes::Bytes;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::GuestError;
use crate::spec::roles::Role;

const WIT: &str = include_str!("guest.wit");

/// Marker between the imports and the code of a `.wat` file: in the joined module, all imports must
/// come first.
const IMPORTS_END: &str =
    ";; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.\n";

const MEMORY: &str = include_str!("part/memory.wat");
const FIELDS: &str = include_str!("part/fields.wat");
const POLL: &str = include_str!("part/poll.wat");
const ENVIRONMENT: &str = include_str!("part/environment.wat");
const CLIENT: &str = include_str!("part/client.wat");
const BEACON: &str = include_str!("part/beacon.wat");
const CLOCK: &str = include_str!("part/clock.wat");
const SERVER: &str = include_str!("part/server.wat");
const ARGUMENT: &str = include_str!("part/argument.wat");

const SERVING: &[&str] = &[MEMORY, FIELDS, SERVER];
const SERVING_ENVIRONMENT: &[&str] = &[MEMORY, FIELDS, SERVER, ENVIRONMENT];
const SERVING_ARGUMENT: &[&str] = &[MEMORY, FIELDS, SERVER, ARGUMENT];
const SERVING_CLIENT: &[&str] = &[MEMORY, FIELDS, POLL, SERVER, ENVIRONMENT, CLIENT];
const SERVING_BEACON: &[&str] = &[MEMORY, FIELDS, POLL, SERVER, ENVIRONMENT, CLIENT, BEACON];
const SERVING_SOCKET: &[&str] = &[MEMORY, FIELDS, POLL, SERVER, ENVIRONMENT];
const CALLING: &[&str] = &[MEMORY, FIELDS, POLL, ENVIRONMENT, CLIENT, BEACON];
const CALLING_CLOCK: &[&str] = &[MEMORY, FIELDS, POLL, ENVIRONMENT, CLIENT, BEACON, CLOCK];

enum Recipe {
    Component {
        world: &'static str,
        parts: &'static [&'static str],
        own: &'static str,
    },
    Module(&'static str),
}

macro_rules! recipe {
    ($world:literal, $parts:expr, $file:literal) => {
        Recipe::Component {
            world: $world,
            parts: $parts,
            own: include_str!($file),
        }
    };
}

fn recipe(role: Role) -> Recipe {
    match role {
        Role::Hello => recipe!("component", SERVING, "hello.wat"),
        Role::HelloTwo => recipe!("component", SERVING_ENVIRONMENT, "hello-two.wat"),
        Role::HttpEcho => recipe!("component", SERVING, "http-echo.wat"),
        Role::HttpRespond => recipe!("component", SERVING, "http-respond.wat"),
        Role::HttpTrap => recipe!("component", SERVING, "http-trap.wat"),
        Role::HttpSpin => recipe!("component", SERVING_BEACON, "http-spin.wat"),
        Role::HttpAlloc => recipe!("component", SERVING, "http-alloc.wat"),
        Role::HttpEnv => recipe!("component", SERVING_ENVIRONMENT, "http-env.wat"),
        Role::HttpFetch => recipe!("component", SERVING_CLIENT, "http-fetch.wat"),
        Role::HttpFiles => recipe!("component", SERVING_ARGUMENT, "http-files.wat"),
        Role::HttpConfig => recipe!("component", SERVING, "http-config.wat"),
        Role::HttpKeyvalue => recipe!("component", SERVING_ARGUMENT, "http-keyvalue.wat"),
        Role::HttpLogging => recipe!("component", SERVING, "http-logging.wat"),
        Role::HttpSocket => recipe!("component", SERVING_SOCKET, "http-socket.wat"),
        Role::ServiceRun => recipe!("service", CALLING_CLOCK, "service-run.wat"),
        Role::ServicePing => recipe!("service", CALLING_CLOCK, "service-ping.wat"),
        Role::ServiceOk => recipe!("service", CALLING, "service-ok.wat"),
        Role::ServiceErr => recipe!("service", CALLING, "service-err.wat"),
        Role::ServiceTrap => recipe!("service", CALLING, "service-trap.wat"),
        Role::ServiceExit0 => recipe!("service", CALLING, "service-exit0.wat"),
        Role::ServiceExit1 => recipe!("service", CALLING, "service-exit1.wat"),
        Role::ServiceFresh => recipe!("service", CALLING, "service-fresh.wat"),
        Role::ServiceSpin => recipe!("service", CALLING, "service-spin.wat"),
        Role::ServiceErrAfter300Ms => {
            recipe!("service", CALLING_CLOCK, "service-err-after-300ms.wat")
        }
        Role::ServiceErrAfter61S => recipe!("service", CALLING_CLOCK, "service-err-after-61s.wat"),
        Role::ServiceOkAfter300Ms => {
            recipe!("service", CALLING_CLOCK, "service-ok-after-300ms.wat")
        }
        Role::Unmet => recipe!("unmet", SERVING, "unmet.wat"),
        Role::ServiceUnmet => recipe!("service-unmet", &[MEMORY], "service-unmet.wat"),
        Role::Idle | Role::NoRun => Recipe::Component {
            world: "empty",
            parts: &[],
            own: IMPORTS_END,
        },
        Role::CoreModule => Recipe::Module("(module (func (export \"run\")))"),
    }
}

pub(super) fn build(role: Role) -> Result<Bytes, GuestError> {
    let encode_error = |error: &dyn std::fmt::Display| GuestError::Component {
        role: role.name(),
        // The alternate format of the encoder's errors contains the whole chain.
        reason: format!("{error:#}"),
    };
    let (world, parts, own) = match recipe(role) {
        Recipe::Component { world, parts, own } => (world, parts, own),
        Recipe::Module(text) => return assemble(role, text).map(Bytes::from),
    };
    let mut module = assemble(role, &join(parts, own))?;
    let mut resolve = Resolve::default();
    let package = resolve
        .push_source("guest.wit", WIT)
        .map_err(|error| encode_error(&error))?;
    let world = resolve
        .select_world(&[package], Some(world))
        .map_err(|error| encode_error(&error))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| encode_error(&error))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| encode_error(&error))?;
    Ok(component.into())
}

fn assemble(role: Role, text: &str) -> Result<Vec<u8>, GuestError> {
    wat::parse_str(text).map_err(|source| GuestError::Text {
        role: role.name(),
        source,
    })
}

/// Joins the parts and the own text of a guest into one module: first all imports, then all code.
fn join(parts: &[&str], own: &str) -> String {
    let texts = || {
        parts
            .iter()
            .copied()
            .chain([own])
            .map(|text| text.split_once(IMPORTS_END).unwrap_or(("", text)))
    };
    let mut module = String::from("(module\n");
    texts().for_each(|(imports, _)| module.push_str(imports));
    texts().for_each(|(_, code)| module.push_str(code));
    module.push(')');
    module
}

/// Returns the interfaces that a component imports.
#[cfg(test)]
pub(super) fn imports(component: &[u8]) -> Vec<String> {
    let decoded = wit_component::decode(component).unwrap();
    let resolve = decoded.resolve();
    let world = match &decoded {
        wit_component::DecodedWasm::Component(_, world) => &resolve.worlds[*world],
        wit_component::DecodedWasm::WitPackage(..) => panic!("not a component"),
    };
    world
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect()
}
