//! The statuses that the model scheduler writes beside the manifests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::models::scheduler::state::Replica;
use crate::models::scheduler::{Model, Mutant};

impl Model {
    /// Writes the status files of all objects and removes the status files of deleted objects.
    pub(in crate::models::scheduler) fn write_statuses(&mut self) {
        let mut keys = BTreeSet::new();
        let mut documents: Vec<(String, Value)> = Vec::new();
        for (key, object) in &self.persisted.accepted {
            documents.push((key.clone(), self.object_with_status(key, object)));
        }
        let hides_refusals = self.is(Mutant::HidesRefusals);
        for (key, reason) in &self.store.rejected {
            if !hides_refusals && !self.persisted.accepted.contains_key(key) {
                let object = self.store.objects.get(key).cloned().unwrap_or_default();
                documents.push((
                    key.clone(),
                    with_status(object, &condition_not_ready("Refused", reason), json!({})),
                ));
            }
        }
        for replica in self
            .persisted
            .replicas
            .iter()
            .filter(|replica| !replica.owner.starts_with("Workload/"))
        {
            let key = format!("Workload/{}/{}", replica.namespace, replica.name);
            documents.push((key, self.replica_with_status(replica)));
        }
        let shows_lost = self.is(Mutant::DeletionWaitsForLostHost);
        let hides_all = self.is(Mutant::ReportsDeletionEarly);
        for stop in self
            .persisted
            .pending_stops
            .iter()
            .filter(|stop| !hides_all && (!stop.on_lost_host || shows_lost))
        {
            let last_written = self
                .store
                .written
                .get(&stop.owner)
                .and_then(|text| serde_json::from_str(text).ok());
            if !self.persisted.accepted.contains_key(&stop.owner)
                && let Some(object) = last_written
            {
                documents.push((stop.owner.clone(), object));
            }
        }
        for (key, object) in documents {
            self.store.write(&key, &object);
            keys.insert(key);
        }
        self.store.remove_all_except(&keys);
    }

    fn object_with_status(&self, key: &str, object: &Value) -> Value {
        let own_replicas: Vec<&Replica> = self
            .persisted
            .replicas
            .iter()
            .filter(|replica| replica.owner == key)
            .collect();
        if let (true, Some(replica)) = (key.starts_with("Workload/"), own_replicas.first()) {
            let mut condition = self.ready_condition(replica);
            if let Some(reason) = self.refusal_of(key) {
                condition = condition_not_ready("Refused", reason);
            }
            let placement = placement_status(replica, self);
            return with_status(object.clone(), &condition, placement);
        }
        let desired = self.desired(key, object);
        let (size, revision) = desired.map_or((0, String::new()), |desired| {
            (desired.replicas, desired.revision)
        });
        let is_ready = |replica: &&&Replica| replica.is_ready();
        let ready = own_replicas.iter().filter(is_ready).count();
        let is_of_desired_revision = |replica: &&&Replica| replica.revision == revision;
        let ready_of_desired_revision = own_replicas
            .iter()
            .filter(is_ready)
            .filter(is_of_desired_revision);
        let waiting_reason = self.refusal_of(key).or(self.store.waiting_reasons.get(key));
        let is_complete = ready_of_desired_revision.count() == size
            && own_replicas.len() == size
            && waiting_reason.is_none();
        let mut reason = waiting_reason.cloned().unwrap_or_default();
        if reason.is_empty() {
            let unready = own_replicas.iter().filter(|replica| !replica.is_ready());
            reason = unready
                .map(|replica| replica.message.clone())
                .find(|text| !text.is_empty())
                .unwrap_or_default();
        }
        let (existing, ready) = if self.is(Mutant::ShowsWantedAsReady) {
            (size, size)
        } else {
            (own_replicas.len(), ready)
        };
        let is_rolling = own_replicas
            .iter()
            .any(|replica| replica.revision != revision);
        let condition = if self.is(Mutant::BlockedRolloutShownAsReady) && is_rolling {
            condition_ready("")
        } else if is_complete {
            condition_ready(&reason)
        } else {
            condition_not_ready("Progressing", &reason)
        };
        let replicas = json!({ "replicas": {
            "expected": size,
            "current": existing,
            "ready": ready,
            "unavailable": size.saturating_sub(ready),
        } });
        with_status(object.clone(), &condition, replicas)
    }

    /// Returns the reason why the latest submission of an object was refused.
    fn refusal_of(&self, key: &str) -> Option<&String> {
        let refusal = self.store.rejected.get(key)?;
        (!self.is(Mutant::HidesRefusals)).then_some(refusal)
    }

    fn replica_with_status(&self, replica: &Replica) -> Value {
        let object = json!({
            "apiVersion": "runtime.wasmcloud.dev/v1alpha1",
            "kind": "Workload",
            "metadata": { "name": replica.name, "namespace": replica.namespace },
        });
        with_status(
            object,
            &self.ready_condition(replica),
            placement_status(replica, self),
        )
    }

    fn ready_condition(&self, replica: &Replica) -> Value {
        let mut message = replica.message.clone();
        if self.is(Mutant::SecretInMessage) {
            message.push_str(&replica.request);
        }
        let mut condition = if replica.is_ready() {
            condition_ready(&message)
        } else {
            condition_not_ready("Reconcile", &message)
        };
        if let (Some(Mutant::NoReadyCondition), Some(condition)) =
            (self.options.mutant, condition.as_object_mut())
        {
            condition.insert("type".to_owned(), json!("Healthy"));
        }
        condition
    }
}

fn placement_status(replica: &Replica, model: &Model) -> Value {
    let host = replica.host.as_ref().and_then(|id| model.hosts.get(id));
    let environment = host
        .and_then(|host| host.heartbeat.get("environment"))
        .cloned();
    json!({ "hostId": replica.host, "workloadId": replica.id, "environment": environment })
}

fn condition_ready(message: &str) -> Value {
    json!({ "type": "Ready", "status": "True", "reason": "Available", "message": message })
}

fn condition_not_ready(reason: &str, message: &str) -> Value {
    json!({ "type": "Ready", "status": "False", "reason": reason, "message": message })
}

fn with_status(mut object: Value, condition: &Value, mut status: Value) -> Value {
    if let Some(status) = status.as_object_mut() {
        status.retain(|_, value| !value.is_null());
        status.insert("conditions".to_owned(), json!([condition]));
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
    object
}
