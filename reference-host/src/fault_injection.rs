//! Faults that can be injected into this host. With them the conformance suite proves that its
//! checks can fail.
//!
//! They exist only in a build with the Cargo feature `fault-injection`. In any other build
//! [`Breakage::is_on`] is a constant `false`.

berth_sdk::declare_breakages! {
    "routes-outlive-service" => RoutesOutliveService,
    "components-survive-restart" => ComponentsSurviveRestart,
    "no-route-between-runs" => NoRouteBetweenRuns,
    "routes-ignore-host" => RoutesIgnoreHost,
    "no-route-is-500" => NoRouteIs500,
    "missing-host-is-404" => MissingHostIs404,
    "compares-port-in-host" => ComparesPortInHost,
    "case-sensitive-hosts" => CaseSensitiveHosts,
    "no-aliases" => NoAliases,
    "accepts-invalid-host-name" => AcceptsInvalidHostName,
    "trap-ends-workload" => TrapEndsWorkload,
    "late-routes" => LateRoutes,
    "routes-outlive-stop" => RoutesOutliveStop,
    "no-load-balancing" => NoLoadBalancing,
    "undeclared-handler-reachable" => UndeclaredHandlerReachable,
    "wrong-http-port" => WrongHttpPort,
    "drops-query" => DropsQuery,
    "busy-guest-blocks-ingress" => BusyGuestBlocksIngress,
    "no-memory-limit" => NoMemoryLimit,
    "tiny-default-memory" => TinyDefaultMemory,
    "allocation-kills-host" => AllocationKillsHost,
    "leaks-host-environment" => LeaksHostEnvironment,
    "unrestricted-egress" => UnrestrictedEgress,
    "denies-allowed-egress" => DeniesAllowedEgress,
    "wildcard-opens-loopback" => WildcardOpensLoopback,
    "wildcard-opens-loopback-sockets" => WildcardOpensLoopbackSockets,
    "denies-localhost" => DeniesLocalhost,
    "accepts-malformed-allow-list" => AcceptsMalformedAllowList,
    "grants-undeclared-imports" => GrantsUndeclaredImports,
    "accepts-unmet-import" => AcceptsUnmetImport,
    "refuses-unused-interface" => RefusesUnusedInterface,
    "accepts-missing-host-path" => AcceptsMissingHostPath,
    "drops-unknown-mount" => DropsUnknownMount,
    "writable-read-only" => WritableReadOnly,
    "shared-empty-dir" => SharedEmptyDir,
    /// Nothing interrupts a guest: a stop waits until it ends by itself.
    "no-epoch-interruption" => NoEpochInterruption,
    "unrestricted-sockets" => UnrestrictedSockets,
    "shared-config" => SharedConfig,
}
