//! The hosts that fit a shape, least burdened first, kept so that placing does not look at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::shape::Shape;
use super::{Spread, filter};
use crate::core::fleet::{Burden, Fleet, Host};

/// Shapes that are kept. There are few in most fleets: selectors times interfaces.
const MAX_SHAPES: usize = 64;

/// The fitting hosts of the shapes that were asked for lately.
#[derive(Debug, Default)]
pub(in crate::core) struct Candidates {
    shapes: BTreeMap<Arc<Shape>, Ranking>,
    uses: u64,
}

/// The fitting hosts of one shape, by burden. One whose burden has grown is found under its old one and
/// filed anew when it is met; one whose burden has shrunk is filed anew at once.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    hosts: BTreeSet<(Burden, u32)>,
    filed: BTreeMap<u32, Burden>,
    used: u64,
}

/// A host that was chosen, and by what.
#[derive(Debug)]
pub(super) struct Choice {
    pub host: u32,
    pub burden: Burden,
    /// How many replicas of the same owner it was allowed to have.
    pub level: u32,
}

impl Candidates {
    pub(super) fn of(&mut self, shape: &Arc<Shape>, fleet: &Fleet, now: Duration) -> &mut Ranking {
        self.uses += 1;
        if self.shapes.len() >= MAX_SHAPES && !self.shapes.contains_key(shape) {
            let oldest = self.shapes.iter().min_by_key(|(_, ranking)| ranking.used);
            if let Some(oldest) = oldest.map(|(shape, _)| shape.clone()) {
                self.shapes.remove(&oldest);
            }
        }
        let ranking = self.shapes.entry(shape.clone()).or_insert_with(|| {
            let mut ranking = Ranking::default();
            for (number, host) in fleet.iter() {
                ranking.refresh(shape, number, Some(host), now);
            }
            ranking
        });
        ranking.used = self.uses;
        ranking
    }

    /// Whether any host fits.
    pub fn any(&mut self, shape: &Arc<Shape>, fleet: &Fleet, now: Duration) -> bool {
        !self.of(shape, fleet, now).filed.is_empty()
    }

    /// Whether a host is among those of a shape that was asked for.
    pub(super) fn has(&self, shape: &Arc<Shape>, host: u32) -> bool {
        let ranking = self.shapes.get(shape);
        ranking.is_some_and(|ranking| ranking.filed.contains_key(&host))
    }

    /// A host has changed in what filters go by, or has less to do.
    pub fn refresh(&mut self, number: u32, fleet: &Fleet, now: Duration) {
        for (shape, ranking) in &mut self.shapes {
            ranking.refresh(shape, number, fleet.get(number), now);
        }
    }

    pub fn forget(&mut self, number: u32) {
        for ranking in self.shapes.values_mut() {
            ranking.remove(number);
        }
    }
}

impl Ranking {
    fn refresh(&mut self, shape: &Shape, number: u32, host: Option<&Host>, now: Duration) {
        let fitting = host.filter(|host| filter::refusal(shape, host, now).is_none());
        match fitting {
            Some(host) => self.file(number, host.burden()),
            None => self.remove(number),
        }
    }

    fn file(&mut self, number: u32, burden: Burden) {
        let before = self.filed.insert(number, burden);
        if before != Some(burden) {
            if let Some(before) = before {
                self.hosts.remove(&(before, number));
            }
            self.hosts.insert((burden, number));
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(burden) = self.filed.remove(&number) {
            self.hosts.remove(&(burden, number));
        }
    }

    /// The host with the fewest replicas of the owner, and among those the one with the least burden.
    /// Those to avoid come last.
    pub fn best(
        &mut self,
        fleet: &Fleet,
        spread: &Spread,
        avoided: &BTreeSet<u32>,
    ) -> Option<Choice> {
        let choices = self.filed.len();
        for avoided in [avoided, &BTreeSet::new()] {
            for level in spread.levels(choices) {
                if let Some(choice) = self.least_burdened(fleet, spread, level, avoided) {
                    return Some(choice);
                }
            }
            if avoided.is_empty() {
                break;
            }
        }
        None
    }

    fn least_burdened(
        &mut self,
        fleet: &Fleet,
        spread: &Spread,
        level: u32,
        avoided: &BTreeSet<u32>,
    ) -> Option<Choice> {
        let mut from = (Burden::LEAST, 0);
        while let Some((filed, number)) = self.hosts.range(from..).next().copied() {
            let burden = fleet.get(number).map_or(Burden::MOST, Host::burden);
            if burden != filed {
                self.file(number, burden);
                continue;
            }
            if spread.count(number) <= level && !avoided.contains(&number) {
                let host = number;
                return Some(Choice {
                    host,
                    burden,
                    level,
                });
            }
            from = (filed, number + 1);
        }
        None
    }
}
