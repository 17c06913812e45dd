//! `explain`: one requirement, check, monitor, role or profile.

use std::fmt::Write as _;

use clap::Args;

use super::list::{all_profiles, all_requirements, checks_of, fault, host_isolation_name};
use super::{EXIT_USAGE, fail_with, print};
use crate::check::meta::CheckMeta;
use crate::check::pattern::suggestion;
use crate::check::side::Side;
use crate::host::check::Check;
use crate::host::checks;
use crate::spec::requirements::{Level, Profile, Requirement};
use crate::spec::roles::Role;
use crate::suite;

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// ID of a requirement, a check or a monitor, or name of a role or a profile
    id: String,
}

/// Runs `explain`.
pub fn explain(arguments: &ExplainArgs) -> u8 {
    let id = arguments.id.to_lowercase();
    if let Some(page) = page(&id) {
        print(&page);
        return 0;
    }
    let catalogs = Side::ALL.map(suite::catalog);
    let of_sides = catalogs
        .iter()
        .flat_map(|catalog| catalog.names().chain(catalog.monitors.iter().copied()));
    let names = of_sides
        .chain(Role::ALL.iter().map(|role| role.name()))
        .chain(all_profiles().into_iter().map(Profile::name));
    let suggestion = suggestion(&arguments.id, names);
    fail_with(
        &format!(
            "unknown requirement, check, role or profile `{}`{suggestion}",
            arguments.id
        ),
        EXIT_USAGE,
    )
}

/// Returns the page of the item with this id in lower case.
fn page(id: &str) -> Option<String> {
    if let Some(item) = all_requirements().find(|item| item.id.to_lowercase() == id) {
        return Some(requirement_page(item));
    }
    if let Some(check) = checks::all().find(|check| check.id == id) {
        return Some(host_check_page(check));
    }
    let scenarios = suite::catalog(Side::Scheduler).checks;
    if let Some(scenario) = scenarios.into_iter().find(|scenario| scenario.id == id) {
        return Some(check_page(scenario, Side::Scheduler, ""));
    }
    if let Some(page) = monitor_page(id) {
        return Some(page);
    }
    if let Some(role) = Role::named(id) {
        return Some(role_page(role));
    }
    let profiles = all_profiles();
    let profile = profiles.into_iter().find(|profile| profile.name() == id);
    profile.map(profile_page)
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
    write_covered(&mut page, check.covers);
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

/// Writes id, level and sentence of each requirement that a check or a monitor covers.
fn write_covered(page: &mut String, covered: &[&Requirement]) {
    for item in covered {
        let _ = writeln!(
            page,
            "  {} {}\n    {}",
            item.id,
            item.level.name(),
            item.sentence
        );
    }
}

/// Returns the page of a monitor, or `None` if there is no monitor with this id.
fn monitor_page(id: &str) -> Option<String> {
    let covered: Vec<&Requirement> = all_requirements()
        .filter(|item| checks_of(item).contains(&id))
        .collect();
    if covered.is_empty() {
        return None;
    }
    let mut page = String::new();
    let _ = writeln!(page, "{id}  judges every frame of each run\n");
    write_covered(&mut page, &covered);
    Some(page)
}

fn role_page(role: Role) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{}  role · {}\n", role.name(), role.kind());
    let _ = writeln!(page, "  {}\n", role.contract());
    let users = checks::all().filter(|check| check.roles.contains(&role));
    let users: Vec<&str> = users.map(|check| check.id).collect();
    let _ = writeln!(page, "  checks  {}", users.join(", "));
    page
}

fn profile_page(profile: Profile) -> String {
    let mut page = String::new();
    let of_profile = || all_requirements().filter(move |item| item.profile == profile);
    let count = |level: Level| of_profile().filter(|item| item.level == level).count();
    let _ = writeln!(
        page,
        "{}  profile · {} MUST, {} SHOULD, {} MAY\n",
        profile.name(),
        count(Level::Must),
        count(Level::Should),
        count(Level::May)
    );
    for item in of_profile() {
        let _ = writeln!(
            page,
            "  {:<16} {:<6} {}",
            item.id,
            item.level.name(),
            item.sentence
        );
    }
    page
}
