//! The views of one watch, in groups. The objects of a group are held back until all its views are
//! listed: a set whose workloads are not known yet would create them again.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use kube::runtime::watcher::{Error, Event};

use super::{KubeStore, Scope, Watch};
use crate::api::{Key, Kind, Object};
use crate::core::{ObjectEvent, ObjectEventKind};
use crate::store::StoreEvent;

/// Reason of the Event of an object that cannot be decoded.
const INVALID_REASON: &str = "InvalidObject";

/// All views.
pub(super) struct Views {
    pub all: Vec<View>,
    groups: BTreeMap<Group, GroupState>,
}

/// One kind in one namespace or in all.
pub(super) struct View {
    pub scope: Scope,
    pub watch: Watch,
    group: Group,
}

/// Views that depend on each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Hosts,
    /// A missing artifact keeps only the deployments waiting that use it.
    Artifacts(Scope),
    /// Deployments, replica sets and workloads.
    Workloads(Scope),
}

#[derive(Default)]
struct GroupState {
    is_listed: bool,
    is_reported: bool,
    /// Objects until the group is listed.
    held: BTreeMap<Key, Object>,
}

impl Views {
    pub(super) fn new(scopes: Vec<(Kind, Scope)>) -> Self {
        let view = |(kind, scope): (Kind, Scope)| View {
            group: match kind {
                Kind::Host => Group::Hosts,
                Kind::Artifact => Group::Artifacts(scope.clone()),
                _ => Group::Workloads(scope.clone()),
            },
            watch: Watch::new(kind),
            scope,
        };
        let all: Vec<View> = scopes.into_iter().map(view).collect();
        let groups = all
            .iter()
            .map(|view| (view.group.clone(), GroupState::default()));
        Self {
            groups: groups.collect(),
            all,
        }
    }

    /// Returns the namespaces of workloads.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let scopes = self.groups.keys().filter_map(|group| match group {
            Group::Workloads(scope) => Some(scope.clone()),
            _ => None,
        });
        scopes.collect()
    }

    /// Returns the events for the core that follow from an event of a view.
    pub(super) fn receive(
        &mut self,
        store: &KubeStore,
        index: usize,
        event: Result<Event<DynamicObject>, Error>,
    ) -> Vec<StoreEvent> {
        let Some(view) = self.all.get_mut(index) else {
            return Vec::new();
        };
        let subject = subject(view.watch.kind, &view.scope);
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                // The watcher retries by itself, with backoff.
                let reason = berth_sdk::cli::error_chain(&error);
                store.problems().add(&subject, &reason);
                return Vec::new();
            }
        };
        // The start of another list does not prove that the list succeeds.
        if !matches!(event, Event::Init) {
            store.problems().remove(&subject);
        }
        let before: Vec<Key> = view.watch.undecodable.keys().cloned().collect();
        let events = view.watch.store_events(event);
        report_undecodable(store, &before, &mut view.watch);
        self.hold_or_pass(index, events)
    }

    fn hold_or_pass(&mut self, index: usize, events: Vec<StoreEvent>) -> Vec<StoreEvent> {
        let Some(group) = self.all.get(index).map(|view| view.group.clone()) else {
            return Vec::new();
        };
        let mut views = self.all.iter().filter(|view| view.group == group);
        let is_listed = views.all(|view| view.watch.is_listed);
        let Some(state) = self.groups.get_mut(&group) else {
            return events;
        };
        if state.is_listed {
            return events;
        }
        for event in events {
            match event {
                StoreEvent::Applied(object) => {
                    state.held.insert(object.key(), object);
                }
                StoreEvent::Removed { key, .. } => {
                    state.held.remove(&key);
                }
                StoreEvent::Synced => {}
            }
        }
        if !is_listed {
            return Vec::new();
        }
        state.is_listed = true;
        let mut objects: Vec<Object> = std::mem::take(&mut state.held).into_values().collect();
        // Dependents first: an owner decides by its dependents as soon as it is known.
        objects.sort_by_key(|object| match object.kind() {
            Kind::Host | Kind::Artifact => 0,
            Kind::Workload => 1,
            Kind::WorkloadReplicaSet => 2,
            Kind::WorkloadDeployment => 3,
        });
        objects.into_iter().map(StoreEvent::Applied).collect()
    }

    /// Tells the routes which groups are listed, after their objects were passed on.
    pub(super) fn report_listed(&mut self, store: &KubeStore) {
        for (group, state) in &mut self.groups {
            if !state.is_listed || std::mem::replace(&mut state.is_reported, true) {
                continue;
            }
            match group {
                Group::Hosts => store.shared.routes.on_hosts_listed(),
                Group::Workloads(scope) => store.shared.routes.on_objects_listed(scope),
                Group::Artifacts(_) => {}
            }
        }
    }

    /// Reports the views that are not listed in time.
    pub(super) fn report_unlisted(&self, store: &KubeStore) {
        let mut problems = store.problems();
        for view in self.all.iter().filter(|view| !view.watch.is_listed) {
            let subject = subject(view.watch.kind, &view.scope);
            problems.add_if_missing(&subject, "not listed yet; its objects stay as they are");
        }
        problems.set_unusable(!self.is_any_group_of_workloads_listed());
    }

    pub(super) fn are_all_listed(&self) -> bool {
        self.groups.values().all(|state| state.is_listed)
    }

    pub(super) fn is_any_group_of_workloads_listed(&self) -> bool {
        let is_workloads = |group: &Group| matches!(group, Group::Workloads(_));
        let mut groups = self.groups.iter();
        groups.any(|(group, state)| is_workloads(group) && state.is_listed)
    }
}

