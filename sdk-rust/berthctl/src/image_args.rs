//! Flags for a workload of one image.

use berth_sdk::proto::{
    Component, ImagePullPolicy, LocalResources, Service, WitInterface, WitWorld, Workload,
};
use clap::{Args, ValueEnum};

/// Flags for a workload of one image.
#[derive(Args)]
#[command(next_help_heading = "Workload from an image")]
pub struct ImageArgs {
    /// Image of a component, or with --service of a service
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,

    /// Host name for HTTP requests to the component
    #[arg(long, value_name = "NAME", requires = "image")]
    http_host: Option<String>,

    /// Run the image as a service
    #[arg(long, requires = "image")]
    service: bool,

    /// Maximum number of restarts of a failing service
    #[arg(long, value_name = "N", requires = "service")]
    max_restarts: Option<u32>,

    /// Environment variable of the guest; repeatable
    #[arg(long = "env", value_name = "KEY=VALUE", requires = "image", value_parser = pair)]
    environment: Vec<(String, String)>,

    /// Host or host:port that the guest may connect to; repeatable
    #[arg(long = "allow-host", value_name = "HOST", requires = "image")]
    allowed_hosts: Vec<String>,

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
