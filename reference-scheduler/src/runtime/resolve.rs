//! Resolves the ConfigMaps and Secrets of a workload and builds the request for the host.

use berth_sdk::cli::error_chain;

use crate::api::Workload;
use crate::start_request::{ReferencedData, references, start_request};
use crate::store::Store;

/// Reason why no request can be built, as text for people.
pub(super) struct InvalidRequest(pub String);

/// Returns the workload as it is sent to a host, with the content of the ConfigMaps and Secrets
/// that it refers to.
pub(super) async fn resolve_workload<S: Store>(
    store: &S,
    workload: &Workload,
    id: &str,
) -> Result<berth_proto::Workload, InvalidRequest> {
    let namespace = workload.metadata.namespace.as_str();
    let unreadable = |kind: &str, name: &str, error: &dyn std::error::Error| {
        InvalidRequest(format!(
            "cannot read {kind} {name:?}: {}",
            error_chain(error)
        ))
    };
    let references = references(&workload.spec);
    let mut data = ReferencedData::default();
    for name in references.config_maps {
        let read = store.config_map(namespace, &name).await;
        if let Some(values) = read.map_err(|error| unreadable("ConfigMap", &name, &error))? {
            data.config_maps.insert(name, values);
        }
    }
    for name in references.secrets {
        let read = store.secret(namespace, &name).await;
        if let Some(secret) = read.map_err(|error| unreadable("Secret", &name, &error))? {
            data.secrets.insert(name, secret);
        }
    }
    let request =
        start_request(workload, id, &data).map_err(|error| InvalidRequest(error_chain(&error)))?;
    Ok(request.workload.unwrap_or_default())
}
