//! Problems of the directory for users: each is logged once, and the current ones are published.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::store::Problems;

/// Maximum number of problems that are kept: far more than anyone reads.
const PROBLEMS_MAX: usize = 1000;

/// The current problems, by file, directory or object.
#[derive(Debug)]
pub(super) struct ProblemLog {
    /// Problems of manifests, as of the most recent reconciliation.
    manifests: BTreeMap<String, String>,
    /// Problems of status files.
    files: BTreeMap<String, String>,
    is_unusable: bool,
    published: watch::Sender<Problems>,
}

impl ProblemLog {
    pub(super) fn new(published: watch::Sender<Problems>) -> Self {
        Self {
            manifests: BTreeMap::new(),
            files: BTreeMap::new(),
            is_unusable: false,
            published,
        }
    }

    /// Replaces the problems of manifests and returns the new ones.
    pub(super) fn replace(
        &mut self,
        problems: BTreeMap<String, String>,
        is_unusable: bool,
    ) -> Vec<(String, String)> {
        let mut new: Vec<(String, String)> = Vec::new();
        for (path, reason) in problems.iter().take(PROBLEMS_MAX) {
            if self.manifests.get(path) != Some(reason) {
                tracing::warn!(path, "{reason}");
                new.push((path.clone(), reason.clone()));
            }
        }
        self.manifests = problems.into_iter().take(PROBLEMS_MAX).collect();
        self.is_unusable = is_unusable;
        self.publish();
        new
    }

    /// Adds a problem of a status file.
    pub(super) fn add(&mut self, path: &str, reason: &str) {
        let known = self.files.get(path).map(String::as_str);
        if known != Some(reason) && self.files.len() < PROBLEMS_MAX {
            tracing::warn!(path, "{reason}");
            self.files.insert(path.to_owned(), reason.to_owned());
            self.publish();
        }
    }

    /// Removes a problem that is solved.
    pub(super) fn remove(&mut self, path: &str) {
        if self.files.remove(path).is_some() {
            tracing::info!(path, "the problem is solved");
            self.publish();
        }
    }

    fn publish(&self) {
        let all = self.manifests.iter().chain(&self.files);
        let problems = Problems {
            list: all
                .map(|(path, reason)| format!("{path}: {reason}"))
                .collect(),
            is_unusable: self.is_unusable,
        };
        self.published.send_if_modified(|published| {
            let is_new = *published != problems;
            *published = problems;
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_each_problem_once_until_it_changes() {
        let (sender, published) = watch::channel(Problems::default());
        let mut log = ProblemLog::new(sender);
        let problem = |reason: &str| BTreeMap::from([("a.yaml".to_owned(), reason.to_owned())]);
        assert_eq!(log.replace(problem("x"), false).len(), 1);
        assert_eq!(log.replace(problem("x"), false).len(), 0);
        assert_eq!(log.replace(problem("y"), false).len(), 1);
        assert_eq!(published.borrow().list, ["a.yaml: y"]);
        log.add("b", "z");
        assert_eq!(log.replace(BTreeMap::new(), true).len(), 0);
        assert_eq!(published.borrow().list, ["b: z"]);
        assert!(published.borrow().is_unusable);
        log.remove("b");
        assert_eq!(
            log.replace(problem("x"), false).len(),
            1,
            "it has come back"
        );
    }
}
