//! Generates the committed files from the schema and the requirement index, or reports the stale
//! ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::requirement_index::{Index, IndexError};

mod grpc_services;
mod proto_messages;
mod requirements;
mod schema_table;

/// Directory that contains only generated files; any other file in it is removed.
const OWNED_DIR: &str = "sdk-rust/proto/src/gen";

/// Command that generates the files, named in their headers.
pub const COMMAND: &str = "cargo xtask gen";

/// Generated files: path in the repository, and content.
pub type Outputs = BTreeMap<PathBuf, Vec<u8>>;

/// Generates all files in memory.
///
/// # Errors
///
/// When the schema or the index cannot be read or is invalid, or rustfmt is missing.
pub fn outputs(root: &Path) -> Result<Outputs, GenError> {
    let descriptors = proto_messages::compile(root)?;
    let mut outputs = Outputs::new();
    for (name, content) in proto_messages::generate(&descriptors)? {
        let content = if name.ends_with(".rs") {
            format(&content)?
        } else {
            content
        };
        outputs.insert(Path::new(OWNED_DIR).join(name), content);
    }
    let services = grpc_services::generate(&descriptors)?;
    outputs.insert(
        "sdk-rust/sdk/src/grpc/services.rs".into(),
        format(&services)?,
    );
    let table = schema_table::generate(&descriptors.wire)?;
    outputs.insert(
        "conformance/src/spec/schema.rs".into(),
        format(table.as_bytes())?,
    );
    if let Some(index) = Index::read(root)? {
        let items = requirements::generate(&index);
        outputs.insert(
            "conformance/src/spec/requirements.rs".into(),
            format(items.as_bytes())?,
        );
    }
    Ok(outputs)
}

/// Writes the generated files, and removes every other file from the directory of generated files.
///
/// # Errors
///
/// The errors of [`outputs`], and when a file cannot be written.
pub fn write(root: &Path) -> Result<Outputs, GenError> {
    let outputs = outputs(root)?;
    for path in strays(root, &outputs)? {
        let path = root.join(path);
        std::fs::remove_file(&path).map_err(|source| GenError::File { path, source })?;
    }
    for (path, content) in &outputs {
        let path = root.join(path);
        write_if_changed(&path, content).map_err(|source| GenError::File { path, source })?;
    }
    Ok(outputs)
}

/// Lists the stale files, each with the reason.
///
/// # Errors
///
/// The errors of [`outputs`].
pub fn stale(root: &Path) -> Result<Vec<String>, GenError> {
    let outputs = outputs(root)?;
    let mut stale = Vec::new();
    for path in strays(root, &outputs)? {
        stale.push(format!("{}: not a generated file", path.display()));
    }
    for (path, content) in &outputs {
        match std::fs::read(root.join(path)) {
            Ok(existing) if existing == *content => {}
            Ok(_) => stale.push(format!("{}: out of date", path.display())),
            Err(error) => stale.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(stale)
}

/// Reason why the files cannot be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenError {
    /// The schema does not compile.
    #[error("cannot compile the schema in proto/")]
    Schema(#[source] protox::Error),
    /// prost-build or pbjson-build failed.
    #[error("cannot generate Rust from the schema")]
    Rust(#[source] std::io::Error),
    /// The schema table cannot represent the type of a field.
    #[error("the schema table cannot represent the type of {field}")]
    Kind {
        /// Message and field.
        field: String,
    },
    /// The requirement index is invalid.
    #[error("invalid requirement index")]
    Index(#[from] IndexError),
    /// rustfmt cannot be run.
    #[error("cannot run rustfmt; it is part of the pinned toolchain")]
    Rustfmt(#[source] std::io::Error),
    /// rustfmt rejected the generated code.
    #[error("cannot format the generated code with rustfmt")]
    Format,
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// I/O error.
        source: std::io::Error,
    },
}

fn strays(root: &Path, outputs: &Outputs) -> Result<Vec<PathBuf>, GenError> {
    let dir = root.join(OWNED_DIR);
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let file_error = |source| GenError::File {
        path: dir.clone(),
        source,
    };
    let mut strays = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(file_error)? {
        let path = Path::new(OWNED_DIR).join(entry.map_err(file_error)?.file_name());
        if !outputs.contains_key(&path) {
            strays.push(path);
        }
    }
    strays.sort();
    Ok(strays)
}

/// Does not rewrite an equal file, so that its modification time does not cause a rebuild.
fn write_if_changed(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|existing| existing == content) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, content)
}

fn format(code: &[u8]) -> Result<Vec<u8>, GenError> {
    let mut child = Command::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--emit",
            "stdout",
            "--config",
            "max_width=100",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(GenError::Rustfmt)?;
    let stdin = child.stdin.take();
    // Cannot deadlock: rustfmt reads all of its input before it writes.
    if let Some(mut stdin) = stdin {
        stdin.write_all(code).map_err(GenError::Rustfmt)?;
    }
    let output = child.wait_with_output().map_err(GenError::Rustfmt)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(GenError::Format)
    }
}
