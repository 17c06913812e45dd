//! Conversion of objects to and from the format of the API server.

use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::{API_VERSION, GROUP, Kind, Object, ObjectError, VERSION};

/// Returns the API resource of a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Decodes an object from the API server.
pub(super) fn decode(kind: Kind, mut raw: DynamicObject) -> Result<Object, ObjectError> {
    // Often longer than the object, and unused here.
    raw.metadata.managed_fields = None;
    let metadata = serde_json::to_value(&raw.metadata)
        .map_err(|source| ObjectError::Field { kind, source })?;
    let Value::Object(fields) = &mut raw.data else {
        return Err(ObjectError::NotAnObject);
    };
    fields.insert("metadata".to_owned(), metadata);
    Object::from_fields(kind, raw.data)
}

/// Encodes an object for the API server.
pub(super) fn encode(object: &Object) -> Result<DynamicObject, serde_json::Error> {
    serde_json::from_value(object.to_value()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decode_reverses_encode() {
        let manifest = json!({
            "apiVersion": API_VERSION, "kind": "Workload",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
                "labels": {"l": "v"}, "finalizers": ["f"], "creationTimestamp": "2026-01-02T03:04:05Z",
                "ownerReferences": [{"apiVersion": API_VERSION, "kind": "WorkloadReplicaSet", "name": "o",
                    "uid": "x", "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": {"components": [{"name": "c", "image": "i"}]},
            "status": {"hostId": "h"},
        });
        let object = Object::from_value(manifest).expect("an object");
        let decoded = decode(Kind::Workload, encode(&object).expect("JSON")).expect("an object");
        assert_eq!(decoded, object);
    }
}
