//! The trials of the self test: the models, their variants and mutants, and the breakages.

use std::collections::BTreeMap;

use super::Options;
use crate::check::side::Side;
use crate::models::host::{Mutant, Variant};
use crate::models::scheduler as model_scheduler;
use crate::spec::requirements;
use crate::spec::requirements::{Breaks, Requirement};
use crate::suite;

/// A target to judge, and the requirement that it breaks, if any.
#[derive(Clone, Debug)]
pub enum Trial {
    /// The model host; it must pass.
    ModelHost,
    /// A conforming variant of the model host; it must pass.
    HostVariant(Variant),
    /// The model host with one fault; a check of the requirement must fail.
    HostMutant {
        /// Injected fault.
        mutant: Mutant,
        /// Requirement that the fault breaks.
        requirement: &'static Requirement,
    },
    /// The reference host with one fault; a check of the requirement must fail.
    HostBreakage {
        /// Name of the fault.
        name: &'static str,
        /// Requirement that the fault breaks.
        requirement: &'static Requirement,
    },
    /// The model scheduler; it must pass.
    ModelScheduler,
    /// A conforming variant of the model scheduler; it must pass.
    SchedulerVariant(model_scheduler::Variant),
    /// The model scheduler with one fault; a check of the requirement must fail.
    SchedulerMutant {
        /// Injected fault.
        mutant: model_scheduler::Mutant,
        /// Requirement that the fault breaks.
        requirement: &'static Requirement,
    },
    /// The reference scheduler in a cluster, with one fault; a check of the requirement must fail.
    SchedulerBreakage {
        /// Name of the fault.
        name: &'static str,
        /// Requirement that the fault breaks.
        requirement: &'static Requirement,
    },
}

/// Group of trials with a common limit on concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialGroup {
    /// Trials that run the checks of one requirement.
    Fault,
    /// Trials that run the checks of one requirement in a shared cluster, in separate namespaces.
    Cluster,
    /// Trials in the cluster that must run alone.
    ClusterAlone,
    /// Trials that run all checks on a host.
    WholeHost,
    /// Trials that run all checks on a scheduler.
    WholeScheduler,
}

/// Breakage that runs alone, because its scheduler acts in the namespaces of other trials and would
/// hide their faults.
const EXCLUSIVE_BREAKAGE: &str = "touches-every-namespace";

/// Returns all trials, in the order of the matrix.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let host_variants = Variant::ALL.iter().copied().map(Trial::HostVariant);
    let host_faults =
        requirements::ALL
            .iter()
            .filter_map(|requirement| match requirement.breaks? {
                Breaks::Mutant(name) => Some(Trial::HostMutant {
                    mutant: Mutant::named(name)?,
                    requirement,
                }),
                Breaks::Breakage(name) => Some(Trial::HostBreakage { name, requirement }),
            });
    let scheduler_variants = model_scheduler::Variant::ALL
        .iter()
        .copied()
        .map(Trial::SchedulerVariant);
    let scheduler_faults =
        Side::Scheduler
            .requirements()
            .filter_map(|requirement| match requirement.breaks? {
                Breaks::Mutant(name) => Some(Trial::SchedulerMutant {
                    mutant: model_scheduler::Mutant::named(name)?,
                    requirement,
                }),
                Breaks::Breakage(name) => Some(Trial::SchedulerBreakage { name, requirement }),
            });
    std::iter::once(Trial::ModelHost)
        .chain(host_variants)
        .chain(host_faults)
        .chain(std::iter::once(Trial::ModelScheduler))
        .chain(scheduler_variants)
        .chain(scheduler_faults)
        .collect()
}

impl Trial {
    /// Returns the name in the matrix.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Trial::ModelHost => "model host".to_owned(),
            Trial::HostVariant(variant) => format!("variant:{}", variant.name()),
            Trial::HostMutant { mutant, .. } => format!("mutant:{}", mutant.name()),
            Trial::HostBreakage { name, .. } => format!("breakage:{name}"),
            Trial::ModelScheduler => "model scheduler".to_owned(),
            Trial::SchedulerVariant(variant) => format!("scheduler-variant:{}", variant.name()),
            Trial::SchedulerMutant { mutant, .. } => format!("scheduler-mutant:{}", mutant.name()),
            Trial::SchedulerBreakage { name, .. } => format!("scheduler-breakage:{name}"),
        }
    }

    /// Returns the side of the target.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Trial::ModelScheduler
            | Trial::SchedulerVariant(_)
            | Trial::SchedulerMutant { .. }
            | Trial::SchedulerBreakage { .. } => Side::Scheduler,
            _ => Side::Host,
        }
    }

    /// Returns the requirement that the target breaks, if any.
    #[must_use]
    pub fn breaks(&self) -> Option<&'static Requirement> {
        match self {
            Trial::ModelHost
            | Trial::HostVariant(_)
            | Trial::ModelScheduler
            | Trial::SchedulerVariant(_) => None,
            Trial::HostMutant { requirement, .. }
            | Trial::HostBreakage { requirement, .. }
            | Trial::SchedulerMutant { requirement, .. }
            | Trial::SchedulerBreakage { requirement, .. } => Some(requirement),
        }
    }

    pub(super) fn group(&self) -> TrialGroup {
        match self {
            Trial::SchedulerBreakage {
                name: EXCLUSIVE_BREAKAGE,
                ..
            } => TrialGroup::ClusterAlone,
            Trial::SchedulerBreakage { .. } => TrialGroup::Cluster,
            Trial::HostMutant { .. }
            | Trial::HostBreakage { .. }
            | Trial::SchedulerMutant { .. } => TrialGroup::Fault,
            Trial::ModelHost | Trial::HostVariant(_) => TrialGroup::WholeHost,
            Trial::ModelScheduler | Trial::SchedulerVariant(_) => TrialGroup::WholeScheduler,
        }
    }

    /// Whether all checks of the requirement are slow.
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

    /// Whether the name or the requirement id contains one of the texts in `only`, or `only` is
    /// empty.
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

    /// Whether the options permit the trial: its program is given, and it is not too slow.
    #[must_use]
    pub fn can_run(&self, options: &Options) -> bool {
        let has_program = match self {
            Trial::HostBreakage { .. } => options.breakage_host.is_some(),
            Trial::SchedulerBreakage { .. } => options.breakage_scheduler.is_some(),
            _ => true,
        };
        has_program && (options.slow || !self.is_slow())
    }

    /// Returns the index of the trial's row in the matrix.
    #[must_use]
    pub fn row(&self) -> usize {
        thread_local! {
            static ROWS: BTreeMap<String, usize> =
                trials().iter().map(Trial::name).zip(0..).collect();
        }
        ROWS.with(|rows| rows.get(&self.name()).copied().unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_trial_runs_alone() {
        let is_alone = |trial: &&Trial| trial.group() == TrialGroup::ClusterAlone;
        assert_eq!(trials().iter().filter(is_alone).count(), 1);
    }
}
