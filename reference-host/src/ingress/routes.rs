//! The routing table: which workload receives a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Host names in lower case, each with the targets that share its requests in rotation. A suspended
/// target keeps its host names but gets no requests.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    by_host: HashMap<Box<str>, Arc<Targets<T>>>,
    next_id: u64,
}

/// ID with which [`Routes::remove`] removes a target from all its host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(u64);

#[derive(Debug)]
struct Targets<T> {
    /// The target is `None` while it is suspended.
    targets: Vec<(TargetId, Option<T>)>,
    next: AtomicUsize,
}

/// The result of looking up a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'r, T> {
    /// The target that gets the request.
    Found(&'r T),
    /// All targets of the host name are suspended.
    Suspended,
    /// No target has the host name.
    Unknown,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            by_host: HashMap::new(),
            next_id: 0,
        }
    }
}

impl<T: Clone> Routes<T> {
    /// Adds a target for `hosts`, which must be in lower case.
    pub fn add(&mut self, hosts: &[String], target: T) -> TargetId {
        let id = TargetId(self.next_id);
        self.next_id += 1;
        for host in hosts {
            let route = (id, Some(target.clone()));
            match self.by_host.entry(host.as_str().into()) {
                Entry::Vacant(entry) => drop(entry.insert(Arc::new(Targets::new(vec![route])))),
                Entry::Occupied(mut entry) => {
                    let mut targets = entry.get().targets.clone();
                    targets.push(route);
                    entry.insert(Arc::new(Targets::new(targets)));
                }
            }
        }
        id
    }

    /// Replaces a target at all its host names. `None` suspends it.
    pub fn replace(&mut self, id: TargetId, target: Option<&T>) {
        for entry in self.by_host.values_mut() {
            if entry.targets.iter().any(|(route, _)| *route == id) {
                let mut targets = entry.targets.clone();
                for (_, old) in targets.iter_mut().filter(|(route, _)| *route == id) {
                    *old = target.cloned();
                }
                *entry = Arc::new(Targets::new(targets));
            }
        }
    }

    /// Removes a target from all its host names.
    pub fn remove(&mut self, id: TargetId) {
        self.by_host.retain(|_, entry| {
            if entry.targets.iter().any(|(route, _)| *route == id) {
                let mut targets = entry.targets.clone();
                targets.retain(|(route, _)| *route != id);
                *entry = Arc::new(Targets::new(targets));
            }
            !entry.targets.is_empty()
        });
    }
}

impl<T> Routes<T> {
    /// Returns the next target in rotation for `host`, which must be in lower case (HOST-HTTP-011).
    pub fn find(&self, host: &str) -> Lookup<'_, T> {
        let Some(entry) = self.by_host.get(host) else {
            return Lookup::Unknown;
        };
        let count = entry.targets.len();
        let next = entry.next.fetch_add(1, Ordering::Relaxed) % count.max(1);
        let (before, after) = entry.targets.split_at_checked(next).unwrap_or_default();
        let mut rotated = after.iter().chain(before);
        match rotated.find_map(|(_, target)| target.as_ref()) {
            Some(target) => Lookup::Found(target),
            None => Lookup::Suspended,
        }
    }

    /// Returns the oldest target for `host`, which must be in lower case.
    pub fn first(&self, host: &str) -> Lookup<'_, T> {
        match self.by_host.get(host).map(|entry| entry.first()) {
            Some(Some(target)) => Lookup::Found(target),
            Some(None) => Lookup::Suspended,
            None => Lookup::Unknown,
        }
    }

    /// Returns a target of any host name.
    pub fn any(&self) -> Lookup<'_, T> {
        let lowest = self.by_host.iter().min_by_key(|(host, _)| *host);
        match lowest.and_then(|(_, entry)| entry.first()) {
            Some(target) => Lookup::Found(target),
            None => Lookup::Unknown,
        }
    }
}

impl<T> Targets<T> {
    fn first(&self) -> Option<&T> {
        self.targets.iter().find_map(|(_, target)| target.as_ref())
    }

    fn new(targets: Vec<(TargetId, Option<T>)>) -> Self {
        Self {
            targets,
            next: AtomicUsize::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rotates_between_targets_of_one_host_name() {
        let mut routes = Routes::default();
        let hosts = ["a".to_owned()];
        let one = routes.add(&hosts, 1);
        routes.add(&hosts, 2);
        let seen: Vec<_> = (0..4).map(|_| routes.find("a")).collect();
        let (first, second) = (Lookup::Found(&1), Lookup::Found(&2));
        assert_eq!(seen, [first, second, first, second]);
        routes.remove(one);
        assert_eq!((routes.find("a"), routes.find("a")), (second, second));
    }

    #[test]
    fn suspended_targets_keep_their_host_names_and_get_no_requests() {
        let mut routes = Routes::default();
        let one = routes.add(&["a".to_owned(), "b".to_owned()], 1);
        let two = routes.add(&["a".to_owned()], 2);
        routes.replace(one, None);
        for _ in 0..3 {
            assert_eq!(routes.find("a"), Lookup::Found(&2));
            assert_eq!(routes.find("b"), Lookup::Suspended);
        }
        routes.replace(two, None);
        assert_eq!(routes.find("a"), Lookup::Suspended);
        routes.replace(one, Some(&3));
        assert_eq!(routes.find("a"), Lookup::Found(&3));
        routes.remove(one);
        routes.remove(two);
        assert_eq!(routes.find("a"), Lookup::Unknown);
    }

    proptest! {
        #[test]
        fn never_finds_removed_targets(
            adds in proptest::collection::vec(proptest::collection::vec("[abc]", 1..3), 1..8),
            removed in any::<proptest::sample::Index>(),
        ) {
            let mut routes = Routes::default();
            let ids: Vec<_> =
                adds.iter().enumerate().map(|(n, hosts)| routes.add(hosts, n)).collect();
            let removed = removed.index(ids.len());
            routes.remove(ids[removed]);
            for host in ["a", "b", "c"] {
                let expected: Vec<_> = (0..adds.len())
                    .filter(|&n| n != removed && adds[n].iter().any(|h| h == host))
                    .collect();
                let mut found: Vec<_> =
                    (0..2 * adds.len()).filter_map(|_| match routes.find(host) {
                        Lookup::Found(target) => Some(*target),
                        _ => None,
                    }).collect();
                found.sort_unstable();
                found.dedup();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
