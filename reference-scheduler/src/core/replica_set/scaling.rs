//! The number of workloads that a replica set creates, and the workloads that it discards.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The inputs of a scaling decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScalingInputs {
    pub replicas: u32,
    /// Number of additional workloads while some are outdated.
    pub surge: u32,
    /// Whether outdated workloads must stop before new ones start.
    pub stop_before_start: bool,
    /// Slots occupied by discarded workloads that may still run; only counted with
    /// `stop_before_start`.
    pub occupied_slots: u32,
    /// Discarded workloads whose deletion is not yet written to the store. They count as existing.
    pub pending_deletions: u32,
}

/// A wanted workload of the set.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub workload_index: u32,
    pub condition: ReplicaCondition,
    pub host: Option<u32>,
    /// Whether the workload has another revision or its host is draining.
    pub outdated: bool,
    /// Whether the workload has been outdated for so long that it is discarded without waiting for
    /// a replacement.
    pub overdue: bool,
}

/// The condition of a replica. Replicas are discarded in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReplicaCondition {
    /// Failed, and its backoff is over.
    Failed,
    /// Failed, and it is not replaced before the end of its backoff.
    BackingOff,
    /// On a lost host, and another host is feasible.
    Lost,
    /// On a lost host, and no other host is feasible.
    AwaitingReschedule,
    Waiting,
    Pending,
    Ready,
}

/// The scaling decision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScalingPlan {
    /// Indexes of the workloads to discard.
    pub discard: Vec<u32>,
    /// Number of workloads to create.
    pub create: u32,
    /// Number of existing workloads that stay.
    pub remaining: u32,
    /// Number of ready workloads among the remaining ones.
    pub ready: u32,
    /// Number of discarded workloads whose deletion is not yet written to the store.
    pub pending_deletions: u32,
}

impl ScalingInputs {
    pub fn plan(&self, members: Vec<Member>) -> ScalingPlan {
        let mut plan = ScalingPlan::default();
        let (removed, mut members): (Vec<_>, Vec<_>) = members
            .into_iter()
            .partition(|member| self.must_discard(member));
        plan.discard
            .extend(removed.iter().map(|member| member.workload_index));
        let lost = removed
            .iter()
            .filter(|member| member.condition == ReplicaCondition::Lost);
        let lost = lost.count();
        let removed_count = u32::try_from(removed.len()).unwrap_or(u32::MAX);
        self.replace_outdated(&mut members, &mut plan);
        self.discard_excess(&mut members, &mut plan);
        let count = |filter: fn(&&Member) -> bool| {
            u32::try_from(members.iter().filter(filter).count()).unwrap_or(u32::MAX)
        };
        let (remaining, current) = (count(|_| true), count(|member| !member.outdated));
        plan.remaining = remaining;
        plan.ready = count(|member| member.condition == ReplicaCondition::Ready);
        let discarded = plan.discard.len().saturating_sub(lost);
        plan.pending_deletions =
            self.pending_deletions + u32::try_from(discarded).unwrap_or(u32::MAX);
        let blocked = if self.stop_before_start {
            self.occupied_slots + removed_count
        } else {
            plan.pending_deletions
        };
        let room = (self.replicas + self.allowed_surge(remaining > current))
            .saturating_sub(remaining + blocked);
        plan.create = room.min(self.replicas.saturating_sub(current));
        plan
    }

    fn must_discard(&self, member: &Member) -> bool {
        match member.condition {
            ReplicaCondition::Lost | ReplicaCondition::Failed => true,
            ReplicaCondition::BackingOff
            | ReplicaCondition::Waiting
            | ReplicaCondition::Pending
            | ReplicaCondition::AwaitingReschedule
                if member.outdated =>
            {
                true
            }
            _ => member.overdue || (member.outdated && self.stop_before_start),
        }
    }

    fn allowed_surge(&self, any_outdated: bool) -> u32 {
        if any_outdated && !self.stop_before_start {
            self.surge
        } else {
            0
        }
    }

    /// Discards ready outdated workloads, as many as there are ready workloads beyond the desired
    /// number.
    fn replace_outdated(&self, members: &mut Vec<Member>, plan: &mut ScalingPlan) {
        let ready = members
            .iter()
            .filter(|member| member.condition == ReplicaCondition::Ready)
            .count();
        let mut spare = ready.saturating_sub(self.replicas as usize);
        members.retain(|member| {
            let replaced =
                spare > 0 && member.outdated && member.condition == ReplicaCondition::Ready;
            if replaced {
                spare -= 1;
                plan.discard.push(member.workload_index);
            }
            !replaced
        });
    }

