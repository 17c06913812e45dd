//! Actions of a user.

use std::sync::Arc;

use berth_scheduler::api::{Key, Kind, Object};

use super::World;

impl World {
    /// Applies a manifest.
    pub fn apply(&mut self, object: Object) {
        if let Object::Deployment(deployment) = &object {
            self.invariants.on_deployment_applied(self.now, deployment);
        }
        let object = match self.store.objects.get(&object.key()) {
            Some(before) => with_status_of(object, before),
            None => object,
        };
        let (_, changes) = self.store.put(object, self.now);
        self.deliver_changes(changes);
    }

    pub fn delete(&mut self, key: &Key) {
        let Some(uid) = self
            .store
            .objects
            .get(key)
            .map(|object| object.metadata().uid.clone())
        else {
            return;
        };
        if key.kind == Kind::WorkloadDeployment {
            self.invariants.on_deployment_deleted(self.now, key);
        }
        let (_, changes) = self.store.delete(self.now, key, &uid);
        self.deliver_changes(changes);
    }

    /// Deletes a deployment with foreground propagation: the deployment stays until all its
    /// dependents are gone.
    pub fn delete_in_foreground(&mut self, key: &Key) {
        let Some(object) = self.store.objects.get(key) else {
            return;
        };
        let uid = object.metadata().uid.clone();
        self.invariants.on_deployment_deleted(self.now, key);
        let changes = self.store.delete_in_foreground(self.now, key, &uid);
        self.deliver_changes(changes);
    }
}

fn with_status_of(mut object: Object, before: &Object) -> Object {
    match (&mut object, before) {
        (Object::Deployment(it), Object::Deployment(before)) => {
            Arc::make_mut(it).status = before.status.clone();
        }
        (Object::Workload(it), Object::Workload(before)) => {
            let it = Arc::make_mut(it);
            it.status = before.status.clone();
            it.metadata.finalizers = before.metadata.finalizers.clone();
        }
        (Object::ReplicaSet(it), Object::ReplicaSet(before)) => {
            Arc::make_mut(it).status = before.status.clone();
        }
        _ => {}
    }
    object
}
