//! `list`: requirements, checks, roles and mutants.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{EXIT_USAGE, fail_with, print};
use crate::check::isolation::{HostIsolation, SchedulerIsolation};
use crate::check::pattern::{Pattern, suggestion};
use crate::check::side::Side;
use crate::host::check::Check;
use crate::host::{checks, monitors};
use crate::scheduler::scenario::Scenario;
use crate::spec::requirements::{Breaks, Profile, Requirement};
use crate::spec::roles::Role;
use crate::{scheduler, suite};

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Kind of items to list
    #[arg(value_enum)]
    kind: ItemKind,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List only items of this profile; repeatable
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// List only items of this side
    #[arg(long, value_enum)]
    side: Option<ListedSide>,
    /// List only items whose id matches; repeatable
    #[arg(long, value_name = "GLOB")]
    run: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ItemKind {
    Requirements,
    Checks,
    Roles,
    Mutants,
}

/// Side whose items are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListedSide {
    /// Hosts.
    Host,
    /// Schedulers.
    Scheduler,
}

impl ListedSide {
    fn side(self) -> Side {
        match self {
            ListedSide::Host => Side::Host,
            ListedSide::Scheduler => Side::Scheduler,
        }
    }
}

/// Returns the profile with this name, of either side.
fn profile(name: &str) -> Result<Profile, u8> {
    let profiles: Vec<Profile> = all_profiles();
    let found = profiles.iter().find(|profile| profile.name() == name);
    found.copied().ok_or_else(|| {
        let suggestion = suggestion(name, profiles.iter().map(|profile| profile.name()));
        fail_with(&format!("unknown profile `{name}`{suggestion}"), EXIT_USAGE)
    })
}

pub(super) fn all_profiles() -> Vec<Profile> {
    let mut all: Vec<Profile> = Vec::new();
    for profile in Side::ALL.into_iter().flat_map(Side::profiles) {
        if !all.contains(&profile) {
            all.push(profile);
        }
    }
    all
}

pub(super) fn all_requirements() -> impl Iterator<Item = &'static Requirement> {
    Side::ALL.into_iter().flat_map(Side::requirements)
}

/// Runs `list`.
pub fn list(arguments: &ListArgs) -> u8 {
    let mut profiles = Vec::new();
    for name in &arguments.profile {
        match profile(name) {
            Ok(profile) => profiles.push(profile),
            Err(code) => return code,
        }
    }
    if profiles.is_empty() {
        profiles = all_profiles();
    }
    let patterns: Vec<Pattern> = arguments.run.iter().cloned().map(Pattern).collect();
    let rows = match arguments.kind {
        ItemKind::Requirements => requirement_rows(&profiles),
        ItemKind::Checks => check_rows(&profiles),
        ItemKind::Roles => role_rows(),
        ItemKind::Mutants => mutant_rows(&profiles),
    };
    let rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| {
            arguments
                .side
                .is_none_or(|listed| listed.side() == row.side)
        })
        .collect();
    for pattern in &patterns {
        if !rows.iter().any(|row| row.matches(pattern)) {
            let suggestion = suggestion(&pattern.0, rows.iter().map(|row| row.id.as_str()));
            return fail_with(
                &format!("`{}` matches nothing in this list{suggestion}", pattern.0),
                EXIT_USAGE,
            );
        }
    }
    let shown = rows
        .into_iter()
        .filter(|row| patterns.is_empty() || patterns.iter().any(|pattern| row.matches(pattern)));
    if arguments.json {
        let values: Vec<Value> = shown.map(|row| row.value).collect();
        print(&format!("{:#}\n", Value::Array(values)));
    } else {
        print(&shown.map(|row| row.text + "\n").collect::<String>());
    }
    0
}

struct Row {
    side: Side,
    id: String,
    /// IDs of related items, which patterns match as well.
    related: Vec<&'static str>,
    text: String,
    value: Value,
}

impl Row {
    fn matches(&self, pattern: &Pattern) -> bool {
        pattern.matches_id(&self.id) || self.related.iter().any(|id| pattern.matches_id(id))
    }
}

fn requirement_rows(profiles: &[Profile]) -> Vec<Row> {
    let of_profile = all_requirements().filter(|item| profiles.contains(&item.profile));
    let row = |item: &'static Requirement| Row {
        side: Side::of(item),
        id: item.id.to_owned(),
        related: Vec::new(),
        text: format!(
            "{:<16} {:<6} {:<10} {}",
            item.id,
            item.level.name(),
            item.profile.name(),
            item.sentence
        ),
        value: json!({
            "id": item.id,
            "level": item.level.name(),
            "profile": item.profile.name(),
            "sentence": item.sentence,
            "why": item.why,
            "page": item.page,
            "breaks": fault(item),
            "excluded": item.excluded,
            "checks": checks_of(item),
        }),
    };
    of_profile.map(row).collect()
}

