//! The trie against a plain list, and what it leaves behind.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Interest, Matches};
use crate::frame::Text;
use crate::subject;

type Listed = (Text, Option<Text>, Arc<usize>);

proptest! {
    #[test]
    fn it_finds_what_a_list_finds(entries in entries(), gone in vec(any::<bool>(), 30), on in vec(subject(), 1..20)) {
        let mut interest = Interest::new();
        let mut list = listed(entries);
        for (pattern, queue, entry) in &list {
            interest.insert(pattern, queue.as_ref(), entry.clone());
        }
        let mut gone = gone.into_iter();
        list.retain(|(pattern, queue, entry)| {
            let goes = gone.next().unwrap_or(false);
            if goes {
                interest.remove(pattern, queue.as_ref(), entry);
            }
            !goes
        });
        prop_assert_eq!(interest.len(), list.len());
        for subject in on {
            let subject = Text::from(subject);
            let mut matches = Matches::default();
            interest.collect(&subject, &mut |n| n - 1, &mut matches);
            let wanted = |(pattern, ..): &&Listed| subject::matches(pattern, &subject);
            let list: Vec<_> = list.iter().filter(wanted).collect();
            let plain = list.iter().filter(|(_, queue, _)| queue.is_none());
            let mut plain: Vec<_> = plain.map(|(.., entry)| **entry).collect();
            let mut found: Vec<_> = matches.plain.iter().map(|entry| **entry).collect();
            plain.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, plain);
            for name in ["x", "y"] {
                let of = |queue: &Option<Text>| queue.as_ref().is_some_and(|queue| *queue == name);
                let members = list.iter().filter(|(_, queue, _)| of(queue)).count();
                let picks: Vec<_> = matches.queues.iter().filter(|pick| pick.queue == name).collect();
                prop_assert_eq!(picks.len(), usize::from(members > 0));
                prop_assert!(picks.iter().all(|pick| pick.members == members));
                prop_assert_eq!(interest.queue_members(&subject, &name.into()).len(), members);
            }
        }
    }

    #[test]
    fn nothing_is_left_when_all_are_gone(entries in entries()) {
        let mut interest = Interest::new();
        let list = listed(entries);
        for (pattern, queue, entry) in &list {
            interest.insert(pattern, queue.as_ref(), entry.clone());
        }
        for (pattern, queue, entry) in &list {
            interest.remove(pattern, queue.as_ref(), entry);
            interest.remove(pattern, queue.as_ref(), entry);
        }
        prop_assert_eq!(interest.len(), 0);
        prop_assert!(interest.root.is_empty());
    }
}

#[test]
fn members_of_a_group_share_alike_over_several_patterns() {
    const DRAWS: usize = 6000;
    let mut interest = Interest::new();
    let queue = Text::from("workers");
    for (number, pattern) in ["a.b", "a.b", "a.b", "a.*", "a.*", ">"]
        .into_iter()
        .enumerate()
    {
        interest.insert(&pattern.into(), Some(&queue), Arc::new(number));
    }
    let mut random = 1_u64;
    let mut draw = |n: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % n
    };
    let mut counts = [0; 6];
    for _ in 0..DRAWS {
        let mut matches = Matches::default();
        interest.collect(&"a.b".into(), &mut draw, &mut matches);
        counts[*matches.queues[0].member] += 1;
    }
    assert!(
        counts.iter().all(|count| (800..1200).contains(count)),
        "{counts:?}"
    );
}

fn listed(entries: Vec<(String, Option<&'static str>)>) -> Vec<Listed> {
    let listed = entries
        .into_iter()
        .enumerate()
        .map(|(number, (pattern, queue))| {
            (Text::from(pattern), queue.map(Text::from), Arc::new(number))
        });
    listed.collect()
}

fn entries() -> impl Strategy<Value = Vec<(String, Option<&'static str>)>> {
    let queue = option::of(prop_oneof![Just("x"), Just("y")]);
    vec((pattern(), queue), 0..30)
}

fn pattern() -> impl Strategy<Value = String> {
    "([ab*][.]){0,3}[ab*>]"
}

fn subject() -> impl Strategy<Value = String> {
    "([ab*][.]){0,3}[ab>]?"
}
