//! Labels, annotations, finalizers and condition types that both schedulers know.

/// Label of a replica set: the name of its deployment.
pub const DEPLOYMENT_LABEL: &str = "runtime.wasmcloud.dev/workload-deployment";
/// Annotation of a workload: the revision hash of the template it was made from.
pub const REVISION_ANNOTATION: &str = "runtime.wasmcloud.dev/workload-replica-set-generation";
/// Annotation of a workload: the id of the host that it was placed on when it was created, under its uid as
/// id. Of every later place its status tells.
pub const PLACED_ANNOTATION: &str = "berth.dev/placed-on";
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
    /// Its heartbeats arrive.
    pub const REPORTING: &str = "Reporting";
    /// Workloads may be placed on it.
    pub const READY: &str = "Ready";
}

/// Conditions of a workload.
pub mod workload {
    /// What it refers to exists.
    pub const CONFIG: &str = "Config";
    /// A host was chosen.
    pub const HOST_SELECTION: &str = "HostSelection";
    /// The host took it.
    pub const PLACEMENT: &str = "Placement";
    /// The host says that it runs.
    pub const SYNC: &str = "Sync";
    /// It serves.
    pub const READY: &str = "Ready";
}

/// Conditions of a replica set.
pub mod replica_set {
    /// No replica is missing.
    pub const SCALE_UP: &str = "ScaleUp";
    /// No replica is too many.
    pub const SCALE_DOWN: &str = "ScaleDown";
    /// All replicas serve.
    pub const READY: &str = "Ready";
}

/// Conditions of a deployment.
pub mod deployment {
    /// Every artifact it names is published.
    pub const ARTIFACT: &str = "Artifact";
    /// The current replica set is of the wanted revision.
    pub const SYNC: &str = "Sync";
    /// The replica set of the wanted revision exists.
    pub const DEPLOY: &str = "Deploy";
    /// The replica sets have the wanted sizes.
    pub const SCALE: &str = "Scale";
    /// All replicas of the wanted revision serve, and no others.
    pub const READY: &str = "Ready";
}

/// Conditions of an artifact.
pub mod artifact {
    /// What was last wanted has been looked at.
    pub const SYNC: &str = "Sync";
    /// Deployments may use it.
    pub const PUBLISHED: &str = "Published";
    /// It may be used.
    pub const READY: &str = "Ready";
}
