//! The requirement index, `docs/spec/requirements.toml`.

use std::path::Path;

use serde::Deserialize;

/// Path of the index in the repository.
pub const INDEX_PATH: &str = "docs/spec/requirements.toml";

/// Levels in the index, each with its meaning.
pub(crate) const LEVELS: [(&str, &str); 3] = [
    ("MUST", "A violation is a failure to conform."),
    ("SHOULD", "A violation is a warning."),
    (
        "MAY",
        "Permitted; it is not checked, and no peer may rely on the contrary.",
    ),
];

/// Profiles of hosts in the index, each with its scope.
pub(crate) const HOST_PROFILES: [(&str, &str); 6] = [
    ("core", "The wire, and the lifecycle of workloads."),
    ("services", "Services and their restarts."),
    ("images", "Images and registries."),
    ("ingress", "HTTP requests to workloads."),
    ("resources", "Resources of guests, and their limits."),
    ("resilience", "Invalid input, outages of the bus, shutdown."),
];

/// Profiles of schedulers in the index, each with its scope.
pub(crate) const SCHEDULER_PROFILES: [(&str, &str); 8] = [
    (
        "scheduler",
        "The wire, the lifecycle of incarnations, host failures.",
    ),
    ("placement", "Placement of workloads on hosts."),
    (
        "continuity",
        "Outages of the broker, restarts of the scheduler.",
    ),
    ("replicas", "Sets of identical workloads."),
    ("rollouts", "Transitions from one template to the next."),
    ("references", "Configurations, secrets, pull secrets."),
    (
        "manifests",
        "Manifests of `runtime.wasmcloud.dev/v1alpha1`.",
    ),
    ("kubernetes", "Custom resources in a Kubernetes cluster."),
];

/// The side that a requirement applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A host; ids begin with `HOST-`.
    Host,
    /// A scheduler; ids begin with `SCHED-`.
    Scheduler,
}

/// The parsed index, validated as far as the generator needs; tidy checks the rest.
#[derive(Debug)]
pub struct Index {
    /// The requirements, in the order of the file.
    pub requirements: Vec<Requirement>,
}

impl Index {
    /// Reads the index in the repository. A missing file is not an error.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is invalid, or uses an unknown level, profile or kind of
    /// fault.
    pub fn read(root: &Path) -> Result<Option<Self>, IndexError> {
        match std::fs::read_to_string(root.join(INDEX_PATH)) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IndexError::Read(error)),
        }
    }

    /// Parses the text of an index.
    ///
    /// # Errors
    ///
    /// The errors of [`Index::read`].
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        let file: File = toml::from_str(text).map_err(IndexError::Parse)?;
        let requirements = file
            .requirement
            .into_iter()
            .map(Requirement::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }
}

/// One entry of the index.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// ID, such as `HOST-START-003`.
    pub id: String,
    /// Level.
    pub level: String,
    /// Profile.
    pub profile: String,
    /// Sentence, with folded white space.
    pub sentence: String,
    /// Reason for the requirement.
    pub why: String,
    /// Origin of the requirement.
    pub origin: String,
    /// Page with the requirement, in `docs/spec/`.
    pub page: String,
    /// Fault that violates it.
    pub breaks: Option<Breaks>,
    /// Reason why it has no check.
    pub excluded: Option<String>,
}

impl Requirement {
    /// Returns the side that it applies to.
    #[must_use]
    pub fn side(&self) -> Side {
        side_of(&self.id)
    }

    /// Returns the name of the Rust item: `HOST_START_003`.
    #[must_use]
    pub fn item_name(&self) -> String {
        self.id.replace('-', "_")
    }
}

/// A fault that violates a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// A mutant of the model host or the model scheduler.
    Mutant(String),
    /// A breakage of the reference host or the reference scheduler.
    Breakage(String),
}

/// Reason why the index is invalid.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file cannot be read.
    #[error("cannot read {INDEX_PATH}")]
    Read(#[source] std::io::Error),
    /// The file is not valid TOML, or has a wrong structure.
    #[error("cannot parse {INDEX_PATH}")]
    Parse(#[source] toml::de::Error),
    /// An entry has an unknown value.
    #[error("{id}: invalid {field} {value:?}; expected one of {expected}")]
    Value {
        /// ID of the entry.
        id: String,
        /// Key of the field.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// Valid values.
        expected: String,
    },
    /// The id of an entry is malformed.
    #[error("malformed requirement id {id:?}; expected an id like HOST-START-003")]
    Id {
        /// The malformed id.
        id: String,
    },
}

/// Converts `MUST` or `core` to the name of an enum variant.
pub(crate) fn pascal_case(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first
            .to_uppercase()
            .chain(chars.flat_map(char::to_lowercase))
            .collect()
    })
}

fn side_of(id: &str) -> Side {
    if id.starts_with("SCHED-") {
        Side::Scheduler
    } else {
        Side::Host
    }
}

/// Whether `id` has the form `HOST-START-003`.
#[must_use]
pub fn is_well_formed_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('-').collect();
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
    match parts.as_slice() {
        [side, area, number] => {
            matches!(*side, "HOST" | "SCHED")
                && word(area)
                && number.len() == 3
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    requirement: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    level: String,
    profile: String,
    sentence: String,
    why: String,
    origin: String,
    page: String,
    breaks: Option<String>,
    excluded: Option<String>,
}

impl TryFrom<Entry> for Requirement {
    type Error = IndexError;

    fn try_from(entry: Entry) -> Result<Self, IndexError> {
        if !is_well_formed_id(&entry.id) {
            return Err(IndexError::Id { id: entry.id });
        }
        check_value(&entry.id, "level", &entry.level, &LEVELS)?;
        let profiles: &[_] = match side_of(&entry.id) {
            Side::Host => &HOST_PROFILES,
            Side::Scheduler => &SCHEDULER_PROFILES,
        };
        check_value(&entry.id, "profile", &entry.profile, profiles)?;
        let breaks = match entry.breaks {
            None => None,
            Some(breaks) => Some(match breaks.split_once(':') {
                Some(("mutant", name)) if !name.is_empty() => Breaks::Mutant(name.to_owned()),
                Some(("breakage", name)) if !name.is_empty() => Breaks::Breakage(name.to_owned()),
                _ => {
                    return Err(IndexError::Value {
                        id: entry.id,
                        field: "breaks",
                        value: breaks,
                        expected: "mutant:NAME, breakage:NAME".to_owned(),
                    });
                }
            }),
        };
        Ok(Self {
            sentence: fold_white_space(&entry.sentence),
            why: fold_white_space(&entry.why),
            id: entry.id,
            level: entry.level,
            profile: entry.profile,
            origin: entry.origin,
            page: entry.page,
            breaks,
            excluded: entry.excluded.map(|reason| fold_white_space(&reason)),
        })
    }
}

/// Replaces each run of white space by one space, and removes it at both ends.
#[must_use]
pub fn fold_white_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check_value(
    id: &str,
    field: &'static str,
    value: &str,
    valid: &[(&str, &str)],
) -> Result<(), IndexError> {
    if valid.iter().any(|(name, _)| *name == value) {
        return Ok(());
    }
    let valid: Vec<&str> = valid.iter().map(|(name, _)| *name).collect();
    Err(IndexError::Value {
        id: id.to_owned(),
        field,
        value: value.to_owned(),
        expected: valid.join(", "),
    })
}
