//! Queries of the world for tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_scheduler::api::{
    ConditionStatus, Key, Kind, Object, Workload, WorkloadDeployment, condition,
};

use super::super::host::HostFault;
use super::World;

impl World {
    pub fn deployment(&self, name: &str) -> Option<&Arc<WorkloadDeployment>> {
        let key = Key::new(Kind::WorkloadDeployment, "demo", name);
        match self.store.objects.get(&key) {
            Some(Object::Deployment(deployment)) => Some(deployment),
            _ => None,
        }
    }

    /// Returns whether a deployment reports that it is ready.
    pub fn is_ready(&self, name: &str) -> bool {
        let Some(deployment) = self.deployment(name) else {
            return false;
        };
        let Some(status) = &deployment.status else {
            return false;
        };
        let ready = condition(&status.conditions, "Ready");
        let generation = deployment.metadata.generation;
        ready.is_some_and(|ready| {
            ready.status == ConditionStatus::True && ready.observed_generation == generation
        })
    }

    pub fn workload(&self, name: &str) -> Option<&Arc<Workload>> {
        match self
            .store
            .objects
            .get(&Key::new(Kind::Workload, "demo", name))
        {
            Some(Object::Workload(workload)) => Some(workload),
            _ => None,
        }
    }

    /// Returns the message of a workload's condition.
    pub fn message(&self, workload: &str, name: &str) -> String {
        let status = self
            .workload(workload)
            .and_then(|workload| workload.status.as_ref());
        let found = status.and_then(|status| condition(&status.conditions, name));
        found.map_or_else(String::new, |found| found.message.clone())
    }

    /// Returns the number of running ids on each healthy host.
    pub fn loads(&self) -> Vec<usize> {
        let healthy = self
            .hosts
            .iter()
            .filter(|host| host.fault == HostFault::None);
        healthy.map(|host| host.running_ids().count()).collect()
    }

    pub fn writes(&self) -> usize {
        self.store.writes.values().sum()
    }

    /// Panics if an invariant has been violated.
    pub fn assert_invariants(&self) {
        assert_eq!(self.invariants.violation, None);
    }

    /// Returns the ids that run on any host.
    pub fn running_ids(&self) -> BTreeSet<String> {
        let running = self.hosts.iter().flat_map(|host| host.running_ids());
        running.cloned().collect()
    }

    /// Returns the ids of workloads that are not being deleted.
    pub fn wanted_ids(&self) -> BTreeSet<String> {
        let workloads = self
            .store
            .of_kind(Kind::Workload)
            .filter_map(|object| match object {
                Object::Workload(workload) if !workload.metadata.is_deleting() => {
                    let status = workload.status.as_ref()?;
                    (!status.host_id.is_empty()).then(|| status.workload_id.clone())
                }
                _ => None,
            });
        workloads.collect()
    }
}
