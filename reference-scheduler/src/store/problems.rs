//! Problems of a store for users: each is logged once, and the current ones are published.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::Problems;

/// Maximum number of problems that are kept: far more than anyone reads.
const PROBLEMS_MAX: usize = 1000;

/// The current problems, by file, directory, namespace or object.
#[derive(Debug)]
pub(super) struct ProblemLog {
    /// Problems of manifests, as of the most recent reconciliation.
    manifests: BTreeMap<String, String>,
    /// Other problems, which begin and end one by one.
    others: BTreeMap<String, String>,
    is_unusable: bool,
    published: watch::Sender<Problems>,
}

impl ProblemLog {
    pub(super) fn new(published: watch::Sender<Problems>) -> Self {
        Self {
            manifests: BTreeMap::new(),
            others: BTreeMap::new(),
            is_unusable: false,
            published,
        }
    }

    /// Returns those problems of manifests that are new or have another reason, and logs them.
    pub(super) fn new_of_manifests(
        &self,
        problems: &BTreeMap<String, String>,
    ) -> Vec<(String, String)> {
        let mut new: Vec<(String, String)> = Vec::new();
        for (path, reason) in problems.iter().take(PROBLEMS_MAX) {
            if self.manifests.get(path) != Some(reason) {
                tracing::warn!(path, "{reason}");
                new.push((path.clone(), reason.clone()));
            }
        }
        new
    }

    /// Replaces the problems of manifests.
    pub(super) fn replace(&mut self, problems: BTreeMap<String, String>, is_unusable: bool) {
        self.manifests = problems.into_iter().take(PROBLEMS_MAX).collect();
        self.is_unusable = is_unusable;
        self.publish();
    }

    /// Adds a problem, or replaces the problem of the same subject.
    pub(super) fn add(&mut self, path: &str, reason: &str) {
        let known = self.others.get(path).map(String::as_str);
        if known != Some(reason) && self.others.len() < PROBLEMS_MAX {
            tracing::warn!(path, "{reason}");
            self.others.insert(path.to_owned(), reason.to_owned());
            self.publish();
        }
    }

    /// Adds a problem, unless the subject has a problem already.
    pub(super) fn add_if_missing(&mut self, path: &str, reason: &str) {
        if !self.others.contains_key(path) {
            self.add(path, reason);
        }
    }

    /// Removes a problem that is solved.
    pub(super) fn remove(&mut self, path: &str) {
        if self.others.remove(path).is_some() {
            tracing::info!(path, "the problem is solved");
            self.publish();
        }
    }

    /// Sets whether no object can be read at all.
    pub(super) fn set_unusable(&mut self, is_unusable: bool) {
        if std::mem::replace(&mut self.is_unusable, is_unusable) != is_unusable {
            self.publish();
        }
    }

    fn publish(&self) {
        let all = self.manifests.iter().chain(&self.others);
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
        for (reason, count) in [("x", 1), ("x", 0), ("y", 1)] {
            assert_eq!(log.new_of_manifests(&problem(reason)).len(), count);
            log.replace(problem(reason), false);
        }
        assert_eq!(published.borrow().list, ["a.yaml: y"]);
        log.add("b", "z");
        log.replace(BTreeMap::new(), true);
        assert_eq!(published.borrow().list, ["b: z"]);
        assert!(published.borrow().is_unusable);
        log.remove("b");
        assert_eq!(
            log.new_of_manifests(&problem("x")).len(),
            1,
            "it has come back"
        );
    }
}
