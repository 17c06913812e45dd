//! A workload of one image, from flags.

use berth_sdk::proto::{
    Component, ImagePullPolicy, LocalResources, Service, WitInterface, WitWorld, Workload,
};
use clap::{Args, ValueEnum};

/// A workload of one image.
#[derive(Args)]
#[command(next_help_heading = "Workload from an image")]
pub struct QuickArgs {
    /// Start one component, or with --service one service, from this image
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,

    /// Serve HTTP requests for this host name with it
    #[arg(long, value_name = "NAME", requires = "image")]
    http_host: Option<String>,

    /// It is a service: it runs by itself
    #[arg(long, requires = "image")]
    service: bool,

    /// How often a failing service is restarted
    #[arg(long, value_name = "N", requires = "service")]
    max_restarts: Option<u32>,

    /// A variable in its environment; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", requires = "image", value_parser = pair)]
    environment: Vec<(String, String)>,

    /// A host, or host:port, that it may send HTTP requests to; may be repeated
    #[arg(long = "allow-host", value_name = "HOST", requires = "image")]
    allowed_hosts: Vec<String>,

    /// When to ask the registry
    #[arg(long, value_enum, requires = "image")]
    pull: Option<Pull>,

    /// The name of the workload
    #[arg(long, requires = "image")]
    name: Option<String>,

    /// The namespace of the workload
    #[arg(long, requires = "image")]
    namespace: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pull {
    /// At each start
    Always,
    /// When the host does not have it
    IfNotPresent,
    /// Never
    Never,
}

impl QuickArgs {
    /// The workload; `None` when no image is named.
    pub fn take_workload(&mut self) -> Option<Workload> {
        let image = self.image.take()?;
        let policy = match self.pull {
            None => ImagePullPolicy::Unspecified,
            Some(Pull::Always) => ImagePullPolicy::Always,
            Some(Pull::IfNotPresent) => ImagePullPolicy::IfNotPresent,
            Some(Pull::Never) => ImagePullPolicy::Never,
        };
        let name = self.name.take().unwrap_or_else(|| name_of(&image));
        let local_resources = Some(LocalResources {
            environment: self.environment.drain(..).collect(),
            allowed_hosts: std::mem::take(&mut self.allowed_hosts),
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
        world
            .host_interfaces
            .extend(self.http_host.take().map(http_interface));
        let namespace = self
            .namespace
            .take()
            .unwrap_or_else(|| "default".to_owned());
        Some(Workload {
            name,
            namespace,
            service,
            wit_world: Some(world),
            ..Workload::default()
        })
    }
}

fn http_interface(host: String) -> WitInterface {
    WitInterface {
        namespace: "wasi".to_owned(),
        package: "http".to_owned(),
        interfaces: vec!["incoming-handler".to_owned()],
        config: [("host".to_owned(), host)].into(),
        ..WitInterface::default()
    }
}

/// `hello` of `ghcr.io/me/hello:1`.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last).to_owned()
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not KEY=VALUE".to_owned()),
    }
}
