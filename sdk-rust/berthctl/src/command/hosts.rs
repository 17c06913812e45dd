//! `berthctl hosts`

use std::process::ExitCode;
use std::time::SystemTime;

use berth_sdk::address::HostAddress;
use berth_sdk::proto::HostHeartbeat;

use crate::args::{HostsArgs, Output};
use crate::discover::{self, Connection};
use crate::failure::Failure;
use crate::print::{self, Cell, note};

pub async fn run(
    connection: Connection,
    args: HostsArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut hosts = discover::hosts(connection.bus()?, args.wait, args.at_least).await?;
    hosts.sort_by(|a, b| (&a.friendly_name, &a.id).cmp(&(&b.friendly_name, &b.id)));
    print_hosts(&hosts, output)?;
    if args.wait.is_none() && args.at_least.is_none() {
        note("hosts without the extension `discover` may be missing; to wait for them: --wait 16s");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the hosts of these heartbeats.
pub fn print_hosts(hosts: &[HostHeartbeat], output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        print::json(&hosts)?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = hosts.iter().map(row).collect();
    print::table(
        &[
            "NAME",
            "ID",
            "GROUP",
            "VERSION",
            "WORKLOADS",
            "HTTP",
            "UP",
            "FREE",
        ],
        &rows,
    )?;
    Ok(())
}

fn row(host: &HostHeartbeat) -> Vec<Cell> {
    let group = host.labels.get("hostgroup").map_or("-", String::as_str);
    let http = match host.http_port {
        0 => "-".to_owned(),
        port => authority(&host.hostname, port),
    };
    vec![
        host.friendly_name.as_str().into(),
        host.id.as_str().into(),
        group.into(),
        host.version.as_str().into(),
        host.workload_count.to_string().into(),
        http.into(),
        uptime(host).into(),
        bytes(host.system_memory_free).into(),
    ]
}

/// Returns `HOST:PORT`, with an IPv6 address in brackets.
fn authority(hostname: &str, port: u32) -> String {
    match HostAddress::parse(hostname) {
        Ok(HostAddress::Ip(address)) => format!("{}:{port}", HostAddress::Ip(address)),
        _ => format!("{hostname}:{port}"),
    }
}

/// Returns the time since the start of the host, in a suitable unit.
fn uptime(host: &HostHeartbeat) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let Some(started_at) = host.started_at.as_ref() else {
        return "-".to_owned();
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match now.saturating_sub(started_at.seconds) {
        ..0 => "-".to_owned(),
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn bytes(count: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match count {
        0 => "-".to_owned(),
        1..10_737_418_240 => format!("{} MiB", count / MIB),
        _ => format!("{} GiB", count / (1024 * MIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_have_brackets() {
        for (hostname, expected) in [
            ("fd00::7", "[fd00::7]:8000"),
            ("10.0.0.7", "10.0.0.7:8000"),
            ("Node_1.example", "Node_1.example:8000"),
        ] {
            assert_eq!(authority(hostname, 8000), expected);
        }
    }
}
