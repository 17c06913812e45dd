//! The mutants of the model host, each with exactly one fault, and its conforming variants.

macro_rules! mutants {
    ($($variant:ident $name:literal $fault:literal;)*) => {
        /// A fault of the model host; [`Mutant::fault`] describes it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $(#[doc = $fault] $variant,)*
        }

        impl Mutant {
            /// All mutants, in the order of the specification.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)*];

            /// Returns the name, which follows `mutant:` in the index of requirements.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$variant => $name,)* }
            }

            /// Returns a one-sentence description of the fault.
            pub const fn fault(self) -> &'static str {
                match self { $(Mutant::$variant => $fault,)* }
            }
        }
    };
}

mutants! {
    NoStopCommand "no-stop-command" "Does not implement `workload.stop`.";
    DoubleReply "double-reply" "Sends every reply twice.";
    IgnoresRequestsWithoutReply "ignores-requests-without-reply"
        "Drops a command that has no reply subject.";
    SilentOnMalformed "silent-on-malformed" "Does not reply to a request that it cannot decode.";
    SilentOnUnknownCommand "silent-on-unknown-command" "Does not reply to an unknown command.";
    HeartbeatRequestRequiresJson "heartbeat-request-requires-json"
        "Refuses a heartbeat request whose payload is not JSON.";
    TrimsIds "trims-ids" "Strips white space from workload ids.";
    TruncatesLongIds "truncates-long-ids" "Cuts ids after 256 bytes instead of refusing them.";
    OversizedReply "oversized-reply" "Quotes a refused id in the message, however long it is.";
    HangsOnDeepNesting "hangs-on-deep-nesting"
        "Stops serving after a payload with many nested brackets.";
    HostIdWithDot "host-id-with-dot" "Uses a host id of two subject tokens.";
    SubscribesToAllHosts "subscribes-to-all-hosts" "Subscribes to the commands of every host.";
    HeartbeatBeforeSubscribing "heartbeat-before-subscribing"
        "Publishes its first heartbeat before it subscribes.";
    PublishesOnForeignSubject "publishes-on-foreign-subject"
        "Publishes its heartbeat on another host's subject as well.";
    SlowStatus "slow-status" "Takes 8 s to reply to a status request.";
    RejectsHeaders "rejects-headers" "Refuses requests with headers.";
    ExtraField "extra-field" "Writes a field that is not in the schema.";
    SnakeCase "snake-case" "Writes field names in snake_case.";
    EnumAsNumber "enum-as-number" "Writes states as numbers.";
    Int64AsNumber "int64-as-number" "Writes 64-bit integers as JSON numbers.";
    TimestampAsSeconds "timestamp-as-seconds" "Writes timestamps as seconds since 1970.";
    WritesNull "writes-null" "Writes null for a field that is not set.";
    EmptyReply "empty-reply" "Replies to a status request with an empty object.";
    TrailingBytes "trailing-bytes" "Writes a second object after the first.";
    RejectsUnknownFields "rejects-unknown-fields" "Refuses requests with unknown fields.";
    RejectsProtoNames "rejects-proto-names" "Does not accept field names in snake_case.";
    RejectsEnumNumbers "rejects-enum-numbers" "Refuses enum values that are written as numbers.";
    RejectsNumericStrings "rejects-numeric-strings"
        "Refuses integers that are written as JSON strings.";
    RejectsNull "rejects-null" "Refuses null.";
    RequiresWorkloadName "requires-workload-name" "Refuses a workload without a name.";
    AcceptsBothOneofMembers "accepts-both-oneof-members"
        "Accepts a request that sets two members of a oneof.";
    AcceptsWrongTypes "accepts-wrong-types" "Reads a value of the wrong type as the default.";
    RequiresCompactJson "requires-compact-json" "Refuses JSON with white space between its tokens.";
    WrappedHeartbeat "wrapped-heartbeat" "Publishes heartbeats inside a HostHeartbeatRequest.";
    LateFirstHeartbeat "late-first-heartbeat" "Waits 9 s before its first heartbeat.";
    InfrequentHeartbeats "infrequent-heartbeats" "Publishes a heartbeat every 40 s.";
    HeartbeatBurst "heartbeat-burst" "Publishes three heartbeats at a time.";
    NoFriendlyName "no-friendly-name" "Omits friendlyName.";
    FriendlyNameWithSpaces "friendly-name-with-spaces"
        "Uses a friendlyName with spaces and capitals.";
    UnstableFriendlyName "unstable-friendly-name"
        "Generates a new friendlyName for each heartbeat.";
    ConstantWorkloadCount "constant-workload-count" "Always reports the same workloadCount.";
    InterfaceWithoutPackage "interface-without-package" "Lists an interface without a package.";
    HostnameWithPort "hostname-with-port" "Adds a port to its hostname.";
    StartNeverRuns "start-never-runs" "Leaves every workload in STARTING.";
    DuplicateStartReplaces "duplicate-start-replaces"
        "Replaces a workload when a second start has the same id.";
    SimultaneousStartsAllWin "simultaneous-starts-all-win"
        "Checks before a start whether an id is free, but claims the id only later.";
    AcceptsEmptyId "accepts-empty-id" "Starts a workload with an empty id.";
    AcceptsMissingWorkload "accepts-missing-workload" "Reads an absent workload as an empty one.";
    RefusesEmptyWorkload "refuses-empty-workload"
        "Refuses a workload that has neither components nor a service.";
    RefusesNegativePoolSize "refuses-negative-pool-size" "Refuses a negative poolSize.";
    ErrorWithoutMessage "error-without-message" "Omits the message of errors.";
    NeverFreesIds "never-frees-ids" "Refuses a start for an id that was used before.";
    AcceptsOverflowedMaxRestarts "accepts-overflowed-max-restarts" "Accepts any maxRestarts.";
    UnboundedStartReply "unbounded-start-reply"
        "Replies to a start only when it is done, however long it takes.";
    ClaimsAfterPull "claims-after-pull" "Does not know an id until its images are pulled.";
    OneCommandAtATime "one-command-at-a-time" "Executes one command after the other.";
    NoHeartbeatsDuringStart "no-heartbeats-during-start"
        "Publishes no heartbeat while a start is in progress.";
    ForgetsFailedStart "forgets-failed-start" "Keeps no record of a failed start.";
    ErrorBlocksId "error-blocks-id"
        "Refuses a new start for an id whose image could not be pulled.";
    ReplyAndStatusDisagree "reply-and-status-disagree"
        "Replies to a start with RUNNING, but for 3 s to status requests with STARTING.";
    RerunsCompleted "reruns-completed" "Runs a COMPLETED workload again when it is started again.";
    UnknownIsRunning "unknown-is-running" "Reports an unknown id as RUNNING.";
    ReplyWithoutId "reply-without-id" "Omits the id from replies to status and stop requests.";
    EmptyIdNotFound "empty-id-not-found" "Reports an empty id as NOT_FOUND.";
    StopReturnsCompleted "stop-returns-completed" "Replies to a stop with COMPLETED.";
    StoppedStaysStopping "stopped-stays-stopping" "Leaves a stopped id in STOPPING.";
    StopNotIdempotent "stop-not-idempotent" "Replies to the stop of an unknown id with ERROR.";
    StopStopsAll "stop-stops-all" "Stops every workload when one is stopped.";
    StopWaitsForStart "stop-waits-for-start" "Stops a workload only after its start is done.";
    ErrorCannotBeStopped "error-cannot-be-stopped" "Refuses to stop an id in ERROR.";
    CompletedCannotBeStopped "completed-cannot-be-stopped" "Refuses to stop a COMPLETED id.";
    StopLeavesGuestRunning "stop-leaves-guest-running"
        "Forgets a stopped workload and leaves its service running.";
    CanceledStartIsError "canceled-start-is-error"
        "Replies with ERROR to a start that a stop cancels.";
    CompletedNeverReported "completed-never-reported"
        "Reports RUNNING after a service has succeeded.";
    ExitZeroIsFailure "exit-zero-is-failure" "Treats exit code 0 as a failure.";
    ErrorResultIsSuccess "error-result-is-success" "Treats a returned error as a success.";
    TrapIsSuccess "trap-is-success" "Treats a trap as a success.";
    NonzeroExitIsSuccess "nonzero-exit-is-success" "Treats any exit code as a success.";
    RestartsOffByOne "restarts-off-by-one" "Runs a failing service once too often.";
    ExhaustedReportedAsRunning "exhausted-reported-as-running"
        "Reports RUNNING when no restarts are left.";
    BackoffReportedAsRunning "backoff-reported-as-running" "Reports RUNNING between two runs.";
    RestartsWithoutBackoff "restarts-without-backoff" "Restarts a failed service at once.";
    RestartReusesMemory "restart-reuses-memory"
        "Restarts a service with the memory of its previous run.";
    RestartBudgetNeverResets "restart-budget-never-resets"
        "Counts restarts over the whole lifetime of a service.";
    CrashStopsOtherServices "crash-stops-other-services" "Ends every service when one fails.";
    RunsServiceWithoutEntryPoint "runs-service-without-entry-point"
        "Reports a service without an entry point as RUNNING.";
    StartingUntilExit "starting-until-exit" "Reports STARTING until a service ends.";
    StopKeepsPendingRestart "stop-keeps-pending-restart"
        "Restarts a service that was stopped between two runs.";
    ForgetsCompleted "forgets-completed" "Forgets finished workloads after half a second.";
    NoDigestReferences "no-digest-references" "Cannot pull by digest.";
    SkipsDigestCheck "skips-digest-check" "Does not verify the digest of pulled content.";
    MissingImageRuns "missing-image-runs"
        "Reports RUNNING for an image that the registry does not have.";
    UnreachableRegistryHangs "unreachable-registry-hangs"
        "Waits without a limit for a registry that refuses connections.";
    RunsUnsupportedImages "runs-unsupported-images"
        "Reports RUNNING for an image that it cannot run.";
    MalformedReferenceRuns "malformed-reference-runs"
        "Reports RUNNING for malformed image references.";
    UnboundedPull "unbounded-pull" "Waits without a limit for a registry that hangs.";
    UnboundedImageSize "unbounded-image-size" "Never gives up on an image that never ends.";
    RunsTruncatedImage "runs-truncated-image" "Runs a truncated image.";
    AlwaysPolicyUsesCache "always-policy-uses-cache" "Treats ALWAYS as IF_NOT_PRESENT.";
    IfNotPresentPolicyContactsRegistry "if-not-present-policy-contacts-registry"
        "Under IF_NOT_PRESENT, contacts the registry for an image that is in the cache.";
    NeverPolicyContactsRegistry "never-policy-contacts-registry" "Treats NEVER as IF_NOT_PRESENT.";
    NeverPolicyAlwaysFails "never-policy-always-fails" "Refuses every image with the policy NEVER.";
    IgnoresPullSecret "ignores-pull-secret" "Pulls without credentials.";
    UnauthorizedImageRuns "unauthorized-image-runs"
        "Reports RUNNING for an image that it is not allowed to pull.";
    SendsCredentialsPreemptively "sends-credentials-preemptively"
        "Sends credentials with every request to a registry, even without a challenge.";
    FailedPullWedgesHost "failed-pull-wedges-host" "Starts no workload after a failed pull.";
    NoResubscribe "no-resubscribe" "Does not subscribe again after a reconnect.";
    NoHeartbeatAfterReconnect "no-heartbeat-after-reconnect"
        "Publishes no heartbeat right after a reconnect.";
    OutageStopsWorkloads "outage-stops-workloads"
        "Stops all workloads when the connection is lost.";
    BurstAfterOutage "burst-after-outage" "Publishes the missed heartbeats after a reconnect.";
    DropsDuplicateRequests "drops-duplicate-requests"
        "Drops a request that equals an earlier request.";
    RetriedStartRestarts "retried-start-restarts"
        "Restarts a running workload when the same start arrives again.";
    DropsRequestsUnderLoad "drops-requests-under-load"
        "Drops requests while more than 20 are in progress.";
    GivesUpReconnecting "gives-up-reconnecting"
        "Exits when the broker is unreachable for a minute.";
    NeverPings "never-pings" "Never checks whether its connection is alive.";
    UnsubscribesLast "unsubscribes-last"
        "Unsubscribes only after 3 s in which it stops its workloads.";
    IgnoresSigterm "ignores-sigterm" "Ignores signals.";
    DropsRequestsOnShutdown "drops-requests-on-shutdown"
        "Exits without replying to the requests that it has received.";
    HeartbeatAfterShutdown "heartbeat-after-shutdown"
        "Publishes one more heartbeat after it has unsubscribed.";
    LeavesGuestsBehind "leaves-guests-behind"
        "Leaves its services running in another process when it exits.";
    CredentialInMessage "credential-in-message" "Quotes the pull secret when a pull fails.";
    CredentialInLog "credential-in-log" "Logs each request, including the pull secret.";
    FalseExtensionLabel "false-extension-label" "Announces an extension with the value false.";
    AnnouncesDiscoveryOnly "announces-discovery-only"
        "Announces discovery, but does not reply to discovery requests.";
}