fn report_undecodable(store: &KubeStore, before: &[Key], watch: &mut Watch) {
    for key in before
        .iter()
        .filter(|key| !watch.undecodable.contains_key(key))
    {
        store.problems().remove(&key.to_string());
    }
    for (key, uid) in std::mem::take(&mut watch.newly_undecodable) {
        let Some(reason) = watch.undecodable.get(&key) else {
            continue;
        };
        store.problems().add(&key.to_string(), reason);
        let event = ObjectEvent {
            key,
            uid,
            kind: ObjectEventKind::Warning,
            reason: INVALID_REASON,
            message: reason.clone(),
        };
        let store = store.clone();
        // Events are published a few at a time, and must not delay the watch.
        store
            .shared
            .tasks
            .clone()
            .spawn(async move { store.shared.events.publish(event).await });
    }
}

/// Returns the name of a view for users.
fn subject(kind: Kind, scope: &Scope) -> String {
    match scope {
        Some(namespace) => format!("{} in namespace {namespace}", kind.plural()),
        None => format!("{} in all namespaces", kind.plural()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: Kind, namespace: &str, name: &str) -> StoreEvent {
        let spec = json!({"template": {"spec": {}}});
        let value = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        StoreEvent::Applied(Object::from_fields(kind, value).expect("an object"))
    }

    fn names(events: Vec<StoreEvent>) -> Vec<String> {
        let name = |event| match event {
            StoreEvent::Applied(object) => object.key().to_string(),
            event => format!("{event:?}"),
        };
        events.into_iter().map(name).collect()
    }

    /// Returns the views of two namespaces, and a function that finds the index of a view.
    fn views() -> (Views, impl Fn(Kind, &str) -> usize) {
        let mut scopes = vec![(Kind::Host, Some("berth".to_owned()))];
        for kind in [
            Kind::Workload,
            Kind::WorkloadReplicaSet,
            Kind::WorkloadDeployment,
        ] {
            scopes.extend(["a", "b"].map(|namespace| (kind, Some(namespace.to_owned()))));
        }
        let index = {
            let scopes = scopes.clone();
            move |kind: Kind, namespace: &str| {
                let wanted = (kind, Some(namespace.to_owned()));
                let position = scopes.iter().position(|scope| *scope == wanted);
                position.expect("a view")
            }
        };
        (Views::new(scopes), index)
    }

    #[test]
    fn objects_of_a_namespace_are_held_until_all_its_kinds_are_listed() {
        let (mut views, index) = views();
        let set = index(Kind::WorkloadReplicaSet, "b");
        let workload = index(Kind::Workload, "b");
        let deployment = index(Kind::WorkloadDeployment, "b");
        let first = object(Kind::WorkloadReplicaSet, "b", "set");
        views.all[set].watch.is_listed = true;
        assert_eq!(names(views.hold_or_pass(set, vec![first])), [""; 0]);
        views.all[deployment].watch.is_listed = true;
        let second = object(Kind::WorkloadDeployment, "b", "deployment");
        assert_eq!(names(views.hold_or_pass(deployment, vec![second])), [""; 0]);
        assert!(!views.is_any_group_of_workloads_listed());
        // The other namespace does not wait.
        for kind in [
            Kind::Workload,
            Kind::WorkloadReplicaSet,
            Kind::WorkloadDeployment,
        ] {
            views.all[index(kind, "a")].watch.is_listed = true;
        }
        let other = object(Kind::Workload, "a", "other");
        let passed = views.hold_or_pass(index(Kind::Workload, "a"), vec![other]);
        assert_eq!(names(passed), ["Workload a/other"]);
        assert!(views.is_any_group_of_workloads_listed() && !views.are_all_listed());

        views.all[workload].watch.is_listed = true;
        let last = object(Kind::Workload, "b", "replica");
        assert_eq!(
            names(views.hold_or_pass(workload, vec![last])),
            [
                "Workload b/replica",
                "WorkloadReplicaSet b/set",
                "WorkloadDeployment b/deployment"
            ]
        );
        let later = object(Kind::Workload, "b", "later");
        assert_eq!(
            names(views.hold_or_pass(workload, vec![later])),
            ["Workload b/later"]
        );
    }
}
