//! How many to make, and which to take away.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What a replica set goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    pub replicas: u32,
    /// How many more there may be while some are outdated.
    pub surge: u32,
    /// Nothing new while something old may run.
    pub stops_first: bool,
    /// Places that are taken by what may still run though it is not wanted; they count only then.
    pub occupied: u32,
    /// Those that are to go and that the store does not know of yet. Until it does, they count.
    pub undeleted: u32,
    /// The pause after failures is over.
    pub failed_may_go: bool,
}

/// One workload that is not on its way out.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub number: u32,
    pub standing: Standing,
    pub host: Option<u32>,
    /// Of another revision, or on a host that is to be emptied.
    pub outdated: bool,
    /// Outdated for so long that it goes, replaced or not.
    pub overdue: bool,
}

/// How it does. The order is that in which they are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Failed,
    /// Its host is lost, and there are others.
    Lost,
    /// Its host is lost, and there is no other.
    Stranded,
    Waiting,
    Pending,
    Ready,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub discard: Vec<u32>,
    pub create: u32,
    /// How many of those that are there stay, and how many of those are ready.
    pub kept: u32,
    pub ready: u32,
    /// How many are to go of which the store does not know yet.
    pub undeleted: u32,
    /// Some stay only until the pause after failures is over.
    pub waits_for_backoff: bool,
}

impl Balance {
    pub fn settle(&self, members: Vec<Member>) -> Outcome {
        let mut outcome = Outcome::default();
        let (gone, mut members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| self.must_go(member));
        outcome
            .discard
            .extend(gone.iter().map(|member| member.number));
        let lost = gone
            .iter()
            .filter(|member| member.standing == Standing::Lost);
        let lost = lost.count();
        let going = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        self.replace_outdated(&mut members, &mut outcome);
        self.drop_excess(&mut members, &mut outcome);
        let count = |filter: fn(&&Member) -> bool| {
            u32::try_from(members.iter().filter(filter).count()).unwrap_or(u32::MAX)
        };
        let (kept, fresh) = (count(|_| true), count(|member| !member.outdated));
        outcome.kept = kept;
        outcome.ready = count(|member| member.standing == Standing::Ready);
        outcome.waits_for_backoff = count(|member| member.standing == Standing::Failed) > 0;
        let discarded = outcome.discard.len().saturating_sub(lost);
        outcome.undeleted = self.undeleted + u32::try_from(discarded).unwrap_or(u32::MAX);
        let blocked = match self.stops_first {
            true => self.occupied + going,
            false => outcome.undeleted,
        };
        let room = (self.replicas + self.allowed(kept > fresh)).saturating_sub(kept + blocked);
        outcome.create = room.min(self.replicas.saturating_sub(fresh));
        outcome
    }

    fn must_go(&self, member: &Member) -> bool {
        match member.standing {
            Standing::Lost => true,
            Standing::Failed => self.failed_may_go,
            Standing::Waiting | Standing::Pending | Standing::Stranded if member.outdated => true,
            _ => member.overdue || (member.outdated && self.stops_first),
        }
    }

    fn allowed(&self, any_outdated: bool) -> u32 {
        match any_outdated && !self.stops_first {
            true => self.surge,
            false => 0,
        }
    }

    /// Lets outdated ones go as far as enough others are ready.
    fn replace_outdated(&self, members: &mut Vec<Member>, outcome: &mut Outcome) {
        let ready = members
            .iter()
            .filter(|member| member.standing == Standing::Ready)
            .count();
        let mut spare = ready.saturating_sub(self.replicas as usize);
        members.retain(|member| {
            let goes = spare > 0 && member.outdated && member.standing == Standing::Ready;
            if goes {
                spare -= 1;
                outcome.discard.push(member.number);
            }
            !goes
        });
    }

