//! `list` and `explain`: what there is, and what it means.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{USAGE, complain_of, say};
use crate::check::isolation::HostIsolation;
use crate::check::isolation::SchedulerIsolation;
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
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Only of this profile; repeatable
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Only what matches; repeatable
    #[arg(long, value_name = "GLOB")]
    run: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Requirements,
    Checks,
    Roles,
    Mutants,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The id of a requirement or of a check
    id: String,
}

/// The profile of that name, of either side.
fn any_profile(name: &str) -> Result<Profile, u8> {
    let profiles: Vec<Profile> = all_profiles();
    let found = profiles.iter().find(|profile| profile.name() == name);
    found.copied().ok_or_else(|| {
        let near = suggestion(name, profiles.iter().map(|profile| profile.name()));
        complain_of(&format!("there is no profile `{name}`{near}"), USAGE)
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
        match any_profile(name) {
            Ok(profile) => profiles.push(profile),
            Err(code) => return code,
        }
    }
    if profiles.is_empty() {
        profiles = all_profiles();
    }
    let patterns: Vec<Pattern> = arguments.run.iter().cloned().map(Pattern).collect();
    let rows = match arguments.what {
        What::Requirements => requirement_rows(&profiles),
        What::Checks => check_rows(&profiles),
        What::Roles => role_rows(),
        What::Mutants => mutant_rows(&profiles),
    };
    for pattern in &patterns {
        if !rows.iter().any(|row| row.matches(pattern)) {
            let near = suggestion(&pattern.0, rows.iter().map(|row| row.id.as_str()));
            return complain_of(
                &format!("`{}` matches nothing in this list{near}", pattern.0),
                USAGE,
            );
        }
    }
    let shown = rows
        .into_iter()
        .filter(|row| patterns.is_empty() || patterns.iter().any(|pattern| row.matches(pattern)));
    if arguments.json {
        let values: Vec<Value> = shown.map(|row| row.value).collect();
        say(&format!("{:#}\n", Value::Array(values)));
    } else {
        say(&shown.map(|row| row.text + "\n").collect::<String>());
    }
    0
}

struct Row {
    id: String,
    /// Ids of what the row is about, by which it is found as well.
    about: Vec<&'static str>,
    text: String,
    value: Value,
}

impl Row {
    fn matches(&self, pattern: &Pattern) -> bool {
        pattern.matches_id(&self.id) || self.about.iter().any(|id| pattern.matches_id(id))
    }
}

fn requirement_rows(profiles: &[Profile]) -> Vec<Row> {
    let of_profile = all_requirements().filter(|item| profiles.contains(&item.profile));
    let row = |item: &'static Requirement| Row {
        id: item.id.to_owned(),
        about: Vec::new(),
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
            "breaks": breaks(item),
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
                "host": host_isolation_name(check.host),
                "roles": check.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
                "needs": check.needs.iter().map(|need| format!("{need:?}").to_lowercase()).collect::<Vec<_>>(),
                "feature": check.feature.map(|(feature, _)| feature),
                "budget_s": check.budget_s,
                "slow": check.slow,
                "source": format!("{}:{}", check.file, check.line),
            }),
            about: covers,
        }
    };
    let hosts = checks::all()
        .filter(|check| check.serves(profiles))
        .map(row);
    let schedulers = scheduler::scenarios().filter(|scenario| scenario.serves(profiles));
    hosts.chain(schedulers.map(scenario_row)).collect()
}

fn scenario_row(scenario: &'static Scenario) -> Row {
    let covers: Vec<&str> = scenario.covers.iter().map(|item| item.id).collect();
    let slow = if scenario.slow { " slow" } else { "" };
    let place = isolation_name(scenario.isolation);
    Row {
        id: scenario.id.to_owned(),
        text: format!("{:<34} {place:<7}{slow} {}", scenario.id, covers.join(" ")),
        value: json!({
            "id": scenario.id,
            "side": Side::Scheduler.name(),
            "covers": covers,
            "place": place,
            "needs": scenario.needs.iter().map(|need| format!("{need:?}").to_lowercase()).collect::<Vec<_>>(),
            "feature": scenario.feature,
            "budget_s": scenario.budget_s,
            "slow": scenario.slow,
            "source": format!("{}:{}", scenario.file, scenario.line),
        }),
        about: covers,
    }
}

fn isolation_name(isolation: SchedulerIsolation) -> &'static str {
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
        about: Vec::new(),
        text: format!(
            "{:<18} {:<10} {}",
            role.name(),
            role.kind().to_string(),
            role.contract()
        ),
        value: json!({ "name": role.name(), "kind": role.kind().to_string(), "contract": role.contract() }),
    };
    Role::ALL.iter().map(row).collect()
}

fn mutant_rows(profiles: &[Profile]) -> Vec<Row> {
    let of_profile = all_requirements().filter(|item| profiles.contains(&item.profile));
    let row = |item: &'static Requirement| {
        let broken = breaks(item)?;
        Some(Row {
            id: broken.clone(),
            about: vec![item.id],
            text: format!("{broken:<40} {:<16} {}", item.id, checks_of(item).join(" ")),
            value: json!({ "breaks": broken, "requirement": item.id, "checks": checks_of(item) }),
        })
    };
    of_profile.filter_map(row).collect()
}

fn breaks(requirement: &Requirement) -> Option<String> {
    requirement.breaks.map(|breaks| match breaks {
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
    let watching = monitors
        .iter()
        .filter(|monitor| monitor.covers().contains(&requirement));
    checks
        .map(|check| check.id)
        .chain(watching.map(|monitor| monitor.id()))
        .chain(scheduler::monitors::covering(requirement))
        .collect()
}

/// Runs `explain`.
pub fn explain(arguments: &ExplainArgs) -> u8 {
    let wanted = arguments.id.to_lowercase();
    if let Some(item) = all_requirements().find(|item| item.id.to_lowercase() == wanted) {
        say(&requirement_page(item));
        return 0;
    }
    if let Some(check) = checks::all().find(|check| check.id == wanted) {
        say(&host_check_page(check));
        return 0;
    }
    let scenarios = suite::catalog(Side::Scheduler).checks;
    if let Some(scenario) = scenarios.iter().find(|scenario| scenario.id == wanted) {
        say(&check_page(scenario, Side::Scheduler, ""));
        return 0;
    }
    let names = all_requirements()
        .map(|item| item.id)
        .chain(checks::all().map(|check| check.id))
        .chain(scenarios.iter().map(|check| check.id));
    let near = suggestion(&arguments.id, names);
    complain_of(
        &format!(
            "there is no requirement and no check `{}`{near}",
            arguments.id
        ),
        USAGE,
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
    if let Some(broken) = breaks(item) {
        let _ = writeln!(page, "  breaks  {broken}");
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

fn check_page(check: &CheckMeta, side: Side, more: &str) -> String {
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
    if !more.is_empty() {
        let _ = writeln!(page, "\n  {}", more.trim_end());
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
