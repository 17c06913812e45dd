//! The mutants of the model host: each is wrong in exactly one way, named by the index of requirements.

macro_rules! mutants {
    ($($variant:ident $name:literal $fault:literal;)*) => {
        /// One deliberate fault of the model host. [`Mutant::fault`] says what it does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $(#[doc = $fault] $variant,)*
        }

        impl Mutant {
            /// Every mutant, in the order of the specification.
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)*];

            /// The name in the index of requirements, after `mutant:`.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$variant => $name,)* }
            }

            /// What it does wrong, in one sentence.
            pub const fn fault(self) -> &'static str {
                match self { $(Mutant::$variant => $fault,)* }
            }
        }
    };
}

mutants! {
    NoStopCommand "no-stop-command" "Does not know the command workload.stop.";
    DoubleReply "double-reply" "Sends every reply twice.";
    IgnoresRequestsWithoutReply "ignores-requests-without-reply" "Drops a command that carries no reply subject.";
    SilentOnMalformed "silent-on-malformed" "Does not answer what it cannot read.";
    SilentOnUnknownCommand "silent-on-unknown-command" "Does not answer a command it does not know.";
    HeartbeatRequestWantsJson "heartbeat-request-wants-json" "Refuses a heartbeat request whose payload is not JSON.";
    TrimsIds "trims-ids" "Strips white space from workload ids.";
    TruncatesLongIds "truncates-long-ids" "Cuts ids after 256 bytes instead of refusing them.";
    OversizedReply "oversized-reply" "Quotes a refused id in the message, however long.";
    DiesOfDeepNesting "dies-of-deep-nesting" "Stops serving after a payload of many open brackets.";
    HostIdWithDot "host-id-with-dot" "Uses a host id of two subject tokens.";
    SubscribesToAllHosts "subscribes-to-all-hosts" "Subscribes to the commands of every host.";
    HeartbeatBeforeSubscribing "heartbeat-before-subscribing" "Publishes its first heartbeat before it subscribes.";
    PublishesOnForeignSubject "publishes-on-foreign-subject" "Publishes its heartbeat on another host's subject as well.";
    SlowStatus "slow-status" "Takes 8 s to answer status.";
    RejectsHeaders "rejects-headers" "Refuses requests with headers.";
    ExtraField "extra-field" "Writes a field that is not in the schema.";
    SnakeCase "snake-case" "Writes field names in snake_case.";
    EnumAsNumber "enum-as-number" "Writes states as numbers.";
    Int64AsNumber "int64-as-number" "Writes 64-bit integers as JSON numbers.";
    TimestampAsSeconds "timestamp-as-seconds" "Writes timestamps as seconds since 1970.";
    WritesNull "writes-null" "Writes null where a field is not set.";
    EmptyReply "empty-reply" "Answers status with an empty object.";
    TrailingBytes "trailing-bytes" "Writes a second object behind the first.";
    RejectsUnknownFields "rejects-unknown-fields" "Refuses requests with fields it does not know.";
    RejectsProtoNames "rejects-proto-names" "Reads lowerCamelCase names only.";
    RejectsEnumNumbers "rejects-enum-numbers" "Reads enum names only.";
    RejectsNumericStrings "rejects-numeric-strings" "Reads JSON numbers only.";
    RejectsNull "rejects-null" "Refuses null.";
    RequiresEmptyFields "requires-empty-fields" "Refuses a workload without a name.";
    AcceptsBothOneofMembers "accepts-both-oneof-members" "Takes the first of two members of a oneof.";
    AcceptsWrongTypes "accepts-wrong-types" "Reads a value of the wrong type as the default.";
    NeedsCompactJson "needs-compact-json" "Refuses JSON with white space between its tokens.";
    WrappedHeartbeat "wrapped-heartbeat" "Publishes heartbeats inside a HostHeartbeatRequest.";
    LateFirstHeartbeat "late-first-heartbeat" "Waits 9 s before its first heartbeat.";
    RareHeartbeats "rare-heartbeats" "Sends a heartbeat every 40 s.";
    HeartbeatBurst "heartbeat-burst" "Sends three heartbeats at a time.";
    NoFriendlyName "no-friendly-name" "Leaves friendlyName out.";
    FriendlyNameWithSpaces "friendly-name-with-spaces" "Uses a friendlyName with spaces and capitals.";
    FriendlyNameChanges "friendly-name-changes" "Makes up a new friendlyName for each heartbeat.";
    WorkloadCountStale "workload-count-stale" "Always reports the same workloadCount.";
    NamelessInterface "nameless-interface" "Lists an interface without a package.";
    StartNeverRuns "start-never-runs" "Leaves every workload in STARTING.";
    DuplicateStartReplaces "duplicate-start-replaces" "Replaces what has the id of a second start.";
    SimultaneousStartsAllWin "simultaneous-starts-all-win" "Looks at the id first and claims it later.";
    AcceptsEmptyId "accepts-empty-id" "Starts a workload with an empty id.";
    AcceptsMissingWorkload "accepts-missing-workload" "Reads an absent workload as an empty one.";
    RefusesEmptyWorkload "refuses-empty-workload" "Refuses a workload with nothing in it.";
    RefusesNegativePool "refuses-negative-pool" "Refuses a negative poolSize.";
    ErrorWithoutMessage "error-without-message" "Leaves the message of errors out.";
    IdStaysTaken "id-stays-taken" "Never accepts an id again.";
    AcceptsCastMaxRestarts "accepts-cast-max-restarts" "Accepts any maxRestarts.";
    StartAnswerWaitsForever "start-answer-waits-forever" "Answers a start when it is done, whenever that is.";
    ClaimsAfterPull "claims-after-pull" "Knows nothing of an id until its images are there.";
    OneCommandAtATime "one-command-at-a-time" "Serves one command after the other.";
    NoHeartbeatsDuringStart "no-heartbeats-during-start" "Sends no heartbeat while a start is at work.";
    ForgetsFailedStart "forgets-failed-start" "Keeps no record of a failed start.";
    ErrorBlocksId "error-blocks-id" "Refuses a new start for an id whose image could not be pulled.";
    ReplyAndStatusDisagree "reply-and-status-disagree" "Answers a start with RUNNING and status with STARTING for 3 s.";
    RerunsCompleted "reruns-completed" "Runs a COMPLETED workload again when it is started again.";
    UnknownIsRunning "unknown-is-running" "Answers status of an unknown id with RUNNING.";
    StatusWithoutId "status-without-id" "Leaves the id out of answers to status and stop.";
    EmptyIdNotFound "empty-id-not-found" "Answers an empty id with NOT_FOUND.";
    StopAnswersCompleted "stop-answers-completed" "Answers a stop with COMPLETED.";
    StoppedStaysStopping "stopped-stays-stopping" "Leaves a stopped id in STOPPING.";
    StopNotIdempotent "stop-not-idempotent" "Answers the stop of an unknown id with ERROR.";
    StopStopsAll "stop-stops-all" "Stops every workload at once.";
    StopWaitsForStart "stop-waits-for-start" "Stops a workload only after its start is done.";
    ErrorCannotBeStopped "error-cannot-be-stopped" "Refuses to stop an id in ERROR.";
    CompletedCannotBeStopped "completed-cannot-be-stopped" "Refuses to stop a COMPLETED id.";
    StopLeavesGuestRunning "stop-leaves-guest-running" "Forgets a stopped workload and lets its service run on.";
    CompletedNeverReported "completed-never-reported" "Reports RUNNING after a service ended well.";
    ExitZeroIsFailure "exit-zero-is-failure" "Takes exit code 0 for a failure.";
    ErrorResultIsSuccess "error-result-is-success" "Takes a returned error for success.";
    TrapIsSuccess "trap-is-success" "Takes a trap for success.";
    ExitOneIsSuccess "exit-one-is-success" "Takes any exit code for success.";
    RestartsOffByOne "restarts-off-by-one" "Runs a failing service once more than it may.";
    ExhaustedReadsRunning "exhausted-reads-running" "Reports RUNNING when the restarts are used up.";
    RestartHidesStarting "restart-hides-starting" "Reports RUNNING between two runs.";
    RestartsWithoutBackoff "restarts-without-backoff" "Restarts at once.";
    RestartReusesMemory "restart-reuses-memory" "Restarts a service in the memory it left.";
    BudgetNeverResets "budget-never-resets" "Counts restarts over the whole life of a service.";
    CrashStopsNeighbours "crash-stops-neighbours" "Ends every service when one fails.";
    RunsWithoutRun "runs-without-run" "Reports a service with nothing to run as RUNNING.";
    StartWaitsForEnd "start-waits-for-end" "Reports STARTING until a service ends.";
    StopForgetsPendingRestart "stop-forgets-pending-restart" "Restarts a service that was stopped between two runs.";
    CompletedIsForgotten "completed-is-forgotten" "Forgets finished workloads after half a second.";
    NoDigestReferences "no-digest-references" "Cannot pull by digest.";
    SkipsDigestCheck "skips-digest-check" "Believes whatever the registry sends.";
    MissingImageRuns "missing-image-runs" "Reports RUNNING for an image that the registry does not have.";
    UnreachableRegistryHangs "unreachable-registry-hangs" "Waits for ever for a registry that does not answer the door.";
    RunsAnything "runs-anything" "Reports RUNNING for bytes it cannot run.";
    BadReferenceRuns "bad-reference-runs" "Reports RUNNING for references that are not well formed.";
    UnboundedPull "unbounded-pull" "Waits for ever for a registry that hangs.";
    UnboundedImage "unbounded-image" "Never gives up on an image without end.";
    RunsTruncatedImage "runs-truncated-image" "Takes a truncated image for a whole one.";
    AlwaysUsesCache "always-uses-cache" "Takes ALWAYS for IF_NOT_PRESENT.";
    IfNotPresentAsksRegistry "if-not-present-asks-registry" "Asks the registry even for what it has.";
    NeverAsksRegistry "never-asks-registry" "Takes NEVER for IF_NOT_PRESENT.";
    NeverAlwaysFails "never-always-fails" "Refuses every image with NEVER.";
    IgnoresPullSecret "ignores-pull-secret" "Pulls without credentials.";
    UnauthorisedRuns "unauthorised-runs" "Reports RUNNING for an image it may not pull.";
    SendsCredentialsUnasked "sends-credentials-unasked" "Sends credentials with every request.";
    FailedPullWedgesHost "failed-pull-wedges-host" "Starts nothing any more after a failed pull.";
    NoResubscribe "no-resubscribe" "Reconnects without subscribing again.";
    NoHeartbeatAfterReconnect "no-heartbeat-after-reconnect" "Waits for the next tick after reconnecting.";
    OutageStopsWorkloads "outage-stops-workloads" "Stops everything when the connection is lost.";
    BurstAfterOutage "burst-after-outage" "Sends the heartbeats that it missed after reconnecting.";
    AnswersDuplicatesOnce "answers-duplicates-once" "Drops a request that looks like one it has seen.";
    RetryRestarts "retry-restarts" "Starts a running workload afresh when the same start arrives again.";
    DropsUnderLoad "drops-under-load" "Drops requests while more than 20 are at work.";
    GivesUpReconnecting "gives-up-reconnecting" "Exits when the broker stays away for a minute.";
    NeverPings "never-pings" "Never asks whether its connection still lives.";
    UnsubscribesLast "unsubscribes-last" "Stops its workloads for 3 s before it unsubscribes.";
    IgnoresSigterm "ignores-sigterm" "Ignores signals.";
    DropsRequestsOnShutdown "drops-requests-on-shutdown" "Exits without answering what it received.";
    HeartbeatAfterShutdown "heartbeat-after-shutdown" "Says goodbye with a heartbeat.";
    LeavesGuestsBehind "leaves-guests-behind" "Leaves its services running in another process.";
    CredentialInMessage "credential-in-message" "Quotes the pull secret when a pull fails.";
    CredentialInLog "credential-in-log" "Logs requests as they arrive.";
    FalseAbilityLabel "false-ability-label" "Announces an ability with the value false.";
}

