//! Looks up what a workload refers to, and makes of both what goes over the wire.

use berth_sdk::cli::chain;

use crate::api::Workload;
use crate::request::{References, references, start_request};
use crate::store::Store;

/// Why there is nothing to send, for people.
pub(super) struct Unbuildable(pub String);

/// The workload as a host is told of it, with everything that it refers to.
pub(super) async fn resolved<S: Store>(
    store: &S,
    workload: &Workload,
    id: &str,
) -> Result<berth_proto::Workload, Unbuildable> {
    let namespace = workload.metadata.namespace.as_str();
    let unreadable = |name: &str, error: &dyn std::error::Error| {
        Unbuildable(format!("{name:?} cannot be read: {}", chain(error)))
    };
    let wanted = references(&workload.spec);
    let mut found = References::default();
    for name in wanted.config_maps {
        let read = store.config_map(namespace, &name).await;
        if let Some(data) = read.map_err(|error| unreadable(&name, &error))? {
            found.config_maps.insert(name, data);
        }
    }
    for name in wanted.secrets {
        let read = store.secret(namespace, &name).await;
        if let Some(secret) = read.map_err(|error| unreadable(&name, &error))? {
            found.secrets.insert(name, secret);
        }
    }
    let request =
        start_request(workload, id, &found).map_err(|error| Unbuildable(chain(&error)))?;
    Ok(request.workload.unwrap_or_default())
}
