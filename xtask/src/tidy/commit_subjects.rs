//! Commit subjects are short and imperative.

use super::{Tree, Violation};

/// Maximum length of a subject in characters, because listings cut longer subjects.
const MAX_CHARS: usize = 72;

/// Verbs with which the statement after `part: ` may begin.
const VERBS: [&str; 134] = [
    "accept",
    "add",
    "adopt",
    "align",
    "allow",
    "apply",
    "arrange",
    "assert",
    "avoid",
    "bound",
    "box",
    "build",
    "bump",
    "cache",
    "cancel",
    "check",
    "choose",
    "compare",
    "complete",
    "confine",
    "connect",
    "correct",
    "count",
    "cover",
    "cut",
    "decide",
    "declare",
    "define",
    "delete",
    "deny",
    "derive",
    "describe",
    "detect",
    "discover",
    "document",
    "drain",
    "drop",
    "enable",
    "end",
    "enforce",
    "explain",
    "export",
    "extend",
    "find",
    "finish",
    "fix",
    "follow",
    "format",
    "generate",
    "guard",
    "handle",
    "ignore",
    "implement",
    "improve",
    "install",
    "join",
    "judge",
    "keep",
    "let",
    "limit",
    "link",
    "list",
    "load",
    "log",
    "make",
    "map",
    "mark",
    "measure",
    "merge",
    "move",
    "name",
    "parse",
    "pin",
    "place",
    "prefer",
    "prevent",
    "print",
    "probe",
    "prove",
    "publish",
    "read",
    "record",
    "reduce",
    "refuse",
    "reject",
    "release",
    "remove",
    "rename",
    "repeat",
    "replace",
    "report",
    "require",
    "restore",
    "retry",
    "return",
    "reuse",
    "revert",
    "rewrite",
    "run",
    "scale",
    "schedule",
    "see",
    "select",
    "separate",
    "serve",
    "show",
    "simplify",
    "split",
    "start",
    "state",
    "stop",
    "store",
    "support",
    "survive",
    "sweep",
    "sync",
    "synchronize",
    "test",
    "tidy",
    "time",
    "tolerate",
    "trace",
    "track",
    "translate",
    "treat",
    "unify",
    "update",
    "upgrade",
    "use",
    "validate",
    "verify",
    "wait",
    "wrap",
    "write",
];

pub(super) fn violations(tree: &Tree) -> Vec<Violation> {
    tree.commit_subjects()
        .iter()
        .filter_map(|subject| fault(subject).map(|fault| (subject, fault)))
        .map(|(subject, fault)| Violation::failure("commit", 0, format!("{subject:?} {fault}")))
        .collect()
}

fn fault(subject: &str) -> Option<String> {
    if subject.chars().count() > MAX_CHARS {
        return Some(format!("is longer than {MAX_CHARS} characters"));
    }
    let statement = subject.split_once(": ").map_or(subject, |(_, rest)| rest);
    let verb = statement
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let known = VERBS.contains(&verb.as_str());
    (!known).then(|| {
        format!("does not begin with an imperative such as `add` or `fix`, but with `{verb}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_short_imperatives() {
        assert_eq!(fault("host: end guests that never yield"), None);
        assert_eq!(fault("Add a rule"), None);
    }

    #[test]
    fn rejects_other_forms_and_long_subjects() {
        assert!(fault("host: guests end").is_some());
        assert!(fault(&format!("host: end {}", "x".repeat(70))).is_some());
    }
}
