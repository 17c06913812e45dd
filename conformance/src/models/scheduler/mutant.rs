//! The mutants of the model scheduler, each with exactly one fault, and its conforming variants.

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $text:literal $description:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $description] $variant,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Returns the name in the index of requirements and on the command line.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// Returns a one-sentence description.
            pub const fn description(self) -> &'static str {
                match self { $($name::$variant => $description,)* }
            }

            /// Returns the value with this name.
            #[must_use]
            pub fn named(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

named! {
    /// A fault of the model scheduler.
    Mutant {
        HidesRefusals "hides-refusals" "Shows nothing about a refused submission.";
        RefusalDeletesObject "refusal-deletes-object"
            "Forgets an object when it refuses a change of the object.";
        ForgetsAcceptedObjects "forgets-accepted-objects"
            "Forgets the objects that it has accepted when it ends.";
        AbandonsSlowStarts "abandons-slow-starts"
            "Abandons a start whose workload is STARTING for 8 s.";
        WritesUnknownField "writes-unknown-field"
            "Writes a field that is not in the schema into every request.";
        WritesProtoNames "writes-proto-names" "Writes field names in snake_case.";
        WritesMaxRestartsAsNumber "writes-max-restarts-as-number"
            "Writes a 64-bit integer as a JSON number.";
        WritesNull "writes-null" "Writes null for a field that is not set.";
        WritesTrailingBytes "writes-trailing-bytes" "Writes a second object after the first.";
        WritesZeroLimits "writes-zero-limits"
            "Writes zero for limits that the workload does not set.";
        RejectsUnknownFields "rejects-unknown-fields" "Rejects messages with unknown fields.";
        RejectsProtoNames "rejects-proto-names"
            "Does not accept field names in snake_case or states as numbers.";
        IgnoresJsonNumbers "ignores-json-numbers"
            "Ignores integers that are written as JSON numbers.";
        RejectsNull "rejects-null" "Rejects messages that contain null.";
        MalformedHeartbeatEndsHeartbeats "malformed-heartbeat-ends-heartbeats"
            "Ignores all heartbeats after one that it cannot decode.";
        AcceptsAnyReply "accepts-any-reply" "Treats every reply as RUNNING.";
        AddressesHostsByFriendlyName "addresses-hosts-by-friendly-name"
            "Sends commands to the friendlyName of a host.";
        PublishesOwnHeartbeat "publishes-own-heartbeat" "Publishes a heartbeat of its own.";
        SendsUnknownCommand "sends-unknown-command"
            "Probes hosts with a command that does not exist.";
        ExitsOnOversizedStart "exits-on-oversized-start"
            "Exits when a start exceeds the maximum payload.";
        ProbesWithHeartbeatRequests "probes-with-heartbeat-requests"
            "Probes hosts with heartbeat requests.";
        PollsTooOften "polls-too-often" "Polls the status of each workload 20 times a second.";
        RegistersLate "registers-late" "Uses a host only after many heartbeats.";
        RequiresHeartbeatReply "requires-heartbeat-reply"
            "Uses only hosts that reply to heartbeat requests.";
        IgnoresLaterHeartbeats "ignores-later-heartbeats"
            "Keeps the content of a host's first heartbeat.";
        IdentifiesHostsByFriendlyName "identifies-hosts-by-friendly-name"
            "Treats two hosts with the same friendlyName as one.";
        RequiresDnsFriendlyName "requires-dns-friendly-name"
            "Uses only hosts whose friendlyName is a DNS name.";
        TrustsPayloadId "trusts-payload-id"
            "Accepts a heartbeat whose id differs from the id in its subject.";
        AcceptsInvalidHostIds "accepts-invalid-host-ids" "Uses hosts whose id is invalid.";
        IgnoresStartedAt "ignores-started-at" "Ignores startedAt.";
        IgnoresNoResponders "ignores-no-responders" "Ignores no-responders replies.";
        IgnoresSilence "ignores-silence" "Never declares a host lost because the host is silent.";
        MissedHeartbeatsMeanLost "missed-heartbeats-mean-lost"
            "Declares a host lost because heartbeats are missing.";
        OneNoRespondersMeansLost "one-no-responders-means-lost"
            "Declares a host lost after one no-responders reply.";
        BusyMeansLost "busy-means-lost"
            "Declares a host lost because the host is silent during a start.";
        OnlyHeartbeatsProveLife "only-heartbeats-prove-life"
            "Does not count replies as signs of life.";
        ForgetsWorkloadsOfLostHosts "forgets-workloads-of-lost-hosts"
            "Forgets the workloads on a lost host.";
        NeverReadmitsLostHosts "never-readmits-lost-hosts" "Never uses a lost host again.";
        PlacesOnLostHosts "places-on-lost-hosts" "Places workloads on lost hosts.";
        DeletesObjectsOfLostHosts "deletes-objects-of-lost-hosts"
            "Deletes the objects whose workloads ran on a lost host.";
        IdsFromNames "ids-from-names" "Derives ids from names.";
        ReusesIds "reuses-ids" "Restarts a replica under its old id.";
        RetriesElsewhereWithSameId "retries-elsewhere-with-same-id"
            "Repeats a start on another host under the same id.";
        RestartsWithoutStatusCheck "restarts-without-status-check"
            "Starts another incarnation, without a status request, when a start is unanswered.";
        RepeatedStartErrorIsFailure "repeated-start-error-is-failure"
            "Treats the refusal of a repeated start as a failure.";
        IgnoresStateInStartReply "ignores-state-in-start-reply"
            "Ignores the state in the reply to a start.";
        HidesHostMessages "hides-host-messages" "Does not show the messages of hosts.";
        RetriesWithoutBackoff "retries-without-backoff"
            "Retries failed workloads at once, without a backoff.";
        GivesUpAfterFailure "gives-up-after-failure" "Does not retry after a failure.";
        ShortStartTimeout "short-start-timeout" "Waits only 3 s for the reply to a start.";
        StartingIsFailure "starting-is-failure" "Treats STARTING as a failure.";
        RetriesHostWithoutResponders "retries-host-without-responders"
            "Repeats a start on a host that has no responders.";
        RetriesRefusingHost "retries-refusing-host"
            "Retries on the host that refused the workload.";
        NeverStopsFailedIds "never-stops-failed-ids" "Does not stop an id that is in ERROR.";
        StartsOnTwoHosts "starts-on-two-hosts"
            "Starts a workload before the previous incarnation is gone.";
        OneRequestAtATime "one-request-at-a-time"
            "Waits for each reply before it sends the next request.";
        CastsNegativeMaxRestarts "casts-negative-max-restarts"
            "Sends a negative maxRestarts as a huge number.";
        ResubmissionRestarts "resubmission-restarts" "Restarts a workload that is submitted again.";
        NeverPolls "never-polls" "Does not poll the status of running workloads.";
        ReadyForever "ready-forever" "Keeps showing a workload as ready after it has ended.";
        NeverReplaces "never-replaces" "Does not replace a workload that has ended.";
        UnansweredStatusIsFailure "unanswered-status-is-failure"
            "Treats one unanswered status request as a failure.";
        RestartsCompleted "restarts-completed" "Restarts a workload that has completed.";
        CompletedShownAsRunning "completed-shown-as-running"
            "Shows a completed workload as running.";
        DeletesWithoutStopping "deletes-without-stopping"
            "Forgets deleted workloads without stopping them.";
        StopsUnrelatedWorkload "stops-unrelated-workload" "Stops an unrelated workload as well.";
        NeverRepeatsStops "never-repeats-stops" "Does not repeat an unanswered stop.";
        StoppingIsGone "stopping-is-gone" "Treats STOPPING as the end of a stop.";
        StopsAfterNotFound "stops-after-not-found" "Repeats stops after NOT_FOUND.";
        NeverStopsUnansweredStarts "never-stops-unanswered-starts"
            "Does not stop a workload whose start is unanswered.";
        StopOvertakesStart "stop-overtakes-start" "Sends the stop of an id before its start.";
        DeletionWaitsForLostHost "deletion-waits-for-lost-host"
            "Keeps a deleted workload until its lost host returns.";
        ReportsDeletionEarly "reports-deletion-early"
            "Shows a workload as deleted before it has stopped.";
        RestartsDeleted "restarts-deleted" "Starts a deleted workload once more.";
        IgnoresSelector "ignores-selector" "Ignores all labels except the host group.";
        PlacesUnschedulable "places-unschedulable" "Places workloads that fit no host.";
        HidesWaitingReason "hides-waiting-reason" "Does not show why a workload waits.";
        NeverRetriesPlacement "never-retries-placement"
            "Does not retry the placement of a waiting workload.";
        QueuesPlacementAttempts "queues-placement-attempts"
            "Queues placement attempts and sends all of them when a host joins.";
        IgnoresEnvironment "ignores-environment" "Ignores the environment of hosts.";
        PinIsAHint "pin-is-a-hint"
            "Also places a workload on hosts other than the host that it names.";
        PinOverridesSelector "pin-overrides-selector"
            "Ignores all other conditions when a workload names a host.";
        UnvalidatedPin "unvalidated-pin" "Sends a start to any host id that a workload names.";
        NeverSpreads "never-spreads" "Places everything on one host.";
        IgnoresLoad "ignores-load" "Ignores the load of hosts.";
        IgnoresImports "ignores-imports" "Ignores the interfaces that hosts offer.";
        RequiresHttpImport "requires-http-import"
            "Requires hosts to list wasi:http in their imports.";
        RequiresBaselineImports "requires-baseline-imports"
            "Requires hosts to list the baseline in their imports.";
        IgnoresVersions "ignores-versions" "Ignores the versions of interfaces.";
        Rebalances "rebalances" "Moves a running workload when a host joins.";
        ExitsOnOutage "exits-on-outage" "Exits when the broker connection is lost.";
        OutageMeansLost "outage-means-lost" "Declares all hosts lost after a long outage.";
        NoSettlingPeriod "no-settling-period"
            "Acts on no-responders replies right after an outage.";
        QueuesCommandsDuringOutage "queues-commands-during-outage"
            "Queues commands during an outage and sends them afterwards.";
        OwnOutageMeansLost "own-outage-means-lost"
            "Declares hosts lost when it loses its own connection.";
        IgnoresMassLoss "ignores-mass-loss" "Declares many hosts lost at once.";
        NeverLostAfterOutage "never-lost-after-outage"
            "Never declares a host lost if the host did not return after an outage.";
        RestartsEverything "restarts-everything"
            "Forgets its replicas on a restart and starts them again.";
        ForgetsStops "forgets-stops" "Forgets pending stops on a restart.";
        ForgetsStarts "forgets-starts" "Forgets unanswered starts on a restart.";
        MissesDeletions "misses-deletions" "Misses deletions that happen while it is down.";
        TrustsPersistedFleet "trusts-persisted-fleet"
            "Does not check hosts that it knew before a restart.";
        ExitsWithoutBroker "exits-without-broker"
            "Exits when the broker is unavailable at its start.";
        TwoLeaders "two-leaders" "Acts while another instance is the leader.";
        StopsAllOnExit "stops-all-on-exit" "Stops all workloads when it exits.";
        OneReplicaTooFew "one-replica-too-few" "Runs one replica fewer than desired.";
        CountsFromStaleCache "counts-from-stale-cache" "Counts replicas from a stale cache.";
        ScaleUpRestarts "scale-up-restarts" "Restarts all replicas to grow a set.";
        IgnoresScaleDown "ignores-scale-down" "Stops nothing when a set shrinks.";
        ScaleDownRestarts "scale-down-restarts" "Restarts all replicas to shrink a set.";
        ScaleDownStopsReadyFirst "scale-down-stops-ready-first"
            "Stops the ready replicas first when a set shrinks.";
        ZeroReplicasIsOne "zero-replicas-is-one" "Keeps one replica of a set of size 0.";
        NegativeReplicasIsZero "negative-replicas-is-zero"
            "Treats a negative number of replicas as 0.";
        OneFailureRestartsAll "one-failure-restarts-all"
            "Restarts all replicas of a set when one fails.";
        ShowsWantedAsReady "shows-wanted-as-ready"
            "Shows the desired number of replicas as ready.";
        LeavesOneReplica "leaves-one-replica" "Leaves one replica running when a set is deleted.";
        MissesRapidChange "misses-rapid-change"
            "Misses a change that follows soon after another change.";
        IgnoresTemplateChange "ignores-template-change" "Keeps the first template.";
        StopsOldFirst "stops-old-first" "Stops old replicas before new ones are ready.";
        UnboundedSurge "unbounded-surge" "Starts twice as many new replicas as desired.";
        ReplacesAllAtOnce "replaces-all-at-once" "Starts all new replicas at once.";
        CountsCreatedAsReady "counts-created-as-ready"
            "Counts new replicas as ready when they are created.";
        BlockedRolloutShownAsReady "blocked-rollout-shown-as-ready"
            "Shows a blocked rollout as ready.";
        StopsLastGoodTemplate "stops-last-good-template"
            "Stops the replicas of the last good template when the template changes again.";
        NeverLeavesBadTemplate "never-leaves-bad-template"
            "Ignores every template after a bad one.";
        NoRollback "no-rollback" "Ignores the return to an earlier template.";
        RecreateOverlaps "recreate-overlaps" "Treats the policy Recreate as RollingUpdate.";
        RecreateWithoutFence "recreate-without-fence"
            "Under Recreate, replaces a replica on a lost host at once.";
        AcceptsUnknownPolicy "accepts-unknown-policy" "Treats an unknown policy as RollingUpdate.";
        IgnoresScaleDuringRollout "ignores-scale-during-rollout"
            "Misses a change of the size during a rollout.";
        ForgetsRollouts "forgets-rollouts"
            "After a restart, keeps the replicas of only one template.";
        StartsWithoutSecret "starts-without-secret"
            "Starts a workload without the values of a ConfigMap or Secret that is missing.";
        NeverRetriesReferences "never-retries-references"
            "Does not check again whether a missing ConfigMap or Secret exists.";
        FirstValueWins "first-value-wins"
            "If several sources set the same key, sends the first value instead of the last.";
        UnresolvedInterfaceConfig "unresolved-interface-config"
            "Sends the inline configuration of an interface without ConfigMaps and Secrets.";
        SendsAnyCredentials "sends-any-credentials"
            "Sends the first credentials of a pull secret, whatever the registry of the image.";
        SendsEmptyCredentials "sends-empty-credentials"
            "Sends empty credentials for a registry that the pull secret does not contain.";
        IgnoresDockerHubEntry "ignores-docker-hub-entry"
            "Ignores the entry `https://index.docker.io/v1/` of a pull secret.";
        ReadsForeignNamespaces "reads-foreign-namespaces"
            "Reads ConfigMaps and Secrets from other namespaces.";
        SecretInMessage "secret-in-message"
            "Shows requests, including their secrets, in status messages.";
        DropsLoopbackPorts "drops-loopback-ports"
            "Drops the field allowedHostLoopbackPorts of the manifest.";
        OmitsNameAndNamespace "omits-name-and-namespace" "Sends neither name nor namespace.";
        RefusesUnusualManifests "refuses-unusual-manifests"
            "Refuses manifests that are unusual but valid.";
        SendsKubectlAnnotations "sends-kubectl-annotations" "Sends the annotations of kubectl.";
        DropsAnnotations "drops-annotations" "Sends no annotations.";
        AliasesForIncomingHandlerOnly "aliases-for-incoming-handler-only"
            "Adds host-aliases to the interface incoming-handler, but not to handler.";
        SendsArtifactReferences "sends-artifact-references"
            "Sends artifact:// references unresolved.";
        StartsWithoutArtifact "starts-without-artifact"
            "Starts a deployment whose Artifact does not exist.";
        IgnoresArtifactChanges "ignores-artifact-changes" "Ignores changes of an Artifact.";
        PinOverridesIsolation "pin-overrides-isolation"
            "Places a workload on the host that it names, even in another environment.";
        NoReadyCondition "no-ready-condition" "Shows no condition Ready.";
    }
}

named! {
    /// A variant of the model scheduler that conforms to the specification.
    Variant {
        LongIds "long-ids" "Generates ids of 200 bytes.";
        InfrequentProbes "infrequent-probes" "Probes hosts and polls statuses at longer intervals.";
        SlowWithinDeadlines "slow-within-deadlines" "Uses nearly all of each deadline.";
        OldestFirst "oldest-first" "Stops the oldest replicas first when a set shrinks.";
    }
}
