//! What is tried: the model host as it is, its variants, its mutants, and the breakages.

use std::collections::BTreeMap;

use super::Options;
use crate::check::side::Side;
use crate::models::host::{Mutant, Variant};
use crate::models::scheduler as schedulers;
use crate::spec::requirements;
use crate::spec::requirements::{Breaks, Requirement};
use crate::suite;

/// One host to be judged, and what the judgement must be.
#[derive(Clone, Debug)]
pub enum Trial {
    /// The model host without any fault: it must pass.
    Sound,
    /// The model host, different within the specification: it must pass.
    Variant(Variant),
    /// The model host with one fault: the check of the requirement must find it.
    Mutant {
        /// The fault.
        mutant: Mutant,
        /// What it breaks.
        requirement: &'static Requirement,
    },
    /// The model scheduler without any fault: it must pass.
    Scheduler,
    /// The model scheduler, different within the specification: it must pass.
    SchedulerVariant(schedulers::Variant),
    /// The model scheduler with one fault: likewise.
    SchedulerMutant {
        /// The fault.
        mutant: schedulers::Mutant,
        /// What it breaks.
        requirement: &'static Requirement,
    },
    /// The reference scheduler in a cluster, with one fault: likewise.
    SchedulerBreakage {
        /// Its name.
        name: &'static str,
        /// What it breaks.
        requirement: &'static Requirement,
    },
    /// The reference host with one fault: likewise.
    Breakage {
        /// Its name.
        name: &'static str,
        /// What it breaks.
        requirement: &'static Requirement,
    },
}

/// What a trial goes on beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The checks of one requirement.
    Fault,
    /// The same, in the cluster that all of these share, each in a namespace of its own.
    Cluster,
    /// The same, without another beside it.
    ClusterAlone,
    /// Everything that a host is asked.
    WholeHost,
    /// Everything that a scheduler is asked.
    WholeScheduler,
}

/// It works in the namespaces of others, and would make good there what is their fault.
const ALONE: &str = "touches-every-namespace";

/// Every trial, in the order of the matrix.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let sound = std::iter::once(Trial::Sound);
    let variants = Variant::ALL.iter().map(|variant| Trial::Variant(*variant));
    let faults = requirements::ALL
        .iter()
        .filter_map(|requirement| match requirement.breaks? {
            Breaks::Mutant(name) => Some(Trial::Mutant {
                mutant: Mutant::named(name)?,
                requirement,
            }),
            Breaks::Breakage(name) => Some(Trial::Breakage { name, requirement }),
        });
    let scheduler = std::iter::once(Trial::Scheduler);
    let schedulers = schedulers::Variant::ALL
        .iter()
        .map(|variant| Trial::SchedulerVariant(*variant));
    let scheduler_faults =
        Side::Scheduler
            .requirements()
            .filter_map(|requirement| match requirement.breaks? {
                Breaks::Mutant(name) => Some(Trial::SchedulerMutant {
                    mutant: schedulers::Mutant::named(name)?,
                    requirement,
                }),
                Breaks::Breakage(name) => Some(Trial::SchedulerBreakage { name, requirement }),
            });
    let hosts = sound.chain(variants).chain(faults);
    hosts
        .chain(scheduler)
        .chain(schedulers)
        .chain(scheduler_faults)
        .collect()
}

impl Trial {
    /// What the matrix calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Trial::Sound => "model host".to_owned(),
            Trial::Variant(variant) => format!("variant:{}", variant.name()),
            Trial::Mutant { mutant, .. } => format!("mutant:{}", mutant.name()),
            Trial::Breakage { name, .. } => format!("breakage:{name}"),
            Trial::SchedulerBreakage { name, .. } => format!("scheduler-breakage:{name}"),
            Trial::Scheduler => "model scheduler".to_owned(),
            Trial::SchedulerVariant(variant) => format!("scheduler-variant:{}", variant.name()),
            Trial::SchedulerMutant { mutant, .. } => format!("scheduler-mutant:{}", mutant.name()),
        }
    }

    /// Whom it judges.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Trial::Scheduler
            | Trial::SchedulerVariant(_)
            | Trial::SchedulerMutant { .. }
            | Trial::SchedulerBreakage { .. } => Side::Scheduler,
            _ => Side::Host,
        }
    }

    /// What it breaks, if anything.
    #[must_use]
    pub fn breaks(&self) -> Option<&'static Requirement> {
        match self {
            Trial::Sound | Trial::Variant(_) | Trial::Scheduler | Trial::SchedulerVariant(_) => {
                None
            }
            Trial::Mutant { requirement, .. }
            | Trial::SchedulerMutant { requirement, .. }
            | Trial::SchedulerBreakage { requirement, .. }
            | Trial::Breakage { requirement, .. } => Some(requirement),
        }
    }

    pub(super) fn lane(&self) -> Lane {
        match self {
            Trial::SchedulerBreakage { name: ALONE, .. } => Lane::ClusterAlone,
            Trial::SchedulerBreakage { .. } => Lane::Cluster,
            Trial::Mutant { .. } | Trial::SchedulerMutant { .. } | Trial::Breakage { .. } => {
                Lane::Fault
            }
            Trial::Sound | Trial::Variant(_) => Lane::WholeHost,
            Trial::Scheduler | Trial::SchedulerVariant(_) => Lane::WholeScheduler,
        }
    }

    /// Whether only slow checks can find it.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let Some(requirement) = self.breaks() else {
            return false;
        };
        let checks = suite::catalog(Side::of(requirement)).checks;
        let mut covering = checks
            .iter()
            .filter(|check| check.covers.contains(&requirement))
            .peekable();
        covering.peek().is_some() && covering.all(|check| check.slow)
    }

    /// Whether it is among those that were asked for by a part of the name or of the requirement's id.
    #[must_use]
    pub fn is_selected(&self, only: &[String]) -> bool {
        let name = self.name();
        let id = self
            .breaks()
            .map(|requirement| requirement.id)
            .unwrap_or_default();
        only.is_empty()
            || only
                .iter()
                .any(|part| name.contains(part) || id.contains(part))
    }

    /// Whether there is what it takes.
    #[must_use]
    pub fn can_run(&self, options: &Options) -> bool {
        let is_there = match self {
            Trial::Breakage { .. } => options.breakage_host.is_some(),
            Trial::SchedulerBreakage { .. } => options.breakage_scheduler.is_some(),
            _ => true,
        };
        is_there && (options.slow || !self.is_slow())
    }

    /// Its row in the matrix.
    #[must_use]
    pub fn place(&self) -> usize {
        thread_local! {
            static PLACES: BTreeMap<String, usize> =
                trials().iter().map(Trial::name).zip(0..).collect();
        }
        PLACES.with(|places| places.get(&self.name()).copied().unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_that_meddles_is_tried_alone() {
        let alone = |trial: &Trial| trial.lane() == Lane::ClusterAlone;
        assert_eq!(trials().iter().filter(|trial| alone(trial)).count(), 1);
    }
}
