//! Renders the Helm chart, and extracts the arguments of its containers.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// Path of the chart in the repository.
pub const DIR: &str = "deploy/chart";

/// Kubernetes version of the rendering.
const KUBE_VERSION: &str = "1.36.0";

/// Renders the chart with `helm template`, for a release `berth` in the namespace `berth`, with
/// additional arguments. Returns YAML.
///
/// # Errors
///
/// When helm cannot be run or fails. The error contains its output.
pub fn render<S: AsRef<OsStr>>(
    root: &Path,
    programs: &Path,
    arguments: &[S],
) -> Result<String, ChartError> {
    render_release("berth", root, programs, arguments)
}

/// Renders the chart like [`render`], for a release of another name.
///
/// # Errors
///
/// When helm cannot be run or fails. The error contains its output.
pub fn render_release<S: AsRef<OsStr>>(
    release: &str,
    root: &Path,
    programs: &Path,
    arguments: &[S],
) -> Result<String, ChartError> {
    let output = Command::new(programs.join("helm"))
        .args(["template", release])
        .arg(root.join(DIR))
        .args(["--namespace", "berth", "--kube-version", KUBE_VERSION])
        .args(arguments)
        .output()
        .map_err(ChartError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ChartError::Helm { stderr })
}

/// Returns the arguments of each container named `container` in a rendering, with values in place
/// of the variables that Kubernetes would expand.
///
/// # Errors
///
/// When the rendering is not valid YAML.
pub fn arguments_of(rendering: &str, container: &str) -> Result<Vec<Vec<String>>, ChartError> {
    let objects: Vec<Option<Object>> =
        serde_saphyr::from_multiple(rendering).map_err(ChartError::Yaml)?;
    let containers = objects.into_iter().flatten().flat_map(|object| {
        let pod = object.spec.unwrap_or_default().template.unwrap_or_default();
        pod.spec.unwrap_or_default().containers
    });
    Ok(containers
        .filter(|one| one.name == container)
        .map(|one| one.args.iter().map(|argument| expand(argument)).collect())
        .collect())
}

/// The relevant part of a Kubernetes object of any kind.
#[derive(Deserialize)]
struct Object {
    spec: Option<ObjectSpec>,
}

#[derive(Deserialize, Default)]
struct ObjectSpec {
    template: Option<Template>,
}

#[derive(Deserialize, Default)]
struct Template {
    spec: Option<PodSpec>,
}

#[derive(Deserialize, Default)]
struct PodSpec {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    args: Vec<String>,
}

fn expand(argument: &str) -> String {
    argument
        .replace("$(POD_UID)", "7f0c6f2e-6f0e-4c0e-9d3c-1f3b5a7c9e11")
        .replace("$(POD_IP)", "10.0.0.7")
}

/// Reason why the chart cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Helm cannot be run.
    #[error("cannot run helm")]
    Run(#[source] std::io::Error),
    /// Helm failed.
    #[error("helm failed: {stderr}")]
    Helm {
        /// Output of helm on stderr.
        stderr: String,
    },
    /// The rendering is not valid YAML.
    #[error("invalid YAML from helm")]
    Yaml(#[source] serde_saphyr::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_expanded_arguments_of_a_container() {
        let yaml = "---\n# nothing\n---\nkind: ConfigMap\n---\n\
                    spec: {template: {spec: {containers: \
                    [{name: host, args: [--host-id=a-$(POD_UID), --x]}, \
                    {name: other, args: [--y]}]}}}\n";
        let id = "--host-id=a-7f0c6f2e-6f0e-4c0e-9d3c-1f3b5a7c9e11";
        assert_eq!(arguments_of(yaml, "host").unwrap(), [[id, "--x"]]);
        assert!(arguments_of(yaml, "scheduler").unwrap().is_empty());
    }
}