impl Mutant {
    /// The mutant of that name, if there is one.
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
        /// A way in which the model host differs from itself and stays within the specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Variant {
            $(#[doc = $difference] $variant,)*
        }

        impl Variant {
            /// Every legal variant.
            pub const ALL: &[Variant] = &[$(Variant::$variant,)*];

            /// The name on the command line and in the kill matrix.
            pub const fn name(self) -> &'static str {
                match self { $(Variant::$variant => $name,)* }
            }

            /// How it differs, in one sentence.
            pub const fn difference(self) -> &'static str {
                match self { $(Variant::$variant => $difference,)* }
            }
        }
    };
}

variants! {
    KeyOrder "key-order" "Writes the keys of its objects backwards.";
    WhiteSpace "white-space" "Writes its JSON with line breaks and indentation.";
    DefaultsWrittenOut "defaults-written-out" "Writes fields that have their default value.";
    TimeWithZ "time-with-z" "Writes timestamps with Z and without a fraction.";
    TimeWithOffset "time-with-offset" "Writes timestamps with the offset +00:00 and nanoseconds.";
    ReplyHeaders "reply-headers" "Sends headers with every reply and every heartbeat.";
    MoreLabels "more-labels" "Has more labels, some of them with prefixes.";
    MoreHeartbeats "more-heartbeats" "Sends a heartbeat every 1.5 s.";
    SlowButInTime "slow-but-in-time" "Takes 1.5 s for every answer.";
    OtherWording "other-wording" "Words its messages differently, in another language.";
    NoPlugins "no-plugins" "Lists no interfaces at all.";
}

impl Variant {
    /// The variant of that name, if there is one.
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
    fn the_index_and_the_mutants_name_each_other() {
        let indexed: BTreeSet<String> = requirements::ALL
            .iter()
            .filter_map(|requirement| requirement.breaks)
            .filter_map(|breaks| match breaks {
                requirements::Breaks::Mutant(name) => Some(name.to_owned()),
                requirements::Breaks::Breakage(_) => None,
            })
            .collect();
        let built: BTreeSet<String> = Mutant::ALL.iter().map(|m| m.name().to_owned()).collect();
        assert_eq!(indexed, built);
    }
}
