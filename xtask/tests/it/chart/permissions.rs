//! Permissions on the bus, with a real nats-server and the rendered configuration.

use std::path::Path;

use super::broker::Broker;
use super::nats_client::{Client, reply_subject};
use super::{objects, programs, render, root};

const COMMANDS: [&str; 4] = [
    "heartbeat",
    "workload.start",
    "workload.stop",
    "workload.status",
];

#[test]
fn scheduler_reaches_every_host_and_hosts_reach_only_the_scheduler() {
    let mut bus = Bus::start();
    assert_eq!(bus.scheduler.subscribe("_INBOX.s.*"), "");
    assert_eq!(bus.scheduler.subscribe("runtime.operator.heartbeat.*"), "");
    for host in &mut bus.hosts {
        assert_eq!(host.client.subscribe(&host.commands), "");
    }
    for index in 0..bus.hosts.len() {
        let id = bus.hosts[index].id.clone();
        for command in COMMANDS {
            let subject = format!("runtime.host.{id}.{command}");
            assert_eq!(bus.scheduler.publish(&subject, "_INBOX.s.1", "payload"), "");
            let received: Vec<String> = bus
                .hosts
                .iter_mut()
                .map(|host| host.client.flush())
                .collect();
            for (other, text) in received.iter().enumerate() {
                assert_eq!(
                    text.contains("payload"),
                    other == index,
                    "{subject} at {other}: {text}"
                );
            }
            let reply_to = reply_subject(&received[index]).to_owned();
            assert_eq!(bus.hosts[index].client.publish(&reply_to, "", "done"), "");
            assert_eq!(bus.scheduler.flush(), "MSG _INBOX.s.1 1 4\r\ndone\r\n");
            let again = bus.hosts[index].client.publish(&reply_to, "", "done");
            assert!(
                again.contains("Permissions Violation for Publish"),
                "{again}"
            );
        }
        let heartbeat = format!("runtime.operator.heartbeat.{id}");
        assert_eq!(bus.hosts[index].client.publish(&heartbeat, "", "here"), "");
        assert_eq!(
            bus.scheduler.flush(),
            format!("MSG {heartbeat} 2 4\r\nhere\r\n")
        );
    }
}

#[test]
fn discovery_reaches_all_hosts_and_only_the_scheduler_asks() {
    let mut bus = Bus::start();
    assert_eq!(bus.scheduler.subscribe("_INBOX.s.*"), "");
    for host in &mut bus.hosts {
        assert_eq!(host.client.subscribe("berth.ext.v1.discover"), "");
    }
    for round in 1..=2 {
        let inbox = format!("_INBOX.s.{round}");
        let published = bus.scheduler.publish("berth.ext.v1.discover", &inbox, "");
        assert_eq!(published, "");
        for host in &mut bus.hosts {
            let request = host.client.flush();
            assert_eq!(request.matches("MSG ").count(), 1, "{}: {request}", host.id);
            let reply_to = reply_subject(&request).to_owned();
            assert_eq!(host.client.publish(&reply_to, "", &host.id), "");
            let again = host.client.publish(&reply_to, "", &host.id);
            assert!(
                again.contains("Permissions Violation for Publish"),
                "{again}"
            );
            let id = &host.id;
            let reply = format!("MSG {inbox} 1 {}\r\n{id}\r\n", id.len());
            assert_eq!(bus.scheduler.flush(), reply);
        }
    }
    for host in &mut bus.hosts {
        let output = host.client.publish("berth.ext.v1.discover", "_INBOX.x", "");
        assert!(
            output.contains("Permissions Violation for Publish"),
            "{output}"
        );
    }
}

#[test]
fn hosts_can_neither_read_nor_command_other_hosts() {
    let mut bus = Bus::start();
    assert_eq!(bus.scheduler.subscribe("runtime.operator.heartbeat.*"), "");
    let ids: Vec<String> = bus.hosts.iter().map(|host| host.id.clone()).collect();
    for (index, host) in bus.hosts.iter_mut().enumerate() {
        for subject in [
            ">",
            "*.>",
            "_INBOX.>",
            "runtime.operator.heartbeat.*",
            "heartbeats.>",
            "commands.>",
            "$SYS.>",
        ] {
            let output = host.client.subscribe(subject);
            assert!(
                output.contains("Permissions Violation for Subscription"),
                "{subject}: {output}"
            );
        }
        for (other, id) in ids.iter().enumerate() {
            let start = format!("runtime.host.{id}.workload.start");
            let output = host.client.publish(&start, "_INBOX.x", "evil");
            assert!(
                output.contains("Permissions Violation for Publish"),
                "{start}: {output}"
            );
            let mapped = format!("commands.{}.{id}.workload.start", &id[..6]);
            let output = host.client.publish(&mapped, "_INBOX.x", "evil");
            assert!(
                output.contains("Permissions Violation for Publish"),
                "{mapped}: {output}"
            );
            if other != index {
                let heartbeat = format!("runtime.operator.heartbeat.{id}");
                let output = host.client.publish(&heartbeat, "", "evil");
                assert!(
                    output.contains("Permissions Violation for Publish"),
                    "{heartbeat}: {output}"
                );
            }
        }
    }
    assert_eq!(bus.scheduler.flush(), "");
    let output = bus.scheduler.subscribe("runtime.host.*.>");
    assert!(
        output.contains("Permissions Violation for Subscription"),
        "{output}"
    );
}

