//! How large each replica set of a rollout may and must be.

/// The new revision, and what is asked of the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rolling {
    pub replicas: u32,
    /// How many more than that there may be.
    pub surge: u32,
    /// How many of the new revision are ready.
    pub ready: u32,
}

/// A replica set of another revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    pub set: u32,
    pub size: u32,
    pub ready: u32,
    /// How many there are, whatever its size.
    pub there: u32,
    /// Of the last revision that was rolled out to the end.
    pub is_good: bool,
}

/// The next sizes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of the new revision.
    pub size: u32,
    /// Of the old ones, in the order in which they were given.
    pub old: Vec<u32>,
    /// The old ones are no longer needed.
    pub is_complete: bool,
}

impl Rolling {
    /// Keeps the old ones, the good one first, as far as the new ones are not ready, and makes as many
    /// new ones as then fit. The good one is kept whole and not only what of it is ready: what is not may
    /// become so again, while of a revision that never came to its end that is not known.
    pub fn plan(&self, old: &[Old]) -> Plan {
        let mut needed = self.replicas.saturating_sub(self.ready);
        let mut sizes = Vec::new();
        for old in old {
            let size = match old.is_good {
                true => old.size.min(needed),
                false => old.size.min(old.ready).min(needed),
            };
            needed -= old.ready.min(size);
            sizes.push(size);
        }
        // What is to go counts until it is on its way.
        let kept: u32 = old
            .iter()
            .zip(&sizes)
            .map(|(old, size)| old.there.max(*size))
            .sum();
        Plan {
            size: self
                .replicas
                .min((self.replicas + self.surge).saturating_sub(kept)),
            old: sizes,
            is_complete: self.ready >= self.replicas,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(size: u32, ready: u32, is_good: bool) -> Old {
        Old {
            set: 0,
            size,
            ready,
            there: size,
            is_good,
        }
    }

    fn rolling(replicas: u32, ready: u32) -> Rolling {
        Rolling {
            replicas,
            surge: 2,
            ready,
        }
    }

    /// The plan once what is to go is on its way.
    fn settled(rolling: Rolling, mut old: Vec<Old>) -> Plan {
        let plan = rolling.plan(&old);
        for (old, size) in old.iter_mut().zip(&plan.old) {
            old.there = *size;
        }
        rolling.plan(&old)
    }

    #[test]
    fn goes_in_batches_and_keeps_enough_ready() {
        let (mut ready, mut size, mut batches) = (0, 8, 0);
        while ready < 8 {
            let first = rolling(8, ready).plan(&[old(size, size, true)]);
            assert!(
                first.size + size <= 10,
                "what is there counts until it is on its way"
            );
            let plan = settled(rolling(8, ready), vec![old(size, size, true)]);
            assert!(plan.size + plan.old[0] <= 10 && ready + plan.old[0] >= 8);
            (ready, size, batches) = (plan.size, plan.old[0], batches + 1);
        }
        assert_eq!(batches, 4);
        assert!(rolling(8, 8).plan(&[old(0, 0, true)]).is_complete);
    }

    #[test]
    fn the_last_good_one_stays_while_another_is_bad() {
        let plan = settled(rolling(4, 0), vec![old(4, 4, true), old(2, 0, false)]);
        assert_eq!((plan.size, plan.old), (2, vec![4, 0]));
        // Also when none of it is ready at the moment.
        let plan = settled(rolling(4, 0), vec![old(4, 0, true), old(2, 0, false)]);
        assert_eq!((plan.size, plan.old), (2, vec![4, 0]));
    }

    #[test]
    fn half_of_each_serve_until_the_third_does() {
        let plan = settled(rolling(10, 0), vec![old(5, 5, true), old(5, 5, false)]);
        assert_eq!((plan.size, plan.old), (2, vec![5, 5]));
    }
}
