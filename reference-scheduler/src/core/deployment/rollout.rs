//! The sizes of the replica sets during a rolling update.

/// A rolling update to a new revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct RollingUpdate {
    pub replicas: u32,
    /// Maximum number of additional replicas.
    pub surge: u32,
    /// Number of ready replicas of the new revision.
    pub ready: u32,
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
    /// never become ready.
    pub fn plan(&self, old: &[OldSet]) -> RolloutPlan {
        let mut needed = self.replicas.saturating_sub(self.ready);
        let mut sizes = Vec::new();
        for old in old {
            let size = if old.is_last_good {
                old.size.min(needed)
            } else {
                old.size.min(old.ready).min(needed)
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
            ready,
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
    fn keeps_ready_replicas_of_two_old_sets_until_third_is_ready() {
        let plan = settled(rolling_update(10, 0), vec![last_good(5, 5), old(5, 5)]);
        assert_eq!((plan.size, plan.old), (2, vec![5, 5]));
    }
}
