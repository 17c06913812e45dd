//! The subscriptions in a trie of tokens. The cost of a match depends on the number of tokens, not
//! on the number of subscriptions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::frame::Text;
use crate::subject::{ANY, REST};

/// The subscriptions of a broker.
#[derive(Debug)]
pub(crate) struct Subscriptions<S> {
    root: Node<S>,
    len: usize,
}

/// The receivers of one message: every plain subscription, and one member of each queue group.
#[derive(Debug)]
pub(crate) struct Matches<S> {
    pub(crate) plain: Vec<Arc<S>>,
    pub(crate) queues: Vec<QueuePick<S>>,
}

/// The selected member of a queue group.
#[derive(Debug)]
pub(crate) struct QueuePick<S> {
    pub(crate) queue: Text,
    pub(crate) member: Arc<S>,
    /// Number of members from which it was selected.
    pub(crate) members: usize,
}

impl<S> Subscriptions<S> {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self {
            root: Node::default(),
            len: 0,
        }
    }

    /// Returns the number of subscriptions.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a subscription to a valid pattern.
    pub(crate) fn insert(&mut self, pattern: &Text, queue: Option<&Text>, subscription: Arc<S>) {
        let mut node = &mut self.root;
        for token in tokens(pattern.as_bytes()) {
            node = node.child_mut(token);
        }
        node.members_mut(queue).push(subscription);
        self.len += 1;
    }

    /// Removes a subscription, compared by identity, and the branches that become empty.
    pub(crate) fn remove(&mut self, pattern: &Text, queue: Option<&Text>, subscription: &Arc<S>) {
        let mut tokens = tokens(pattern.as_bytes());
        if self.root.remove(&mut tokens, queue, subscription) {
            self.len -= 1;
        }
    }

    /// Collects the receivers of a message to `subject`. `random_below(n)` returns a random number
    /// below `n`.
    pub(crate) fn collect(
        &self,
        subject: &Text,
        random_below: &mut impl FnMut(usize) -> usize,
        matches: &mut Matches<S>,
    ) {
        self.visit(subject, &mut |node: &Node<S>| {
            matches.add(node, random_below)
        });
    }

    /// Returns all members of a queue group whose pattern matches `subject`.
    pub(crate) fn queue_members(&self, subject: &Text, queue: &Text) -> Vec<Arc<S>> {
        let mut members = Vec::new();
        self.visit(subject, &mut |node: &Node<S>| {
            let group = node.queues.iter().find(|(name, _)| name == queue);
            members.extend(
                group
                    .into_iter()
                    .flat_map(|(_, group)| group.iter().cloned()),
            );
        });
        members
    }

    fn visit(&self, subject: &Text, visit: &mut impl FnMut(&Node<S>)) {
        if tokens(subject.as_bytes()).any(<[u8]>::is_empty) {
            return;
        }
        self.root.visit(tokens(subject.as_bytes()), visit);
    }
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self {
            plain: Vec::new(),
            queues: Vec::new(),
        }
    }
}

impl<S> Matches<S> {
    fn add(&mut self, node: &Node<S>, random_below: &mut impl FnMut(usize) -> usize) {
        self.plain.extend(node.plain.iter().cloned());
        for (queue, members) in &node.queues {
            let Some(member) = members.get(random_below(members.len())) else {
                continue;
            };
            match self.queues.iter_mut().find(|pick| pick.queue == *queue) {
                // A group may have members on several patterns: all members have equal probability.
                Some(pick) => {
                    pick.members += members.len();
                    if random_below(pick.members) < members.len() {
                        pick.member = member.clone();
                    }
                }
                None => self.queues.push(QueuePick {
                    queue: queue.clone(),
                    member: member.clone(),
                    members: members.len(),
                }),
            }
        }
    }
}

/// The subscriptions whose pattern ends at this node, and its children by token.
#[derive(Debug)]
struct Node<S> {
    literal: HashMap<Box<[u8]>, Node<S>>,
    /// Child for the token `*`.
    any: Option<Box<Node<S>>>,
    /// Child for the token `>`.
    rest: Option<Box<Node<S>>>,
    plain: Vec<Arc<S>>,
    queues: Vec<(Text, Vec<Arc<S>>)>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            literal: HashMap::new(),
            any: None,
            rest: None,
            plain: Vec::new(),
            queues: Vec::new(),
        }
    }
}

impl<S> Node<S> {
    fn visit<'a>(
        &self,
        mut tokens: impl Iterator<Item = &'a [u8]> + Clone,
        visit: &mut impl FnMut(&Self),
    ) {
        let Some(token) = tokens.next() else {
            return visit(self);
        };
        if let Some(rest) = &self.rest {
            visit(rest);
        }
        if let Some(any) = &self.any {
            any.visit(tokens.clone(), visit);
        }
        if let Some(literal) = self.literal.get(token) {
            literal.visit(tokens, visit);
        }
    }

    fn child_mut(&mut self, token: &[u8]) -> &mut Self {
        match token {
            ANY => self.any.get_or_insert_default(),
            REST => self.rest.get_or_insert_default(),
            literal => self.literal.entry(literal.into()).or_default(),
        }
    }

    fn members_mut(&mut self, queue: Option<&Text>) -> &mut Vec<Arc<S>> {
        let Some(queue) = queue else {
            return &mut self.plain;
        };
        let position = self.queues.iter().position(|(name, _)| name == queue);
        let position = position.unwrap_or_else(|| {
            self.queues.push((queue.clone(), Vec::new()));
            self.queues.len() - 1
        });
        match self.queues.get_mut(position) {
            Some((_, members)) => members,
            None => &mut self.plain,
        }
    }

    fn remove<'a>(
        &mut self,
        tokens: &mut impl Iterator<Item = &'a [u8]>,
        queue: Option<&Text>,
        subscription: &Arc<S>,
    ) -> bool {
        let Some(token) = tokens.next() else {
            let members = self.members_mut(queue);
            let position = members
                .iter()
                .position(|member| Arc::ptr_eq(member, subscription));
            let removed = position
                .map(|position| members.swap_remove(position))
                .is_some();
            self.queues.retain(|(_, members)| !members.is_empty());
            return removed;
        };
        match token {
            ANY => remove_below(&mut self.any, tokens, queue, subscription),
            REST => remove_below(&mut self.rest, tokens, queue, subscription),
            literal => {
                let Some(child) = self.literal.get_mut(literal) else {
                    return false;
                };
                let removed = child.remove(tokens, queue, subscription);
                if child.is_empty() {
                    self.literal.remove(literal);
                }
                removed
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.any.is_none()
            && self.rest.is_none()
            && self.plain.is_empty()
            && self.queues.is_empty()
    }
}

fn remove_below<'a, S>(
    child: &mut Option<Box<Node<S>>>,
    tokens: &mut impl Iterator<Item = &'a [u8]>,
    queue: Option<&Text>,
    subscription: &Arc<S>,
) -> bool {
    let Some(node) = child else { return false };
    let removed = node.remove(tokens, queue, subscription);
    if node.is_empty() {
        *child = None;
    }
    removed
}

fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    subject.split(|byte| *byte == b'.')
}

#[cfg(test)]
mod tests;
