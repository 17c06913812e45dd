//! What a test looks at.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_scheduler::api::{
    ConditionStatus, Key, Kind, Object, Workload, WorkloadDeployment, condition,
};

use super::super::host::Trouble;
use super::World;

impl World {
    pub fn deployment(&self, name: &str) -> Option<&Arc<WorkloadDeployment>> {
        let key = Key::new(Kind::WorkloadDeployment, "demo", name);
        match self.store.objects.get(&key) {
            Some(Object::Deployment(deployment)) => Some(deployment),
            _ => None,
        }
    }

    /// Whether a deployment says that all of it is ready.
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

    /// The message of a condition of a workload.
    pub fn message(&self, workload: &str, name: &str) -> String {
        let status = self
            .workload(workload)
            .and_then(|workload| workload.status.as_ref());
        let found = status.and_then(|status| condition(&status.conditions, name));
        found.map_or_else(String::new, |found| found.message.clone())
    }

    /// How many ids run on each host that lives.
    pub fn loads(&self) -> Vec<usize> {
        let living = self
            .hosts
            .iter()
            .filter(|host| host.trouble == Trouble::None);
        living.map(|host| host.running().count()).collect()
    }

    pub fn writes(&self) -> usize {
        self.store.writes.values().sum()
    }

    /// Panics when something has been wrong so far.
    pub fn assert_sound(&self) {
        assert_eq!(self.ledger.violation, None);
    }

    /// Ids of which a guest runs anywhere.
    pub fn running(&self) -> BTreeSet<String> {
        let running = self.hosts.iter().flat_map(|host| host.running());
        running.cloned().collect()
    }

    /// Ids that are wanted: of Workloads that are not going.
    pub fn wanted(&self) -> BTreeSet<String> {
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
