//! The exec intake: the scheduler's own commands submit, delete and observe objects.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::IntakeError;
use crate::scheduler::manifest::{Key, Manifest};
use crate::testbed::program::expand_placeholders;
use crate::wire::response::shortened;

/// Time limit for one execution of a command.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// Commands with the placeholders `{kind}`, `{namespace}`, `{name}` and `{replicas}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecConfig {
    /// Submits an object, which is JSON on standard input.
    pub submit: Vec<String>,
    /// Changes the number of replicas. Without this command, the object is submitted again.
    pub scale: Option<Vec<String>>,
    /// Deletes an object.
    pub delete: Vec<String>,
    /// Prints an object with its status as JSON, or nothing if the object does not exist.
    pub observe: Vec<String>,
}

/// Open exec intake.
#[derive(Clone, Debug)]
pub struct ExecIntake {
    config: ExecConfig,
    values: Vec<(String, String)>,
}

impl ExecIntake {
    /// Returns the intake with the values of the target's placeholders.
    pub fn new(config: ExecConfig, values: &[(&str, &str)]) -> ExecIntake {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ExecIntake {
            config,
            values: values.iter().map(owned).collect(),
        }
    }

    pub(super) async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        let input = manifest.json().to_string();
        let replicas = manifest.json().pointer("/spec/replicas");
        let replicas = replicas.map(Value::to_string).unwrap_or_default();
        self.run(&self.config.submit, &manifest.key(), &replicas, &input)
            .await
            .map(|_| ())
    }

    /// Changes the number of replicas. Returns `None` if no command for it is configured.
    ///
    /// # Errors
    /// The command fails.
    pub async fn scale(&self, key: &Key, replicas: i64) -> Option<Result<(), IntakeError>> {
        let command = self.config.scale.as_ref()?;
        let scaled = self.run(command, key, &replicas.to_string(), "").await;
        Some(scaled.map(|_| ()))
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        self.run(&self.config.delete, key, "", "").await.map(|_| ())
    }

    pub(super) async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        let text = self.run(&self.config.observe, key, "", "").await?;
        Ok(serde_json::from_str(&text).ok())
    }

    async fn run(
        &self,
        command: &[String],
        key: &Key,
        replicas: &str,
        input: &str,
    ) -> Result<String, IntakeError> {
        let mut values: Vec<(&str, &str)> = vec![
            ("kind", &key.kind),
            ("namespace", &key.namespace),
            ("name", &key.name),
            ("replicas", replicas),
        ];
        let target_values = self.values.iter();
        values.extend(target_values.map(|(name, value)| (name.as_str(), value.as_str())));
        let argv: Vec<String> = command
            .iter()
            .map(|arg| expand_placeholders(arg, &values))
            .collect();
        let program = argv.first().cloned().unwrap_or_default();
        let failed = |source| IntakeError::Command(program.clone(), source);
        let mut child = Command::new(&program)
            .args(argv.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input may close the pipe.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = tokio::time::timeout(COMMAND_WITHIN, child.wait_with_output())
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(IntakeError::Refused {
            key: key.clone(),
            text: shortened(text.trim(), 400),
        })
    }
}
