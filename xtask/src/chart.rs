//! Renders the Helm chart, and asks the programs whether they take the arguments in it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// The chart, in the repository.
pub const DIR: &str = "deploy/chart";

/// The release of Kubernetes that is rendered for.
const KUBE_VERSION: &str = "1.36.0";

/// What `helm template` makes of the chart for a release `berth` in a namespace `berth`, with these further
/// arguments, as YAML.
///
/// # Errors
///
/// When helm cannot be run, or refuses; what it says is in the error.
pub fn render<S: AsRef<OsStr>>(
    root: &Path,
    programs: &Path,
    arguments: &[S],
) -> Result<String, ChartError> {
    let output = Command::new(programs.join("helm"))
        .args(["template", "berth"])
        .arg(root.join(DIR))
        .args(["--namespace", "berth", "--kube-version", KUBE_VERSION])
        .args(arguments)
        .output()
        .map_err(ChartError::Helm)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ChartError::Refused { said })
}

/// The arguments of the containers called `container` in a rendering, one list for each, with what Kubernetes would
/// fill in filled in.
///
/// # Errors
///
/// When it is no YAML.
pub fn arguments_of(rendering: &str, container: &str) -> Result<Vec<Vec<String>>, ChartError> {
    let objects: Vec<Option<Object>> =
        serde_saphyr::from_multiple(rendering).map_err(ChartError::Yaml)?;
    let containers = objects.into_iter().flatten().flat_map(|object| {
        let pod = object.spec.unwrap_or_default().template.unwrap_or_default();
        pod.spec.unwrap_or_default().containers
    });
    Ok(containers
        .filter(|one| one.name == container)
        .map(|one| {
            one.args
                .iter()
                .map(|argument| filled_in(argument))
                .collect()
        })
        .collect())
}

/// What matters here of an object of any kind.
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

fn filled_in(argument: &str) -> String {
    argument
        .replace("$(POD_UID)", "7f0c6f2e-6f0e-4c0e-9d3c-1f3b5a7c9e11")
        .replace("$(POD_IP)", "10.0.0.7")
}

/// Why the chart gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Helm cannot be run.
    #[error("helm cannot be run")]
    Helm(#[source] std::io::Error),
    /// Helm refuses.
    #[error("helm refuses: {said}")]
    Refused {
        /// What it says.
        said: String,
    },
    /// What was rendered is no YAML.
    #[error("what helm has rendered is no YAML")]
    Yaml(#[source] serde_saphyr::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_by_container_and_filled_in() {
        let yaml = "---\n# nothing\n---\nkind: ConfigMap\n---\nspec: {template: {spec: {containers: \
                    [{name: host, args: [--host-id=a-$(POD_UID), --x]}, {name: other, args: [--y]}]}}}\n";
        let id = "--host-id=a-7f0c6f2e-6f0e-4c0e-9d3c-1f3b5a7c9e11";
        assert_eq!(arguments_of(yaml, "host").unwrap(), [[id, "--x"]]);
        assert!(arguments_of(yaml, "scheduler").unwrap().is_empty());
    }
}
