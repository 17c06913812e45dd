//! What the model scheduler says of its work, beside the manifests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::models::scheduler::state::Replica;
use crate::models::scheduler::{Model, Mutant};

impl Model {
    /// Writes what there is to show.
    pub(in crate::models::scheduler) fn show(&mut self) {
        let mut keys = BTreeSet::new();
        let mut shown: Vec<(String, Value)> = Vec::new();
        for (key, object) in &self.kept.accepted {
            shown.push((key.clone(), self.object_shown(key, object)));
        }
        for (key, reason) in &self.desk.refused {
            if !self.kept.accepted.contains_key(key) {
                let object = self.desk.objects.get(key).cloned().unwrap_or_default();
                shown.push((
                    key.clone(),
                    with_status(object, &condition(false, "Refused", reason), json!({})),
                ));
            }
        }
        for replica in self
            .kept
            .replicas
            .iter()
            .filter(|replica| !replica.owner.starts_with("Workload/"))
        {
            let key = format!("Workload/{}/{}", replica.namespace, replica.name);
            shown.push((key, self.replica_shown(replica)));
        }
        let waits = self.is(Mutant::WaitsForTheDead);
        let early = self.is(Mutant::ReportsDeletionEarly);
        for ending in self
            .kept
            .endings
            .iter()
            .filter(|ending| !early && (!ending.orphan || waits))
        {
            let known = self
                .desk
                .written
                .get(&ending.owner)
                .and_then(|text| serde_json::from_str(text).ok());
            if !self.kept.accepted.contains_key(&ending.owner)
                && let Some(known) = known
            {
                shown.push((ending.owner.clone(), known));
            }
        }
        for (key, object) in shown {
            self.desk.write(&key, &object);
            keys.insert(key);
        }
        self.desk.keep_only(&keys);
    }

    fn object_shown(&self, key: &str, object: &Value) -> Value {
        let mine: Vec<&Replica> = self
            .kept
            .replicas
            .iter()
            .filter(|replica| replica.owner == key)
            .collect();
        if let (true, Some(replica)) = (key.starts_with("Workload/"), mine.first()) {
            return with_status(
                object.clone(),
                &self.condition_of(replica),
                placed(replica, self),
            );
        }
        let wanted = self.wanted(key, object);
        let (n, revision) = wanted.map_or((0, String::new()), |wanted| {
            (wanted.replicas, wanted.revision)
        });
        let ready = mine.iter().filter(|replica| replica.is_ready()).count();
        let right = mine
            .iter()
            .filter(|replica| replica.is_ready() && replica.revision == revision)
            .count();
        let note = self.desk.refused.get(key).or(self.desk.notes.get(key));
        let fine = right == n && mine.len() == n && note.is_none();
        let mut reason = note.cloned().unwrap_or_default();
        if reason.is_empty() {
            let stuck = mine.iter().filter(|replica| !replica.is_ready());
            reason = stuck
                .map(|replica| replica.message.clone())
                .find(|text| !text.is_empty())
                .unwrap_or_default();
        }
        let counts = match self.is(Mutant::CountsHopes) {
            true => (n, n),
            false => (mine.len(), ready),
        };
        let rolling = mine.iter().any(|replica| replica.revision != revision);
        let condition = match self.is(Mutant::StuckLooksFine) && rolling {
            true => condition(true, "Available", ""),
            false => condition(
                fine,
                if fine { "Available" } else { "Progressing" },
                &reason,
            ),
        };
        let replicas = json!({ "replicas": {
            "expected": n, "current": counts.0, "ready": counts.1, "unavailable": n.saturating_sub(counts.1),
        } });
        with_status(object.clone(), &condition, replicas)
    }

    fn replica_shown(&self, replica: &Replica) -> Value {
        let object = json!({
            "apiVersion": "runtime.wasmcloud.dev/v1alpha1",
            "kind": "Workload",
            "metadata": { "name": replica.name, "namespace": replica.namespace },
        });
        with_status(object, &self.condition_of(replica), placed(replica, self))
    }

    fn condition_of(&self, replica: &Replica) -> Value {
        let mut message = replica.message.clone();
        if self.is(Mutant::SecretInMessage) {
            message.push_str(&replica.request);
        }
        let reason = if replica.is_ready() {
            "Available"
        } else {
            "Reconcile"
        };
        let mut made = condition(replica.is_ready(), reason, &message);
        if let (Some(Mutant::NoReadyCondition), Some(made)) =
            (self.options.mutant, made.as_object_mut())
        {
            made.insert("type".to_owned(), json!("Healthy"));
        }
        made
    }
}

fn placed(replica: &Replica, model: &Model) -> Value {
    let host = replica.host.as_ref().and_then(|id| model.hosts.get(id));
    let environment = host.and_then(|host| host.beat.get("environment")).cloned();
    json!({ "hostId": replica.host, "workloadId": replica.id, "environment": environment })
}

fn condition(is: bool, reason: &str, message: &str) -> Value {
    let status = if is { "True" } else { "False" };
    json!({ "type": "Ready", "status": status, "reason": reason, "message": message })
}

fn with_status(mut object: Value, condition: &Value, more: Value) -> Value {
    let mut status = more;
    if let Some(status) = status.as_object_mut() {
        status.retain(|_, value| !value.is_null());
        status.insert("conditions".to_owned(), json!([condition]));
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
    object
}
