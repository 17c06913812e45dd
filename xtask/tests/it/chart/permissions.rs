//! Who may do what on the bus, on a real nats-server with the rendered configuration.

use std::path::Path;

use super::broker::Broker;
use super::wire::{Client, reply_subject};
use super::{objects, programs, render, root};

const COMMANDS: [&str; 4] = [
    "heartbeat",
    "workload.start",
    "workload.stop",
    "workload.status",
];

#[test]
fn a_scheduler_reaches_every_host_and_a_host_no_one_but_the_scheduler() {
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
            assert_eq!(bus.scheduler.publish(&subject, "_INBOX.s.1", "do it"), "");
            let heard: Vec<String> = bus
                .hosts
                .iter_mut()
                .map(|host| host.client.flush())
                .collect();
            for (other, text) in heard.iter().enumerate() {
                assert_eq!(
                    text.contains("do it"),
                    other == index,
                    "{subject} at {other}: {text}"
                );
            }
            let answer_to = reply_subject(&heard[index]).to_owned();
            assert_eq!(bus.hosts[index].client.publish(&answer_to, "", "done"), "");
            assert_eq!(bus.scheduler.flush(), "MSG _INBOX.s.1 1 4\r\ndone\r\n");
            let again = bus.hosts[index].client.publish(&answer_to, "", "done");
            assert!(
                again.contains("Permissions Violation for Publish"),
                "{again}"
            );
        }
        let beat = format!("runtime.operator.heartbeat.{id}");
        assert_eq!(bus.hosts[index].client.publish(&beat, "", "here"), "");
        assert_eq!(bus.scheduler.flush(), format!("MSG {beat} 2 4\r\nhere\r\n"));
    }
}

#[test]
fn nobody_hears_or_commands_a_host_of_another_group() {
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
            let said = host.client.subscribe(subject);
            assert!(
                said.contains("Permissions Violation for Subscription"),
                "{subject}: {said}"
            );
        }
        for (other, id) in ids.iter().enumerate() {
            let start = format!("runtime.host.{id}.workload.start");
            let said = host.client.publish(&start, "_INBOX.x", "evil");
            assert!(
                said.contains("Permissions Violation for Publish"),
                "{start}: {said}"
            );
            let mapped = format!("commands.{}.{id}.workload.start", &id[..6]);
            let said = host.client.publish(&mapped, "_INBOX.x", "evil");
            assert!(
                said.contains("Permissions Violation for Publish"),
                "{mapped}: {said}"
            );
            if other != index {
                let beat = format!("runtime.operator.heartbeat.{id}");
                let said = host.client.publish(&beat, "", "evil");
                assert!(
                    said.contains("Permissions Violation for Publish"),
                    "{beat}: {said}"
                );
            }
        }
    }
    assert_eq!(bus.scheduler.flush(), "");
    let said = bus.scheduler.subscribe("runtime.host.*.>");
    assert!(
        said.contains("Permissions Violation for Subscription"),
        "{said}"
    );
}

#[test]
fn bound_hosts_may_subscribe_to_their_own_commands_only() {
    let mut bus = Bus::start();
    for subject in [
        "runtime.host.*.>",
        "runtime.host.*.workload.start",
        "runtime.host.edge-2.>",
    ] {
        let said = bus.host("edge-1").subscribe(subject);
        assert!(
            said.contains("Permissions Violation for Subscription"),
            "{subject}: {said}"
        );
    }
}

#[test]
fn who_is_gone_is_told_from_who_is_silent() {
    let mut bus = Bus::start();
    assert_eq!(bus.scheduler.subscribe("_INBOX.s.*"), "");
    let gone = bus.hosts[0].id.clone();
    for id in [gone.as_str(), "edge-1", "nobodys", "x"] {
        let subject = format!("runtime.host.{id}.workload.status");
        let said = bus.scheduler.publish(&subject, "_INBOX.s.1", "{}");
        assert_eq!(said.matches("NATS/1.0 503").count(), 1, "{subject}: {said}");
        assert_eq!(said.matches("MSG ").count(), 1, "{subject}: {said}");
    }
}

#[test]
fn only_certificates_of_the_release_are_let_in() {
    let objects = render(&[]).unwrap();
    let broker = Broker::start(&objects);
    // Another rendering has another authority.
    let stranger = Broker::start(&render(&[]).unwrap());
    let dir = tempfile::tempdir().unwrap();
    for (file, from) in [
        ("ca.crt", broker.secret("berth-scheduler-tls")),
        ("tls.crt", stranger.secret("berth-scheduler-tls")),
        ("tls.key", stranger.secret("berth-scheduler-tls")),
    ] {
        std::fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    let refused = |place: &Path| broker.try_client(place).err().unwrap();
    refused(dir.path());
    // The server's own certificate is of the authority, and nobody's.
    let said = refused(&broker.secret("berth-nats-tls"));
    assert!(said.contains("Authorization Violation"), "{said}");
}

/// A server, a scheduler, and a host of each of two groups and two bound ones.
struct Bus {
    scheduler: Client,
    hosts: Vec<Host>,
    _broker: Broker,
}

struct Host {
    id: String,
    /// The widest that it may subscribe to.
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

/// An id such as the Pods of a group take.
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
