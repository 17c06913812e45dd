//! The index of the requirements, `docs/spec/requirements.toml`.

use std::path::Path;

use serde::Deserialize;

/// Where the index is, in the repository.
pub const INDEX_PATH: &str = "docs/spec/requirements.toml";

/// The levels, as the index writes them, each with what it means.
pub(crate) const LEVELS: [(&str, &str); 3] = [
    ("MUST", "Who breaks it does not conform."),
    ("SHOULD", "Who breaks it is warned."),
    (
        "MAY",
        "Allowed; nobody is judged by it, and no peer may rely on the contrary.",
    ),
];

/// The profiles of hosts, as the index writes them, each with what it covers.
pub(crate) const HOST_PROFILES: [(&str, &str); 6] = [
    ("core", "The wire, and the life of a workload."),
    ("services", "Services and their restarts."),
    ("images", "Images and registries."),
    ("ingress", "HTTP requests to workloads."),
    (
        "resources",
        "What a guest is given, and what is kept from it.",
    ),
    ("resilience", "Bad input, a bus that goes away, shutdown."),
];

/// The profiles of schedulers, as the index writes them, each with what it covers.
pub(crate) const SCHEDULER_PROFILES: [(&str, &str); 8] = [
    (
        "scheduler",
        "The wire, the life of an incarnation, hosts that fail.",
    ),
    ("placement", "On which host a workload runs."),
    (
        "continuity",
        "Outages of the broker, ends of the scheduler.",
    ),
    ("replicas", "Sets of equal workloads."),
    ("rollouts", "From one template to the next."),
    ("references", "Configurations, secrets, pull secrets."),
    (
        "manifests",
        "Manifests of `runtime.wasmcloud.dev/v1alpha1`.",
    ),
    ("kubernetes", "Custom resources in a Kubernetes cluster."),
];

/// Who owes a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A host; ids begin with `HOST-`.
    Host,
    /// A scheduler; ids begin with `SCHED-`.
    Scheduler,
}

/// The index, read and checked for what the generator needs; tidiness is judged elsewhere.
#[derive(Debug)]
pub struct Index {
    /// The requirements, in the order of the file.
    pub requirements: Vec<Requirement>,
}

impl Index {
    /// Reads the index below `root`. Absent is not an error.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not TOML of the right form, or uses an unknown level,
    /// profile or kind of breaker.
    pub fn read(root: &Path) -> Result<Option<Self>, IndexError> {
        match std::fs::read_to_string(root.join(INDEX_PATH)) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IndexError::Read(error)),
        }
    }

    /// Reads the text of an index.
    ///
    /// # Errors
    ///
    /// As [`Index::read`].
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
    /// The id.
    pub id: String,
    /// One of the levels.
    pub level: String,
    /// One of the profiles.
    pub profile: String,
    /// The sentence, white space folded.
    pub sentence: String,
    /// Why it is there.
    pub why: String,
    /// Where it comes from.
    pub origin: String,
    /// The file under `docs/spec/` that it stands in.
    pub page: String,
    /// What breaks it.
    pub breaks: Option<Breaks>,
    /// Why it has no check.
    pub excluded: Option<String>,
}

impl Requirement {
    /// Who owes it.
    #[must_use]
    pub fn side(&self) -> Side {
        side_of(&self.id)
    }

    /// The name of the Rust item: `HOST_START_003`.
    #[must_use]
    pub fn item_name(&self) -> String {
        self.id.replace('-', "_")
    }
}

/// What breaks a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// A mutant of the model host or the model scheduler.
    Mutant(String),
    /// A breakage of the reference host or the reference scheduler.
    Breakage(String),
}

/// Why the index is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be read.
    #[error("{INDEX_PATH} cannot be read")]
    Read(#[source] std::io::Error),
    /// It has not the right form.
    #[error("{INDEX_PATH} is not of the right form")]
    Parse(#[source] toml::de::Error),
    /// An entry uses a word that is not defined.
    #[error("{id}: {field} is {value:?}; known are {known}")]
    Word {
        /// The entry.
        id: String,
        /// The key.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        known: String,
    },
    /// An entry has an id that cannot be the name of an item.
    #[error("{id:?} cannot be an id; ids look like HOST-START-003")]
    Id {
        /// The id.
        id: String,
    },
}

/// `MUST` and `core` as the name of an enum variant.
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

/// Whether the id has the form `HOST-START-003`.
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
        known_word(&entry.id, "level", &entry.level, &LEVELS)?;
        let profiles: &[_] = match side_of(&entry.id) {
            Side::Host => &HOST_PROFILES,
            Side::Scheduler => &SCHEDULER_PROFILES,
        };
        known_word(&entry.id, "profile", &entry.profile, profiles)?;
        let breaks = match entry.breaks {
            None => None,
            Some(breaks) => Some(match breaks.split_once(':') {
                Some(("mutant", name)) if !name.is_empty() => Breaks::Mutant(name.to_owned()),
                Some(("breakage", name)) if !name.is_empty() => Breaks::Breakage(name.to_owned()),
                _ => {
                    return Err(IndexError::Word {
                        id: entry.id,
                        field: "breaks",
                        value: breaks,
                        known: "mutant:NAME, breakage:NAME".to_owned(),
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

/// One space for each run of white space, none at the ends.
#[must_use]
pub fn fold_white_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn known_word(
    id: &str,
    field: &'static str,
    value: &str,
    known: &[(&str, &str)],
) -> Result<(), IndexError> {
    if known.iter().any(|(word, _)| *word == value) {
        return Ok(());
    }
    let known: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    Err(IndexError::Word {
        id: id.to_owned(),
        field,
        value: value.to_owned(),
        known: known.join(", "),
    })
}
