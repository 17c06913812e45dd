//! Deliberate faults in what the scheduler does in a cluster, by which the conformance suite proves that its checks
//! can fail.
//!
//! They exist only in a build with the cargo feature `breakage`; in any other build [`Breakage::is_on`] is a constant
//! `false` and nothing of this is left.

berth_sdk::breakages! {
    "adopts-nothing" => AdoptsNothing,
    "ids-of-its-own" => IdsOfItsOwn,
    "finalizers-of-its-own" => FinalizersOfItsOwn,
    "pods-hang" => PodsHang,
    "ignores-pods" => IgnoresPods,
    "endpoints-of-all-hosts" => EndpointsOfAllHosts,
    "endpoints-once" => EndpointsOnce,
    "endpoint-after-stop" => EndpointAfterStop,
    "observes-nothing" => ObservesNothing,
    "no-scale-status" => NoScaleStatus,
    "fights-garbage-collection" => FightsGarbageCollection,
    "ignores-the-lease" => IgnoresTheLease,
    "touches-every-namespace" => TouchesEveryNamespace,
    "placeholder-figures" => PlaceholderFigures,
    "artifact-deleted-in-use" => ArtifactDeletedInUse,
    "writes-at-rest" => WritesAtRest,
}
