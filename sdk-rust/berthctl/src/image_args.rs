//! Flags for a workload of one image.

use berth_sdk::proto::volume::VolumeType;
use berth_sdk::proto::{
    Component, EmptyDirVolume, HostPathVolume, ImagePullPolicy, LocalResources, Service, Volume,
    VolumeMount, WitInterface, WitWorld, Workload,
};
use clap::{Args, ValueEnum};

use crate::interface_name;

/// Flags for a workload of one image.
#[derive(Args)]
#[command(next_help_heading = "Workload from an image")]
pub struct ImageArgs {
    /// Image of a component, or with --service of a service
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,

    /// Host name for HTTP requests to the component; repeatable
    #[arg(long = "http-host", value_name = "NAME", requires = "image")]
    http_hosts: Vec<String>,

    /// Interface that the guest imports, such as wasi:keyvalue/store@0.2.0-draft; repeatable
    #[arg(
        long = "interface",
        value_name = "NAMESPACE:PACKAGE/INTERFACE[@VERSION]"
    )]
    #[arg(requires = "image", value_parser = interface_name::parse)]
    interfaces: Vec<WitInterface>,

    /// Run the image as a service
    #[arg(long, requires = "image")]
    service: bool,

    /// Maximum number of restarts of a failing service
    #[arg(long, value_name = "N", requires = "service")]
    max_restarts: Option<u32>,

    /// Environment variable of the guest; repeatable
    #[arg(long = "env", value_name = "KEY=VALUE", requires = "image", value_parser = pair)]
    environment: Vec<(String, String)>,

    /// Value of wasi:config for the guest; repeatable
    #[arg(long = "config", value_name = "KEY=VALUE", requires = "image", value_parser = pair)]
    config: Vec<(String, String)>,

    /// Host or host:port that the guest may connect to; repeatable
    #[arg(long = "allow-host", value_name = "HOST", requires = "image")]
    allowed_hosts: Vec<String>,

    /// Host name that the guest may resolve for sockets; repeatable
    #[arg(long = "allow-lookup", value_name = "NAME", requires = "image")]
    allowed_lookups: Vec<String>,

    /// Directory of the host that the guest may use; repeatable
    #[arg(
        long = "volume",
        value_name = "HOST_PATH:GUEST_PATH[:ro]",
        requires = "image"
    )]
    #[arg(value_parser = MountFlag::parse)]
    volumes: Vec<MountFlag>,

    /// Empty directory for the guest, removed with the workload; repeatable
    #[arg(long = "empty-dir", value_name = "GUEST_PATH", requires = "image")]
    #[arg(value_parser = MountFlag::parse_empty)]
    empty_dirs: Vec<MountFlag>,

    /// Memory limit of the guest [default: that of the host]
    #[arg(long, value_name = "MIB", requires = "image")]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    memory_mib: Option<i32>,

    /// Image pull policy
    #[arg(long, value_enum, requires = "image")]
    pull: Option<Pull>,

    /// Name of the workload [default: from the image]
    #[arg(long, requires = "image")]
    name: Option<String>,

    /// Namespace of the workload [default: default]
    #[arg(long, requires = "image")]
    namespace: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pull {
    /// Pull at each start
    Always,
    /// Pull if the host does not have the image
    IfNotPresent,
    /// Do not pull
    Never,
}

impl ImageArgs {
    /// Returns the workload, or `None` without `--image`.
    pub fn take_workload(&mut self) -> Option<Workload> {
        let image = self.image.take()?;
        let policy = match self.pull {
            None => ImagePullPolicy::Unspecified,
            Some(Pull::Always) => ImagePullPolicy::Always,
            Some(Pull::IfNotPresent) => ImagePullPolicy::IfNotPresent,
            Some(Pull::Never) => ImagePullPolicy::Never,
        };
        let name = self.name.take().unwrap_or_else(|| name_of(&image));
        let (volumes, volume_mounts) = self.take_volumes();
        let local_resources = Some(LocalResources {
            environment: self.environment.drain(..).collect(),
            config: self.config.drain(..).collect(),
            allowed_hosts: std::mem::take(&mut self.allowed_hosts),
            allowed_ip_name_lookups: std::mem::take(&mut self.allowed_lookups),
            memory_limit_mb: self.memory_mib.unwrap_or_default(),
            volume_mounts,
            ..LocalResources::default()
        });
        let (image_pull_policy, mut world) = (policy.into(), WitWorld::default());
        let mut service = None;
        if self.service {
            let max_restarts = self.max_restarts.map_or(0, u64::from);
            service = Some(Service {
                image,
                local_resources,
                max_restarts,
                image_pull_policy,
                ..Service::default()
            });
        } else {
            let name = name.clone();
            let component = Component {
                image,
                name,
                local_resources,
                image_pull_policy,
                ..Component::default()
            };
            world.components.push(component);
        }
        let hosts = std::mem::take(&mut self.http_hosts);
        world.host_interfaces.append(&mut self.interfaces);
        world.host_interfaces.extend(http_interface(&hosts));
        let namespace = self
            .namespace
            .take()
            .unwrap_or_else(|| "default".to_owned());
        Some(Workload {
            name,
            namespace,
            service,
            wit_world: Some(world),
            volumes,
            ..Workload::default()
        })
    }

    /// Returns the volumes of the workload and their mounts, in the order of the flags.
    fn take_volumes(&mut self) -> (Vec<Volume>, Vec<VolumeMount>) {
        let flags = self.volumes.drain(..).chain(self.empty_dirs.drain(..));
        let pairs = flags.enumerate().map(|(index, flag)| {
            let name = format!("volume-{index}");
            let volume = Volume {
                name: name.clone(),
                volume_type: Some(flag.source),
            };
            let mount = VolumeMount {
                name,
                mount_path: flag.guest_path,
                read_only: flag.read_only,
            };
            (volume, mount)
        });
        pairs.unzip()
    }
}

/// Returns the declaration that serves these host names; the first is `host`, the others are
/// aliases.
fn http_interface(hosts: &[String]) -> Option<WitInterface> {
    let (host, aliases) = hosts.split_first()?;
    let mut config = std::collections::BTreeMap::from([("host".to_owned(), host.clone())]);
    if !aliases.is_empty() {
        config.insert("host-aliases".to_owned(), aliases.join(","));
    }
    Some(WitInterface {
        namespace: "wasi".to_owned(),
        package: "http".to_owned(),
        interfaces: vec!["incoming-handler".to_owned()],
        config,
        ..WitInterface::default()
    })
}

/// One `--volume` or `--empty-dir`.
#[derive(Clone)]
struct MountFlag {
    source: VolumeType,
    guest_path: String,
    read_only: bool,
}

impl MountFlag {
    fn parse(text: &str) -> Result<Self, String> {
        let (paths, read_only) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, true),
            None => (text, false),
        };
        let parts = paths.rsplit_once(':');
        let Some((local_path, guest_path)) = parts.filter(|(_, guest)| guest.starts_with('/'))
        else {
            return Err("expected HOST_PATH:GUEST_PATH, the latter absolute".to_owned());
        };
        Ok(Self {
            source: VolumeType::HostPath(HostPathVolume {
                local_path: local_path.to_owned(),
            }),
            guest_path: guest_path.to_owned(),
            read_only,
        })
    }

    fn parse_empty(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("expected an absolute path".to_owned());
        }
        Ok(Self {
            source: VolumeType::EmptyDir(EmptyDirVolume {}),
            guest_path: text.to_owned(),
            read_only: false,
        })
    }
}

/// Returns the last part of the repository: `hello` for `ghcr.io/me/hello:1`.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last).to_owned()
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