#[test]
fn bound_hosts_can_subscribe_to_their_own_commands_only() {
    let mut bus = Bus::start();
    for subject in [
        "runtime.host.*.>",
        "runtime.host.*.workload.start",
        "runtime.host.edge-2.>",
    ] {
        let output = bus.host("edge-1").subscribe(subject);
        assert!(
            output.contains("Permissions Violation for Subscription"),
            "{subject}: {output}"
        );
    }
}

#[test]
fn distinguishes_missing_hosts_from_silent_ones() {
    let mut bus = Bus::start();
    assert_eq!(bus.scheduler.subscribe("_INBOX.s.*"), "");
    let gone = bus.hosts[0].id.clone();
    for id in [gone.as_str(), "edge-1", "unknown", "x"] {
        let subject = format!("runtime.host.{id}.workload.status");
        let output = bus.scheduler.publish(&subject, "_INBOX.s.1", "{}");
        assert_eq!(
            output.matches("NATS/1.0 503").count(),
            1,
            "{subject}: {output}"
        );
        assert_eq!(output.matches("MSG ").count(), 1, "{subject}: {output}");
    }
}

#[test]
fn accepts_only_certificates_of_the_release() {
    let objects = render(&[]).unwrap();
    let broker = Broker::start(&objects);
    // Another rendering has another certificate authority.
    let other = Broker::start(&render(&[]).unwrap());
    let dir = tempfile::tempdir().unwrap();
    for (file, from) in [
        ("ca.crt", broker.secret("berth-scheduler-tls")),
        ("tls.crt", other.secret("berth-scheduler-tls")),
        ("tls.key", other.secret("berth-scheduler-tls")),
    ] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let error = |directory: &Path| broker.try_client(directory).err().unwrap();
    error(dir.path());
    // The server's own certificate has the right authority, but belongs to no user.
    let output = error(&broker.secret("berth-nats-tls"));
    assert!(output.contains("Authorization Violation"), "{output}");
}

/// A server with a scheduler, a host of each of two groups, and two bound hosts.
struct Bus {
    scheduler: Client,
    hosts: Vec<Host>,
    _broker: Broker,
}

struct Host {
    id: String,
    /// The broadest subject that the host may subscribe to.
    commands: String,
    client: Client,
}

impl Bus {
    fn start() -> Self {
        let bound = "nats.boundHosts[0].id=edge-1,nats.boundHosts[1].id=edge-2";
        let rendering = xtask::chart::render(root(), &programs(), &["--set", bound]).unwrap();
        let broker = Broker::start(&objects(&rendering));
        let mut hosts = Vec::new();
        for group in ["default", "private-ingress"] {
            hosts.push(Host {
                id: host_id(&rendering, group),
                commands: "runtime.host.*.>".to_owned(),
                client: broker.client(&format!("berth-host-{group}-tls")),
            });
        }
        for id in ["edge-1", "edge-2"] {
            hosts.push(Host {
                id: id.to_owned(),
                commands: format!("runtime.host.{id}.>"),
                client: broker.client(&format!("berth-bound-{id}-tls")),
            });
        }
        let scheduler = broker.client("berth-scheduler-tls");
        Self {
            scheduler,
            hosts,
            _broker: broker,
        }
    }

    fn host(&mut self, id: &str) -> &mut Client {
        let found = self.hosts.iter_mut().find(|host| host.id == id);
        &mut found.unwrap().client
    }
}

/// Returns an id of the kind that the Pods of a group use.
fn host_id(rendering: &str, group: &str) -> String {
    let name = format!("--host-group={group}");
    let all = xtask::chart::arguments_of(rendering, "host").unwrap();
    let of_group = all
        .iter()
        .find(|arguments| arguments.contains(&name))
        .unwrap();
    let id = of_group
        .iter()
        .find_map(|argument| argument.strip_prefix("--host-id="));
    id.unwrap().to_owned()
}
