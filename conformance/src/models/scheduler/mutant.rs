//! The mutants of the model scheduler: each is wrong in one way, named by the index of requirements; and variants
//! that are right.

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $text:literal $what:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $what] $variant,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The name in the index of requirements and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it does, in one sentence.
            pub const fn what(self) -> &'static str {
                match self { $($name::$variant => $what,)* }
            }

            /// The one of that name, if there is one.
            #[must_use]
            pub fn named(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

named! {
    /// One deliberate fault of the model scheduler.
    Mutant {
        WritesUnknownField "writes-unknown-field" "Writes a field of its own into every request.";
        WritesProtoNames "writes-proto-names" "Writes field names as the schema file has them.";
        WritesRestartsAsNumber "writes-restarts-as-number" "Writes a 64-bit integer as a number.";
        WritesNull "writes-null" "Writes null for what is not set.";
        WritesTrailingBytes "writes-trailing-bytes" "Writes a second object behind the first.";
        WritesZeroLimits "writes-zero-limits" "Writes zeros that nobody asked for.";
        StrictReader "strict-reader" "Refuses messages with fields that it does not know.";
        CamelCaseReader "camel-case-reader" "Knows fields by their JSON names only, and states by text only.";
        WantsNumberStrings "wants-number-strings" "Takes figures for absent that are written as numbers.";
        NullIsMalformed "null-is-malformed" "Refuses messages with null in them.";
        GarbageEndsHeartbeats "garbage-ends-heartbeats" "Reads no more heartbeats after one that it cannot read.";
        AnyReplyWillDo "any-reply-will-do" "Takes every reply for RUNNING.";
        CommandsByFriendlyName "commands-by-friendly-name" "Sends commands to the friendlyName of a host.";
        AnnouncesItself "announces-itself" "Publishes a heartbeat of its own.";
        ListsWorkloads "lists-workloads" "Probes hosts with a command that there is not.";
        OversizedStartEndsIt "oversized-start-ends-it" "Ends when a start does not fit.";
        ProbesWithHeartbeats "probes-with-heartbeats" "Probes hosts with heartbeat requests.";
        PollsWithoutPause "polls-without-pause" "Asks for each workload twenty times a second.";
        SecondHeartbeatRegisters "second-heartbeat-registers" "Uses a host only after many heartbeats.";
        WantsHeartbeatReply "wants-heartbeat-reply" "Uses only hosts that answer heartbeat requests.";
        FirstHeartbeatForEver "first-heartbeat-for-ever" "Goes by the first heartbeat of a host.";
        HostsByFriendlyName "hosts-by-friendly-name" "Takes hosts of one friendlyName for one host.";
        WantsLegalNames "wants-legal-names" "Uses only hosts whose friendlyName is a DNS name.";
        TrustsThePayloadId "trusts-the-payload-id" "Takes the id in a heartbeat for true whatever its subject.";
        TakesAnyHostId "takes-any-host-id" "Uses hosts with ids that are no ids.";
        OneIdOneProcess "one-id-one-process" "Does not look at startedAt.";
        WaitsForSilence "waits-for-silence" "Does not heed no responders.";
        WaitsForNoResponders "waits-for-no-responders" "Never gives up a host that stays connected.";
        MissedBeatsAreDeath "missed-beats-are-death" "Gives a host up that misses heartbeats.";
        OneNoRespondersIsDeath "one-no-responders-is-death" "Gives a host up when nobody listened once.";
        BusyIsDead "busy-is-dead" "Gives a host up that is silent over a start.";
        SlowIsDead "slow-is-dead" "Counts heartbeats only as signs of life.";
        ForgetsTheLost "forgets-the-lost" "Forgets what runs on a lost host.";
        LostForEver "lost-for-ever" "Never uses a host again that was lost.";
        TrustsAStaleHeartbeat "trusts-a-stale-heartbeat" "Places workloads on hosts that are lost.";
        DeletesOnSilence "deletes-on-silence" "Deletes what ran on a lost host.";
        IdsFromNames "ids-from-names" "Makes ids of names.";
        ReusesIds "reuses-ids" "Starts a replica again under its old id.";
        RetriesElsewhereUnderOneId "retries-elsewhere-under-one-id" "Repeats a start on another host under the same id.";
        StartsAnewWithoutAsking "starts-anew-without-asking" "Starts anew after a start without an answer.";
        RetryErrorIsFailure "retry-error-is-failure" "Takes the refusal of a repeated start for a failure.";
        ErrorReplyIsPlaced "error-reply-is-placed" "Does not read the state in the reply to a start.";
        HidesTheMessage "hides-the-message" "Does not show what hosts say.";
        RetriesWithoutPause "retries-without-pause" "Tries again at once, for ever.";
        GivesUp "gives-up" "Does not try again after a failure.";
        ImpatientForReplies "impatient-for-replies" "Waits 3 s for the reply to a start.";
        StartingIsFailure "starting-is-failure" "Takes STARTING for a failure.";
        SticksToTheFirstHost "sticks-to-the-first-host" "Sends a start again to a host where nobody listened.";
        InsistsOnOneHost "insists-on-one-host" "Asks the host again that refused.";
        LeavesErrorsBehind "leaves-errors-behind" "Does not stop what is in ERROR.";
        StartsInTwoPlaces "starts-in-two-places" "Starts a workload before the last one is gone.";
        OneCallAtATime "one-call-at-a-time" "Waits for each answer before it sends anything else.";
        CastsNegativeNumbers "casts-negative-numbers" "Sends a negative maxRestarts as a huge one.";
        ResubmissionRestarts "resubmission-restarts" "Starts anew what is submitted again.";
        NeverPolls "never-polls" "Does not ask for what runs.";
        ReadyForEver "ready-for-ever" "Shows what ran once as ready.";
        NeverReplaces "never-replaces" "Starts nothing in the place of what ended.";
        LostStatusIsDeath "lost-status-is-death" "Gives a workload up after one status without an answer.";
        RestartsCompleted "restarts-completed" "Starts again what has completed.";
        CompletedReadsRunning "completed-reads-running" "Does not show that a workload has completed.";
        ForgetsToStop "forgets-to-stop" "Forgets what is deleted, and stops nothing.";
        StopsTheNeighbour "stops-the-neighbour" "Stops another workload as well.";
        StopsOnce "stops-once" "Sends a stop once.";
        StoppingIsGone "stopping-is-gone" "Takes STOPPING for the end.";
        StopsForEver "stops-for-ever" "Goes on with stops after NOT_FOUND.";
        UnansweredStartUnstopped "unanswered-start-unstopped" "Does not stop what has not answered its start.";
        StopOvertakesStart "stop-overtakes-start" "Sends the stop of an id before its start.";
        WaitsForTheDead "waits-for-the-dead" "Keeps what is deleted until its lost host returns.";
        ReportsDeletionEarly "reports-deletion-early" "Shows what is deleted as gone at once.";
        DeletedComesBack "deleted-comes-back" "Starts what was deleted once more.";
        IgnoresSelector "ignores-selector" "Does not look at labels other than the host group.";
        PlacesAnyway "places-anyway" "Places workloads that fit nowhere.";
        WaitsWithoutAWord "waits-without-a-word" "Does not say why a workload waits.";
        NeverLooksAgain "never-looks-again" "Does not look for a host again.";
        QueuesWhileWaiting "queues-while-waiting" "Sends every attempt that waited when a host comes.";
        IgnoresEnvironment "ignores-environment" "Does not look at the environment of hosts.";
        PinIsAHint "pin-is-a-hint" "Places a workload elsewhere than on the host that it names.";
        PinBeatsSelector "pin-beats-selector" "Looks at nothing else when a workload names a host.";
        PinBecomesASubject "pin-becomes-a-subject" "Sends a start to whatever a workload names.";
        PilesUp "piles-up" "Places everything on one host.";
        IgnoresLoad "ignores-load" "Does not look at the load of hosts.";
        IgnoresImports "ignores-imports" "Does not look at what hosts offer.";
        HttpByImports "http-by-imports" "Looks for wasi:http in the imports of hosts.";
        BaselineByImports "baseline-by-imports" "Looks for the baseline in the imports of hosts.";
        IgnoresVersions "ignores-versions" "Does not look at the versions of interfaces.";
        Rebalances "rebalances" "Moves what runs when a host comes.";
        EndsWithTheBroker "ends-with-the-broker" "Ends when the broker goes.";
        OutageIsDeath "outage-is-death" "Gives all hosts up that were not heard during an outage.";
        NoSettling "no-settling" "Heeds no responders right after an outage.";
        SendsLateCommands "sends-late-commands" "Keeps commands while the broker is away, and sends them then.";
        OwnSilenceIsTheirs "own-silence-is-theirs" "Takes its own loss of the broker for the end of hosts.";
        BelievesTheCrowd "believes-the-crowd" "Gives a whole crowd of hosts up at once.";
        WaitsForEverAfterOutage "waits-for-ever-after-outage" "Never gives a host up that did not come back after an outage.";
        RestartsEverything "restarts-everything" "Remembers nothing, and starts everything again.";
        ForgetsStops "forgets-stops" "Does not remember what is to be stopped.";
        ForgetsStarts "forgets-starts" "Does not remember starts without an answer.";
        MissesDeletions "misses-deletions" "Does not see what was deleted while it was away.";
        TrustsTheOldFleet "trusts-the-old-fleet" "Takes hosts that it remembers for alive.";
        ExitsWithoutBroker "exits-without-broker" "Ends when there is no broker at first.";
        TwoLeaders "two-leaders" "Acts beside another instance.";
        StopsAllOnExit "stops-all-on-exit" "Stops all workloads when it ends.";
        OneTooFew "one-too-few" "Runs one replica less than wanted.";
        CountsLate "counts-late" "Counts replicas as its store shows them, and that is late.";
        GrowthRestarts "growth-restarts" "Starts all replicas anew to grow.";
        StopsNothingOnScaleDown "stops-nothing-on-scale-down" "Stops nothing when a set shrinks.";
        ShrinksByReplacing "shrinks-by-replacing" "Starts all replicas anew to shrink.";
        ShrinksBlindly "shrinks-blindly" "Stops the ready ones first.";
        ZeroIsOne "zero-is-one" "Keeps one replica of a set of none.";
        NegativeIsZero "negative-is-zero" "Takes a negative number of replicas for none.";
        FailsTogether "fails-together" "Starts all replicas anew when one fails.";
        CountsHopes "counts-hopes" "Shows as ready what is wanted.";
        LeavesOneBehind "leaves-one-behind" "Stops all replicas of a deleted set but one.";
        MissesTheLastChange "misses-the-last-change" "Drops a change that comes soon after another.";
        IgnoresTheNewTemplate "ignores-the-new-template" "Keeps to the first template.";
        StopsFirst "stops-first" "Stops old replicas before new ones are ready.";
        SurgesWithoutBound "surges-without-bound" "Starts twice as many new replicas as wanted.";
        AllAtOnce "all-at-once" "Starts all new replicas at once.";
        StopsTheOldOnFaith "stops-the-old-on-faith" "Counts new replicas as ready when they are made.";
        StuckLooksFine "stuck-looks-fine" "Shows a rollout that is held up as ready.";
        DropsTheLastGood "drops-the-last-good" "Stops the last good template when another change comes.";
        StuckForGood "stuck-for-good" "Takes no other template after a bad one.";
        NoWayBack "no-way-back" "Does not return to an earlier template.";
        RecreateOverlaps "recreate-overlaps" "Rolls out Recreate like RollingUpdate.";
        RecreatesWithoutFence "recreates-without-fence" "Replaces at once what must not overlap.";
        AnyPolicyRolls "any-policy-rolls" "Takes any policy for RollingUpdate.";
        ScaleLostInRollout "scale-lost-in-rollout" "Does not see a change of the number.";
        ForgetsRollouts "forgets-rollouts" "Remembers replicas of one template only.";
        StartsWithoutTheSecret "starts-without-the-secret" "Leaves out values that are not there.";
        NeverLooksUpAgain "never-looks-up-again" "Does not look for a missing reference again.";
        FirstValueWins "first-value-wins" "Sends the first of several values.";
        InterfaceConfigUnread "interface-config-unread" "Does not resolve references of interfaces.";
        AnyCredentialsWillDo "any-credentials-will-do" "Sends the first credentials of a pull secret.";
        EmptyCredentials "empty-credentials" "Sends empty credentials for other registries.";
        DockerHubByName "docker-hub-by-name" "Does not know the entry of Docker Hub.";
        SecretsFromAnywhere "secrets-from-anywhere" "Reads references from other namespaces.";
        SecretInMessage "secret-in-message" "Shows requests as they are sent.";
        DropsLoopbackPorts "drops-loopback-ports" "Drops a field of the manifest.";
        Nameless "nameless" "Sends neither name nor namespace.";
        RefusesOddManifests "refuses-odd-manifests" "Refuses what is odd and legal.";
        SendsLastApplied "sends-last-applied" "Sends what kubectl noted for itself.";
        DropsAnnotations "drops-annotations" "Sends no annotations.";
        AliasesInOneInterface "aliases-in-one-interface" "Adds aliases to incoming-handler only.";
        SendsArtifactReferences "sends-artifact-references" "Sends artifact:// as it is.";
        StartsWithoutTheArtifact "starts-without-the-artifact" "Starts a deployment whose Artifact is not there.";
        ReadsArtifactsOnce "reads-artifacts-once" "Does not see that an Artifact has changed.";
        PinBeatsIsolation "pin-beats-isolation" "Lets a workload that names a host cross environments.";
        NoReadyCondition "no-ready-condition" "Shows no condition Ready.";
    }
}

named! {
    /// A way in which the model scheduler differs from itself and stays within the specification.
    Variant {
        LongIds "long-ids" "Makes ids of 200 bytes.";
        RareProbes "rare-probes" "Asks half as often.";
        Unhurried "unhurried" "Takes nearly all the time that it may.";
        OldestFirst "oldest-first" "Stops the oldest replicas first when a set shrinks.";
    }
}