    /// Discards excess workloads: first workloads that are not ready, then workloads on the hosts
    /// with the most replicas.
    fn discard_excess(&self, members: &mut Vec<Member>, plan: &mut ScalingPlan) {
        let outdated = members.iter().any(|member| member.outdated);
        let limit = (self.replicas + self.allowed_surge(outdated)) as usize;
        let current = members.iter().filter(|member| !member.outdated).count();
        let excess = members
            .len()
            .saturating_sub(limit)
            .max(current.saturating_sub(self.replicas as usize));
        if excess == 0 {
            return;
        }
        let mut on_host: BTreeMap<Option<u32>, u32> = BTreeMap::new();
        members.sort_by_key(|member| {
            (
                Reverse(member.condition),
                member.outdated,
                member.workload_index,
            )
        });
        let mut ranked: Vec<_> = members
            .drain(..)
            .map(|member| {
                let rank = on_host.entry(member.host).or_default();
                *rank += 1;
                (
                    member.condition,
                    !member.outdated,
                    Reverse(*rank),
                    Reverse(member.workload_index),
                    member,
                )
            })
            .collect();
        ranked.sort_by_key(|(condition, current, rank, workload_index, _)| {
            (*condition, *current, *rank, *workload_index)
        });
        let discarded = ranked.drain(..excess.min(ranked.len()));
        plan.discard
            .extend(discarded.map(|(.., member)| member.workload_index));
        members.extend(ranked.into_iter().map(|(.., member)| member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(workload_index: u32, condition: ReplicaCondition, host: u32) -> Member {
        Member {
            workload_index,
            condition,
            host: Some(host),
            outdated: false,
            overdue: false,
        }
    }

    fn inputs(replicas: u32) -> ScalingInputs {
        ScalingInputs {
            replicas,
            surge: 1,
            stop_before_start: false,
            occupied_slots: 0,
            pending_deletions: 0,
        }
    }

    #[test]
    fn discards_unready_replicas_first_and_then_from_fullest_host() {
        let members = vec![
            member(1, ReplicaCondition::Ready, 1),
            member(2, ReplicaCondition::Ready, 1),
            member(3, ReplicaCondition::Ready, 2),
            member(4, ReplicaCondition::Pending, 3),
        ];
        let plan = inputs(2).plan(members);
        assert_eq!(plan.discard, [4, 2]);
        assert_eq!((plan.create, plan.remaining, plan.ready), (0, 2, 2));
    }

    #[test]
    fn replaces_lost_replicas_at_once_and_failed_ones_after_backoff() {
        let plan = inputs(3).plan(vec![
            member(1, ReplicaCondition::Lost, 1),
            member(2, ReplicaCondition::BackingOff, 2),
            member(3, ReplicaCondition::Failed, 2),
        ]);
        assert_eq!((plan.discard, plan.create), (vec![1, 3], 1));
        assert_eq!((plan.remaining, plan.pending_deletions), (1, 1));
    }

    #[test]
    fn replaces_outdated_replicas_as_others_become_ready() {
        let outdated = |workload_index| Member {
            outdated: true,
            ..member(workload_index, ReplicaCondition::Ready, workload_index)
        };
        let plan = inputs(2).plan(vec![outdated(1), outdated(2)]);
        assert_eq!((plan.discard, plan.create), (vec![], 1));
        let plan = inputs(2).plan(vec![
            outdated(1),
            outdated(2),
            member(3, ReplicaCondition::Ready, 3),
        ]);
        assert_eq!(
            (plan.discard, plan.create, plan.pending_deletions),
            (vec![1], 0, 1)
        );
        let plan = inputs(2).plan(vec![outdated(2), member(3, ReplicaCondition::Ready, 3)]);
        assert_eq!((plan.discard, plan.create), (vec![], 1));
    }

    #[test]
    fn creates_nothing_before_old_replicas_stop_with_stop_before_start() {
        let stop_before_start = ScalingInputs {
            stop_before_start: true,
            occupied_slots: 1,
            ..inputs(2)
        };
        let plan = stop_before_start.plan(vec![member(1, ReplicaCondition::Lost, 1)]);
        assert_eq!((plan.discard, plan.create), (vec![1], 0));
    }
}
