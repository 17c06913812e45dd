//! Compares the trie with a plain list, and checks that it leaves no empty branch behind.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Matches, Subscriptions};
use crate::frame::Text;
use crate::subject;

type Entry = (Text, Option<Text>, Arc<usize>);

proptest! {
    #[test]
    fn finds_the_same_as_a_list(
        entries in entries(),
        removals in vec(any::<bool>(), 30),
        subjects in vec(any_subject(), 1..20),
    ) {
        let mut subscriptions = Subscriptions::new();
        let mut list = numbered(entries);
        for (pattern, queue, entry) in &list {
            subscriptions.insert(pattern, queue.as_ref(), entry.clone());
        }
        let mut removals = removals.into_iter();
        list.retain(|(pattern, queue, entry)| {
            let remove = removals.next().unwrap_or(false);
            if remove {
                subscriptions.remove(pattern, queue.as_ref(), entry);
            }
            !remove
        });
        prop_assert_eq!(subscriptions.len(), list.len());
        for subject in subjects {
            let subject = Text::from(subject);
            let mut matches = Matches::default();
            subscriptions.collect(&subject, &mut |n| n - 1, &mut matches);
            let matching = |(pattern, ..): &&Entry| subject::matches(pattern, &subject);
            let list: Vec<_> = list.iter().filter(matching).collect();
            let plain = list.iter().filter(|(_, queue, _)| queue.is_none());
            let mut plain: Vec<_> = plain.map(|(.., entry)| **entry).collect();
            let mut found: Vec<_> = matches.plain.iter().map(|entry| **entry).collect();
            plain.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, plain);
            for name in ["x", "y"] {
                let in_queue =
                    |queue: &Option<Text>| queue.as_ref().is_some_and(|queue| *queue == name);
                let members = list.iter().filter(|(_, queue, _)| in_queue(queue)).count();
                let picks = matches.queues.iter().filter(|pick| pick.queue == name);
                let picks: Vec<_> = picks.collect();
                prop_assert_eq!(picks.len(), usize::from(members > 0));
                prop_assert!(picks.iter().all(|pick| pick.members == members));
                prop_assert_eq!(subscriptions.queue_members(&subject, &name.into()).len(), members);
            }
        }
    }

    #[test]
    fn is_empty_after_all_removals(entries in entries()) {
        let mut subscriptions = Subscriptions::new();
        let list = numbered(entries);
        for (pattern, queue, entry) in &list {
            subscriptions.insert(pattern, queue.as_ref(), entry.clone());
        }
        for (pattern, queue, entry) in &list {
            subscriptions.remove(pattern, queue.as_ref(), entry);
            subscriptions.remove(pattern, queue.as_ref(), entry);
        }
        prop_assert_eq!(subscriptions.len(), 0);
        prop_assert!(subscriptions.root.is_empty());
    }
}

#[test]
fn members_of_a_group_have_equal_probability_over_several_patterns() {
    const DRAWS: usize = 6000;
    let mut subscriptions = Subscriptions::new();
    let queue = Text::from("workers");
    for (number, pattern) in ["a.b", "a.b", "a.b", "a.*", "a.*", ">"]
        .into_iter()
        .enumerate()
    {
        subscriptions.insert(&pattern.into(), Some(&queue), Arc::new(number));
    }
    let mut random = 1_u64;
    let mut random_below = |n: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % n
    };
    let mut counts = [0; 6];
    for _ in 0..DRAWS {
        let mut matches = Matches::default();
        subscriptions.collect(&"a.b".into(), &mut random_below, &mut matches);
        counts[*matches.queues[0].member] += 1;
    }
    assert!(
        counts.iter().all(|count| (800..1200).contains(count)),
        "{counts:?}"
    );
}

fn numbered(entries: Vec<(String, Option<&'static str>)>) -> Vec<Entry> {
    let numbered = entries
        .into_iter()
        .enumerate()
        .map(|(number, (pattern, queue))| {
            (Text::from(pattern), queue.map(Text::from), Arc::new(number))
        });
    numbered.collect()
}

fn entries() -> impl Strategy<Value = Vec<(String, Option<&'static str>)>> {
    let queue = option::of(prop_oneof![Just("x"), Just("y")]);
    vec((pattern(), queue), 0..30)
}

fn pattern() -> impl Strategy<Value = String> {
    "([ab*][.]){0,3}[ab*>]"
}

/// Subjects, including invalid ones (empty, or with an empty token or `>` at the end): the trie
/// must match them like the list.
fn any_subject() -> impl Strategy<Value = String> {
    "([ab*][.]){0,3}[ab>]?"
}