fn check_rows(profiles: &[Profile]) -> Vec<Row> {
    let row = |check: &'static Check| {
        let covers: Vec<&str> = check.covers.iter().map(|item| item.id).collect();
        let slow = if check.slow { " slow" } else { "" };
        Row {
            side: Side::Host,
            id: check.id.to_owned(),
            text: format!(
                "{:<9} {:<34} {:<7}{slow} {}",
                Side::Host.name(),
                check.id,
                host_isolation_name(check.host),
                covers.join(" ")
            ),
            value: json!({
                "id": check.id,
                "side": Side::Host.name(),
                "covers": covers,
                "isolation": host_isolation_name(check.host),
                "roles": check.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
                "needs": check.needs.iter().map(lowercase).collect::<Vec<_>>(),
                "feature": check.feature.map(|(feature, _)| feature),
                "budget_s": check.budget_s,
                "slow": check.slow,
                "source": format!("{}:{}", check.file, check.line),
            }),
            related: covers,
        }
    };
    let hosts = checks::all()
        .filter(|check| check.belongs_to(profiles))
        .map(row);
    let schedulers = scheduler::scenarios().filter(|scenario| scenario.belongs_to(profiles));
    hosts.chain(schedulers.map(scenario_row)).collect()
}

fn scenario_row(scenario: &'static Scenario) -> Row {
    let covers: Vec<&str> = scenario.covers.iter().map(|item| item.id).collect();
    let slow = if scenario.slow { " slow" } else { "" };
    let isolation = scheduler_isolation_name(scenario.isolation);
    Row {
        side: Side::Scheduler,
        id: scenario.id.to_owned(),
        text: format!(
            "{:<9} {:<34} {isolation:<7}{slow} {}",
            Side::Scheduler.name(),
            scenario.id,
            covers.join(" ")
        ),
        value: json!({
            "id": scenario.id,
            "side": Side::Scheduler.name(),
            "covers": covers,
            "isolation": isolation,
            "needs": scenario.needs.iter().map(lowercase).collect::<Vec<_>>(),
            "feature": scenario.feature,
            "budget_s": scenario.budget_s,
            "slow": scenario.slow,
            "source": format!("{}:{}", scenario.file, scenario.line),
        }),
        related: covers,
    }
}

/// Returns the name of a fieldless enum variant in lower case.
fn lowercase(variant: &impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

fn scheduler_isolation_name(isolation: SchedulerIsolation) -> &'static str {
    match isolation {
        SchedulerIsolation::Shared => "shared",
        SchedulerIsolation::Own => "own",
        SchedulerIsolation::Isolated => "isolated",
        SchedulerIsolation::Elected => "elected",
    }
}

pub(super) fn host_isolation_name(isolation: HostIsolation) -> &'static str {
    match isolation {
        HostIsolation::Shared => "shared",
        HostIsolation::Own => "own",
        HostIsolation::Quiet => "quiet",
    }
}

fn role_rows() -> Vec<Row> {
    let row = |role: &Role| Row {
        side: Side::Host,
        id: role.name().to_owned(),
        related: Vec::new(),
        text: format!(
            "{:<24} {:<10} {}",
            role.name(),
            role.kind().to_string(),
            role.contract()
        ),
        value: json!({
            "name": role.name(),
            "kind": role.kind().to_string(),
            "contract": role.contract(),
        }),
    };
    Role::ALL.iter().map(row).collect()
}

fn mutant_rows(profiles: &[Profile]) -> Vec<Row> {
    let of_profile = all_requirements().filter(|item| profiles.contains(&item.profile));
    let row = |item: &'static Requirement| {
        let fault = fault(item)?;
        Some(Row {
            side: Side::of(item),
            id: fault.clone(),
            related: vec![item.id],
            text: format!("{fault:<40} {:<16} {}", item.id, checks_of(item).join(" ")),
            value: json!({ "breaks": fault, "requirement": item.id, "checks": checks_of(item) }),
        })
    };
    of_profile.filter_map(row).collect()
}

/// Returns the mutant or breakage that violates a requirement.
pub(super) fn fault(requirement: &Requirement) -> Option<String> {
    requirement.breaks.map(|fault| match fault {
        Breaks::Mutant(name) => format!("mutant:{name}"),
        Breaks::Breakage(name) => format!("breakage:{name}"),
    })
}

pub(super) fn checks_of(requirement: &'static Requirement) -> Vec<&'static str> {
    let side = Side::of(requirement);
    let checks = suite::catalog(side)
        .checks
        .into_iter()
        .filter(|check| check.covers.contains(&requirement));
    let monitors = monitors::all();
    let covering = monitors
        .iter()
        .filter(|monitor| monitor.covers().contains(&requirement));
    checks
        .map(|check| check.id)
        .chain(covering.map(|monitor| monitor.id()))
        .chain(scheduler::monitors::covering(requirement))
        .collect()
}
