//! Faults that can be injected into this scheduler. With them the conformance suite proves that its
//! checks can fail.
//!
//! They exist only in a build with the Cargo feature `fault-injection`. In any other build
//! [`Breakage::is_on`] is a constant `false`.

berth_sdk::declare_breakages! {
    "no-adoption" => NoAdoption,
    "own-ids" => OwnIds,
    "own-finalizers" => OwnFinalizers,
    "pods-hang" => PodsHang,
    "ignores-pods" => IgnoresPods,
    "endpoints-of-all-hosts" => EndpointsOfAllHosts,
    "no-endpoint-repair" => NoEndpointRepair,
    "endpoint-after-stop" => EndpointAfterStop,
    "no-observed-generation" => NoObservedGeneration,
    "no-scale-status" => NoScaleStatus,
    "recreates-deleted-dependents" => RecreatesDeletedDependents,
    "ignores-lease" => IgnoresLease,
    "touches-every-namespace" => TouchesEveryNamespace,
    "placeholder-host-status" => PlaceholderHostStatus,
    "artifact-deleted-in-use" => ArtifactDeletedInUse,
    "writes-when-idle" => WritesWhenIdle,
}