    /// Takes away what is too many: those that do not serve first, then where there are most on a host.
    fn drop_excess(&self, members: &mut Vec<Member>, outcome: &mut Outcome) {
        let outdated = members.iter().any(|member| member.outdated);
        let limit = (self.replicas + self.allowed(outdated)) as usize;
        let fresh = members.iter().filter(|member| !member.outdated).count();
        let excess = members
            .len()
            .saturating_sub(limit)
            .max(fresh.saturating_sub(self.replicas as usize));
        if excess == 0 {
            return;
        }
        let mut on_host: BTreeMap<Option<u32>, u32> = BTreeMap::new();
        members.sort_by_key(|member| (Reverse(member.standing), member.outdated, member.number));
        let mut ranked: Vec<_> = members
            .drain(..)
            .map(|member| {
                let rank = on_host.entry(member.host).or_default();
                *rank += 1;
                (
                    member.standing,
                    !member.outdated,
                    Reverse(*rank),
                    Reverse(member.number),
                    member,
                )
            })
            .collect();
        ranked
            .sort_by_key(|(standing, fresh, rank, number, _)| (*standing, *fresh, *rank, *number));
        let dropped = ranked.drain(..excess.min(ranked.len()));
        outcome
            .discard
            .extend(dropped.map(|(.., member)| member.number));
        members.extend(ranked.into_iter().map(|(.., member)| member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u32, standing: Standing, host: u32) -> Member {
        Member {
            number,
            standing,
            host: Some(host),
            outdated: false,
            overdue: false,
        }
    }

    fn balance(replicas: u32) -> Balance {
        Balance {
            replicas,
            surge: 1,
            stops_first: false,
            occupied: 0,
            undeleted: 0,
            failed_may_go: true,
        }
    }

    #[test]
    fn what_does_not_serve_goes_first_and_then_where_there_are_most() {
        let members = vec![
            member(1, Standing::Ready, 1),
            member(2, Standing::Ready, 1),
            member(3, Standing::Ready, 2),
            member(4, Standing::Pending, 3),
        ];
        let outcome = balance(2).settle(members);
        assert_eq!(outcome.discard, [4, 2]);
        assert_eq!((outcome.create, outcome.kept, outcome.ready), (0, 2, 2));
    }

    #[test]
    fn lost_ones_are_replaced_and_failed_ones_after_a_pause() {
        let members = vec![member(1, Standing::Lost, 1), member(2, Standing::Failed, 2)];
        let paused = Balance {
            failed_may_go: false,
            ..balance(2)
        };
        let outcome = paused.settle(members.clone());
        assert_eq!((outcome.discard, outcome.create), (vec![1], 1));
        assert!(outcome.waits_for_backoff);
        let outcome = balance(2).settle(members);
        assert_eq!((outcome.discard, outcome.create), (vec![1, 2], 1));
    }

    #[test]
    fn outdated_ones_go_one_by_one_as_others_are_ready() {
        let outdated = |number| Member {
            outdated: true,
            ..member(number, Standing::Ready, number)
        };
        let outcome = balance(2).settle(vec![outdated(1), outdated(2)]);
        assert_eq!((outcome.discard, outcome.create), (vec![], 1));
        let outcome = balance(2).settle(vec![
            outdated(1),
            outdated(2),
            member(3, Standing::Ready, 3),
        ]);
        assert_eq!(
            (outcome.discard, outcome.create, outcome.undeleted),
            (vec![1], 0, 1)
        );
        let outcome = balance(2).settle(vec![outdated(2), member(3, Standing::Ready, 3)]);
        assert_eq!((outcome.discard, outcome.create), (vec![], 1));
    }

    #[test]
    fn what_must_not_run_twice_stops_first() {
        let strict = Balance {
            stops_first: true,
            occupied: 1,
            ..balance(2)
        };
        let outcome = strict.settle(vec![member(1, Standing::Lost, 1)]);
        assert_eq!((outcome.discard, outcome.create), (vec![1], 0));
    }
}
