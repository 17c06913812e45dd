//! Tells users, by Events and the problems of the store, why a Service gets no traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;

use super::ServiceKey;
use super::table::{Explanation, Subject};
use crate::api::API_VERSION;
use crate::store::kube::KubeStore;

/// Time to wait before an Event: a Service is often created after the workloads, and the Pod of a
/// host is often known after the host.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reason of the Event.
const REASON: &str = "NoTraffic";

/// Explanations that users have seen.
#[derive(Default)]
pub(super) struct Explanations(Mutex<State>);

#[derive(Default)]
struct State {
    /// Services to check at the end of [`PATIENCE`].
    pending: BTreeSet<ServiceKey>,
    published: BTreeMap<ServiceKey, String>,
}

impl Explanations {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a check has to be scheduled.
    fn begin(&self, service: &ServiceKey, explanation: Option<&Explanation>) -> bool {
        let mut state = self.state();
        let message = explanation.map(|it| &it.message);
        state.published.get(service) != message && state.pending.insert(service.clone())
    }

    /// Returns whether the explanation is new, and remembers it.
    fn end(&self, service: &ServiceKey, explanation: Option<&Explanation>) -> bool {
        let mut state = self.state();
        state.pending.remove(service);
        let Some(explanation) = explanation else {
            state.published.remove(service);
            return false;
        };
        let message = explanation.message.clone();
        let before = state.published.insert(service.clone(), message);
        before.as_ref() != Some(&explanation.message)
    }
}

/// Schedules a check of a Service if something about it has to be told or is no longer true.
pub(super) fn schedule(store: &KubeStore, service: &ServiceKey) {
    let explanation = store.shared.routes.table().explain(service);
    let routes = &store.shared.routes;
    if !routes.explanations.begin(service, explanation.as_ref()) {
        return;
    }
    let (task, service) = (store.clone(), service.clone());
    store.shared.tasks.spawn(async move {
        let shutdown = task.shared.shutdown.clone();
        let waited = shutdown.run_until_cancelled(tokio::time::sleep(PATIENCE));
        if waited.await.is_some() {
            publish(&task, service).await;
        }
    });
}

async fn publish(store: &KubeStore, service: ServiceKey) {
    let routes = &store.shared.routes;
    let explanation = routes.table().explain(&service);
    let is_new = routes.explanations.end(&service, explanation.as_ref());
    let subject = format!("Service {}/{}", service.0, service.1);
    let Some(Explanation {
        subject: about,
        message,
    }) = explanation
    else {
        return store.problems().remove(&subject);
    };
    store.problems().add(&subject, &message);
    if is_new {
        let reference = reference(about, service);
        let publisher = &store.shared.events;
        let event = (EventType::Warning, REASON, message);
        publisher.publish_about(&reference, event).await;
    }
}

fn reference(subject: Subject, (namespace, name): ServiceKey) -> ObjectReference {
    match subject {
        Subject::Workload(key) => ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(key.kind.as_str().to_owned()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            ..ObjectReference::default()
        },
        Subject::Service(uid) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        },
    }
}
