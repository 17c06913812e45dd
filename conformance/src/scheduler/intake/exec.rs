//! The intake of a scheduler that is given its work by commands of its own.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::IntakeError;
use crate::scheduler::manifest::{Key, Manifest};
use crate::testbed::program::fill;
use crate::wire::response::shortened;

/// A command that takes longer than this is stuck.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// The commands, with the placeholders `{kind}`, `{namespace}`, `{name}` and `{replicas}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecPlan {
    /// Takes an object: JSON on standard input.
    pub submit: Vec<String>,
    /// Changes the number of replicas; without it the object is submitted anew.
    pub scale: Option<Vec<String>>,
    /// Takes an object away.
    pub delete: Vec<String>,
    /// Prints an object with its status as JSON, or nothing.
    pub observe: Vec<String>,
}

/// The commands, ready to run.
#[derive(Clone, Debug)]
pub struct ExecIntake {
    plan: ExecPlan,
    values: Vec<(String, String)>,
}

impl ExecIntake {
    /// With the values of the target's placeholders.
    pub fn new(plan: ExecPlan, values: &[(&str, &str)]) -> ExecIntake {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ExecIntake {
            plan,
            values: values.iter().map(owned).collect(),
        }
    }

    pub(super) async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        let input = manifest.json().to_string();
        let replicas = manifest.json().pointer("/spec/replicas");
        let replicas = replicas.map(Value::to_string).unwrap_or_default();
        self.run(&self.plan.submit, &manifest.key(), &replicas, &input)
            .await
            .map(|_| ())
    }

    /// Changes the number of replicas, when there is a command for it.
    ///
    /// # Errors
    /// The command fails.
    pub async fn scale(&self, key: &Key, replicas: i64) -> Option<Result<(), IntakeError>> {
        let command = self.plan.scale.as_ref()?;
        let scaled = self.run(command, key, &replicas.to_string(), "").await;
        Some(scaled.map(|_| ()))
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        self.run(&self.plan.delete, key, "", "").await.map(|_| ())
    }

    pub(super) async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        let text = self.run(&self.plan.observe, key, "", "").await?;
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
        let own = self.values.iter();
        values.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        let words: Vec<String> = command.iter().map(|word| fill(word, &values)).collect();
        let program = words.first().cloned().unwrap_or_default();
        let failed = |source| IntakeError::Command(program.clone(), source);
        let mut child = Command::new(&program)
            .args(words.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing closes the pipe, which is its right.
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
