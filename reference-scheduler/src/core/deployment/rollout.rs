//! The sizes of the replica sets during a rolling update.

/// A rolling update to a new revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct RollingUpdate {
    pub replicas: u32,
    /// Maximum number of additional replicas.
    pub surge: u32,
    /// Number of replicas that may be missing.
    pub max_unavailable: u32,
    /// Number of ready replicas of the new revision.
    pub ready: u32,
    /// Whether `replicas` has just increased, while the rollout is stuck.
    pub is_scaled_up: bool,
}

/// A replica set of another revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldSet {
    /// Index of the set.
    pub set: u32,
    /// Desired number of replicas.
    pub size: u32,
    /// Number of ready replicas.
    pub ready: u32,
    /// Number of existing replicas, which may differ from the size.
    pub existing: u32,
    /// Whether the set has the last revision that was rolled out completely.
    pub is_last_good: bool,
}

/// The next sizes of the replica sets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RolloutPlan {
    /// Size of the set of the new revision.
    pub size: u32,
    /// Sizes of the old sets, in the given order.
    pub old: Vec<u32>,
    /// Whether the old sets are no longer needed.
    pub is_complete: bool,
}

impl RollingUpdate {
    /// Keeps old replicas while new replicas are not ready, first replicas of the last good set,
    /// and starts as many new replicas as fit. The last good set also keeps unready replicas,
    /// because they may recover. Replicas of a revision that was never rolled out completely may
    /// never become ready; when a stuck deployment grows, the last good set therefore grows, too.
    pub fn plan(&self, old: &[OldSet]) -> RolloutPlan {
        let required = self.replicas.saturating_sub(self.max_unavailable);
        let mut needed = required.saturating_sub(self.ready);
        let mut sizes = Vec::new();
        for old in old {
            let size = match old.is_last_good {
                true if self.is_scaled_up => needed,
                true => old.size.min(needed),
                false => old.size.min(old.ready).min(needed),
            };
            needed -= old.ready.min(size);
            sizes.push(size);
        }
        // A replica counts as existing until its deletion is written to the store.
        let remaining: u32 = old
            .iter()
            .zip(&sizes)
            .map(|(old, size)| old.existing.max(*size))
            .sum();
        RolloutPlan {
            size: self
                .replicas
                .min((self.replicas + self.surge).saturating_sub(remaining)),
            old: sizes,
            is_complete: self.ready >= self.replicas,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn old(size: u32, ready: u32) -> OldSet {
        OldSet {
            set: 0,
            size,
            ready,
            existing: size,
            is_last_good: false,
        }
    }

    fn last_good(size: u32, ready: u32) -> OldSet {
        OldSet {
            is_last_good: true,
            ..old(size, ready)
        }
    }

    fn rolling_update(replicas: u32, ready: u32) -> RollingUpdate {
        RollingUpdate {
            replicas,
            surge: 2,
            max_unavailable: 0,
            ready,
            is_scaled_up: false,
        }
    }

    /// Returns the plan that follows once all deletions of the first plan are written to the store.
    fn settled(rolling_update: RollingUpdate, mut old: Vec<OldSet>) -> RolloutPlan {
        let plan = rolling_update.plan(&old);
        for (old, size) in old.iter_mut().zip(&plan.old) {
            old.existing = *size;
        }
        rolling_update.plan(&old)
    }

    #[test]
    fn keeps_enough_replicas_ready_during_batches() {
        let (mut ready, mut size, mut batches) = (0, 8, 0);
        while ready < 8 {
            let first = rolling_update(8, ready).plan(&[last_good(size, size)]);
            assert!(
                first.size + size <= 10,
                "existing replicas count until they are deleted"
            );
            let plan = settled(rolling_update(8, ready), vec![last_good(size, size)]);
            assert!(plan.size + plan.old[0] <= 10 && ready + plan.old[0] >= 8);
            (ready, size, batches) = (plan.size, plan.old[0], batches + 1);
        }
        assert_eq!(batches, 4);
        assert!(rolling_update(8, 8).plan(&[last_good(0, 0)]).is_complete);
    }

    #[test]
    fn keeps_last_good_set_while_new_revision_fails() {
        let plan = settled(rolling_update(4, 0), vec![last_good(4, 4), old(2, 0)]);
        assert_eq!((plan.size, plan.old), (2, vec![4, 0]));
        // The set also stays if none of its replicas is ready.
        let plan = settled(rolling_update(4, 0), vec![last_good(4, 0), old(2, 0)]);
        assert_eq!((plan.size, plan.old), (2, vec![4, 0]));
    }

    #[test]
    fn scale_during_rollout_grows_and_shrinks_last_good_set() {
        // Replicas, whether they have increased, ready replicas of the new revision, size of the
        // last good set; sizes of the last good set and of the new set.
        for (replicas, is_scaled_up, ready, size, expected) in [
            (8, true, 0, 4, (8, 2)),
            (5, true, 0, 4, (5, 2)),
            (8, false, 0, 8, (8, 2)),
            (8, true, 3, 1, (5, 5)),
            (8, true, 8, 0, (0, 8)),
            (2, false, 0, 4, (2, 2)),
            (0, false, 0, 4, (0, 0)),
        ] {
            let update = RollingUpdate {
                is_scaled_up,
                ..rolling_update(replicas, ready)
            };
            let plan = settled(update, vec![last_good(size, size)]);
            assert_eq!((plan.old[0], plan.size), expected, "{update:?}");
        }
    }

    #[test]
    fn max_unavailable_makes_room_in_a_full_fleet() {
        for (replicas, max_unavailable, expected) in
            [(4, 1, (3, 3)), (1, 1, (0, 1)), (4, 9, (0, 4))]
        {
            let update = RollingUpdate {
                max_unavailable,
                ..rolling_update(replicas, 0)
            };
            let plan = settled(update, vec![last_good(replicas, replicas)]);
            assert_eq!((plan.old[0], plan.size), expected, "{update:?}");
        }
    }

    fn any_old_set() -> impl Strategy<Value = OldSet> {
        (0..12_u32, 0..12_u32, 0..4_u32, any::<bool>()).prop_map(
            |(size, ready, deleting, is_last_good)| OldSet {
                set: 0,
                size,
                ready: ready.min(size),
                existing: size + deleting,
                is_last_good,
            },
        )
    }

    proptest! {
        #[test]
        fn plan_keeps_bounds_of_replicas(
            (replicas, surge, max_unavailable, ready) in (0..12_u32, 1..4_u32, 0..4_u32, 0..12_u32),
            is_scaled_up in any::<bool>(),
            mut old in proptest::collection::vec(any_old_set(), 0..4),
        ) {
            // At most one set, the first one, is the last good one.
            old.iter_mut().skip(1).for_each(|old| old.is_last_good = false);
            let ready = ready.min(replicas);
            let update = RollingUpdate { replicas, surge, max_unavailable, ready, is_scaled_up };
            let plan = update.plan(&old);
            let kept = old.iter().zip(&plan.old);
            let existing: u32 = kept.clone().map(|(old, size)| old.existing.max(*size)).sum();
            prop_assert!(plan.size == 0 || plan.size + existing <= replicas + surge);
            prop_assert!(plan.size <= replicas);
            // As many replicas stay ready as before, up to the required number.
            let ready_before: u32 = ready + old.iter().map(|old| old.ready).sum::<u32>();
            let kept_ready = kept.clone().map(|(old, size)| old.ready.min(*size));
            let ready_after: u32 = ready + kept_ready.sum::<u32>();
            let required = replicas.saturating_sub(max_unavailable);
            prop_assert!(ready_after >= required.min(ready_before));
            for (old, size) in kept {
                prop_assert!(*size <= old.size || (is_scaled_up && old.is_last_good));
            }
            // Without a change, the plan is stable.
            let again: Vec<OldSet> = old.iter().zip(&plan.old).map(|(old, size)| OldSet {
                size: *size,
                ready: old.ready.min(*size),
                existing: *size,
                ..*old
            }).collect();
            let next = update.plan(&again);
            prop_assert_eq!(&next.old, &plan.old);
            prop_assert!(next.size >= plan.size);
        }
    }

    #[test]
    fn keeps_ready_replicas_of_two_old_sets_until_third_is_ready() {
        let plan = settled(rolling_update(10, 0), vec![last_good(5, 5), old(5, 5)]);
        assert_eq!((plan.size, plan.old), (2, vec![5, 5]));
    }
}
