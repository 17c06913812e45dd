//! Directories of workloads whose host was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_conformance::spec::roles::Role;
use berth_sdk::proto::volume::VolumeType;
use berth_sdk::proto::{EmptyDirVolume, LocalResources, Volume, VolumeMount, Workload as Spec};
use nix::sys::signal::Signal;

use crate::fixture::{Fixture, within};
use crate::process::HostProcess;

fn files_workload(fixture: &Fixture, host: &str) -> Spec {
    let resources = LocalResources {
        volume_mounts: vec![VolumeMount {
            name: "scratch".into(),
            mount_path: "/data".into(),
            read_only: false,
        }],
        ..Default::default()
    };
    let mut spec = fixture.http_workload(Role::HttpFiles, host, resources);
    spec.volumes.push(Volume {
        name: "scratch".into(),
        volume_type: Some(VolumeType::EmptyDir(EmptyDirVolume {})),
    });
    spec
}

/// Returns the paths of the files with this name below a directory.
fn find(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            found.extend(find(&entry.path(), name));
        } else if entry.file_name() == name {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn next_host_removes_volumes_of_killed_host_only() {
    let fixture = Fixture::new().await;
    let temporary = tempfile::tempdir().unwrap();
    let mut hosts = Vec::new();
    for (name, id) in [("killed.test", "one"), ("living.test", "two")] {
        let process = HostProcess::start_in(&fixture, temporary.path(), &[]).await;
        let spec = files_workload(&fixture, name);
        within(process.client.start(id, &spec)).await.unwrap();
        let ingress = process.ingress().await;
        let written = within(crate::http::get(ingress, name, &format!("/write/{id}"))).await;
        assert_eq!(written.body, "ok");
        hosts.push((process, ingress));
    }
    let volume_of = |id| find(temporary.path(), id);
    assert_eq!((volume_of("one").len(), volume_of("two").len()), (1, 1));
    let (mut killed, _) = hosts.remove(0);
    killed.signal(Signal::SIGKILL);
    within(killed.child.wait()).await.unwrap();
    assert_eq!(volume_of("one").len(), 1, "a killed host removes nothing");

    let _next = HostProcess::start_in(&fixture, temporary.path(), &[]).await;
    within(async {
        while !volume_of("one").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (_living, ingress) = &hosts[0];
    let read = within(crate::http::get(*ingress, "living.test", "/read/two")).await;
    assert_eq!(read.body, "berth");
}
