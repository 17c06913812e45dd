//! `list` and `explain`: requirements, checks, roles and mutants.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{EXIT_USAGE, fail_with, print};
use crate::check::isolation::{HostIsolation, SchedulerIsolation};
use crate::check::meta::CheckMeta;
use crate::check::pattern::{Pattern, suggestion};
use crate::check::side::Side;
use crate::host::check::Check;
use crate::host::{checks, monitors};
use crate::scheduler::scenario::Scenario;
use crate::spec::requirements::{Breaks, Level, Profile, Requirement};
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

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// ID of a requirement or a check
    id: String,
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

fn all_profiles() -> Vec<Profile> {
    let mut all: Vec<Profile> = Vec::new();
    for profile in Side::ALL.into_iter().flat_map(Side::profiles) {
        if !all.contains(&profile) {
            all.push(profile);
        }
    }
    all
}

fn all_requirements() -> impl Iterator<Item = &'static Requirement> {
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
            id: check.id.to_owned(),
            text: format!(
                "{:<34} {:<7}{slow} {}",
                check.id,
                host_isolation_name(check.host),
                covers.join(" ")
            ),
            value: json!({
                "id": check.id,
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
        id: scenario.id.to_owned(),
        text: format!(
            "{:<34} {isolation:<7}{slow} {}",
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

fn host_isolation_name(isolation: HostIsolation) -> &'static str {
    match isolation {
        HostIsolation::Shared => "shared",
        HostIsolation::Own => "own",
        HostIsolation::Quiet => "quiet",
    }
}

fn role_rows() -> Vec<Row> {
    let row = |role: &Role| Row {
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
            id: fault.clone(),
            related: vec![item.id],
            text: format!("{fault:<40} {:<16} {}", item.id, checks_of(item).join(" ")),
            value: json!({ "breaks": fault, "requirement": item.id, "checks": checks_of(item) }),
        })
    };
    of_profile.filter_map(row).collect()
}

/// Returns the mutant or breakage that violates a requirement.
fn fault(requirement: &Requirement) -> Option<String> {
    requirement.breaks.map(|fault| match fault {
        Breaks::Mutant(name) => format!("mutant:{name}"),
        Breaks::Breakage(name) => format!("breakage:{name}"),
    })
}

fn checks_of(requirement: &'static Requirement) -> Vec<&'static str> {
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

/// Runs `explain`.
pub fn explain(arguments: &ExplainArgs) -> u8 {
    let id = arguments.id.to_lowercase();
    if let Some(item) = all_requirements().find(|item| item.id.to_lowercase() == id) {
        print(&requirement_page(item));
        return 0;
    }
    if let Some(check) = checks::all().find(|check| check.id == id) {
        print(&host_check_page(check));
        return 0;
    }
    let scenarios = suite::catalog(Side::Scheduler).checks;
    if let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == id) {
        print(&check_page(scenario, Side::Scheduler, ""));
        return 0;
    }
    let names = all_requirements()
        .map(|item| item.id)
        .chain(checks::all().map(|check| check.id))
        .chain(scenarios.iter().map(|check| check.id));
    let suggestion = suggestion(&arguments.id, names);
    fail_with(
        &format!(
            "unknown requirement or check `{}`{suggestion}",
            arguments.id
        ),
        EXIT_USAGE,
    )
}

fn requirement_page(item: &'static Requirement) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "{}  {} · profile {}\n",
        item.id,
        item.level.name(),
        item.profile.name()
    );
    let _ = writeln!(page, "  {}\n", item.sentence);
    let _ = writeln!(page, "  why     {}", item.why);
    let _ = writeln!(page, "  origin  {}", item.origin);
    let _ = writeln!(page, "  spec    docs/spec/{}", item.page);
    if let Some(reason) = item.excluded {
        let _ = writeln!(page, "  no check: {reason}");
    }
    let checks = checks_of(item);
    if !checks.is_empty() {
        let _ = writeln!(page, "  checks  {}", checks.join(", "));
    }
    if let Some(fault) = fault(item) {
        let _ = writeln!(page, "  breaks  {fault}");
    }
    if item.level != Level::May && !checks.is_empty() {
        let side = Side::of(item).name();
        let _ = writeln!(page, "\n  berth-conformance {side} --run {}", item.id);
    }
    page
}

fn host_check_page(check: &Check) -> String {
    let mut roles = String::new();
    for role in check.roles {
        // Writing to a string cannot fail.
        let _ = writeln!(roles, "  role `{role}`: {}", role.contract());
    }
    let host = format!("{} host\n{roles}", host_isolation_name(check.host));
    check_page(check, Side::Host, &host)
}

fn check_page(check: &CheckMeta, side: Side, details: &str) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{}  {} s\n", check.id, check.budget_s);
    for covered in check.covers {
        let _ = writeln!(
            page,
            "  {} {}\n    {}",
            covered.id,
            covered.level.name(),
            covered.sentence
        );
    }
    if !details.is_empty() {
        let _ = writeln!(page, "\n  {}", details.trim_end());
    }
    let _ = writeln!(page, "\n  code  {}:{}", check.file, check.line);
    let _ = writeln!(
        page,
        "  berth-conformance {} --run {}",
        side.name(),
        check.id
    );
    page
}