impl Mutant {
    /// Returns the mutant with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL
            .iter()
            .copied()
            .find(|mutant| mutant.name() == name)
    }
}

macro_rules! variants {
    ($($variant:ident $name:literal $difference:literal;)*) => {
        /// A variant of the model host that conforms to the specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Variant {
            $(#[doc = $difference] $variant,)*
        }

        impl Variant {
            /// All variants.
            pub const ALL: &[Variant] = &[$(Variant::$variant,)*];

            /// Returns the name on the command line and in the kill matrix.
            pub const fn name(self) -> &'static str {
                match self { $(Variant::$variant => $name,)* }
            }

            /// Returns a one-sentence description of the difference.
            pub const fn difference(self) -> &'static str {
                match self { $(Variant::$variant => $difference,)* }
            }
        }
    };
}

variants! {
    ReversedKeys "reversed-keys" "Writes the keys of its objects in reverse order.";
    PrettyJson "pretty-json" "Writes its JSON with line breaks and indentation.";
    ExplicitDefaults "explicit-defaults" "Writes fields that have their default value.";
    TimestampWithoutFraction "timestamp-without-fraction"
        "Writes timestamps with Z and without a fraction.";
    TimestampWithOffset "timestamp-with-offset"
        "Writes timestamps with the offset +00:00 and nanoseconds.";
    ExtraHeaders "extra-headers" "Sends headers with every reply and every heartbeat.";
    ExtraLabels "extra-labels" "Has additional labels, some of them with prefixes.";
    FrequentHeartbeats "frequent-heartbeats" "Publishes a heartbeat every 1.5 s.";
    SlowWithinDeadlines "slow-within-deadlines" "Takes 1.5 s for every reply.";
    LocalizedMessages "localized-messages" "Writes its messages in German.";
    NoPlugins "no-plugins" "Lists no interfaces.";
}

impl Variant {
    /// Returns the variant with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Variant> {
        Variant::ALL
            .iter()
            .copied()
            .find(|variant| variant.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::requirements;

    #[test]
    fn index_and_mutants_match() {
        let indexed: BTreeSet<String> = requirements::ALL
            .iter()
            .filter_map(|requirement| requirement.breaks)
            .filter_map(|breaks| match breaks {
                requirements::Breaks::Mutant(name) => Some(name.to_owned()),
                requirements::Breaks::Breakage(_) => None,
            })
            .collect();
        let mutants = Mutant::ALL.iter().map(|mutant| mutant.name().to_owned());
        assert_eq!(indexed, mutants.collect::<BTreeSet<_>>());
    }
}
