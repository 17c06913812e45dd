//! Labels, annotations, finalizers and condition types. They are the same as in wasmCloud's
//! operator, except for names with the prefix `berth.dev`.

/// Label of a replica set: the name of its deployment, shortened to 63 characters.
pub const DEPLOYMENT_LABEL: &str = "runtime.wasmcloud.dev/workload-deployment";
/// Annotation of a replica set: the name of its deployment, if the value of
/// [`DEPLOYMENT_LABEL`] is a shortened name.
pub const DEPLOYMENT_ANNOTATION: &str = "berth.dev/workload-deployment";
/// Annotation of a workload: the revision hash of its template.
pub const REVISION_ANNOTATION: &str = "runtime.wasmcloud.dev/workload-replica-set-generation";
/// Annotation of a workload: the ID of its first host, chosen at creation. The ID of that
/// incarnation is the UID of the workload. Later assignments are in the status.
pub const PLACED_ON_ANNOTATION: &str = "berth.dev/placed-on";
/// Annotation of a deployment: the number or percentage of replicas that may be missing during a
/// rolling update, for fleets without room for additional replicas.
pub const MAX_UNAVAILABLE_ANNOTATION: &str = "berth.dev/max-unavailable";
/// Label of a host: its group.
pub const HOST_GROUP_LABEL: &str = "hostgroup";

/// Finalizer of hosts.
pub const HOST_FINALIZER: &str = "runtime.wasmcloud.dev/host-finalizer";
/// Finalizer of workloads.
pub const WORKLOAD_FINALIZER: &str = "runtime.wasmcloud.dev/workload-finalizer";
/// Finalizer of artifacts.
pub const ARTIFACT_FINALIZER: &str = "runtime.wasmcloud.dev/artifact-finalizer";

/// Conditions of a host.
pub mod host {
    /// The host sends heartbeats.
    pub const REPORTING: &str = "Reporting";
    /// Workloads can be placed on the host.
    pub const READY: &str = "Ready";
}

/// Conditions of a workload.
pub mod workload {
    /// All references of the workload can be resolved.
    pub const CONFIG: &str = "Config";
    /// A host was chosen.
    pub const HOST_SELECTION: &str = "HostSelection";
    /// The host has accepted the workload.
    pub const PLACEMENT: &str = "Placement";
    /// The host reports the workload as running.
    pub const SYNC: &str = "Sync";
    /// The workload is ready.
    pub const READY: &str = "Ready";
}

/// Conditions of a replica set.
pub mod replica_set {
    /// No replica is missing.
    pub const SCALE_UP: &str = "ScaleUp";
    /// No replica is in excess of the desired number.
    pub const SCALE_DOWN: &str = "ScaleDown";
    /// All replicas are ready.
    pub const READY: &str = "Ready";
}

/// Conditions of a deployment.
pub mod deployment {
    /// All artifacts of the deployment are published.
    pub const ARTIFACT: &str = "Artifact";
    /// The current replica set has the desired revision.
    pub const SYNC: &str = "Sync";
    /// The replica set of the desired revision exists.
    pub const DEPLOY: &str = "Deploy";
    /// The replica sets have the desired sizes.
    pub const SCALE: &str = "Scale";
    /// All replicas are ready and have the desired revision.
    pub const READY: &str = "Ready";
}

/// Conditions of an artifact.
pub mod artifact {
    /// The status reflects the current generation.
    pub const SYNC: &str = "Sync";
    /// Deployments can use the artifact.
    pub const PUBLISHED: &str = "Published";
    /// The artifact is ready.
    pub const READY: &str = "Ready";
}
