//! What a simulated host does instead of the ordinary thing: rules, each for some commands, some times.

use std::time::Duration;

use bytes::Bytes;

use crate::scheduler::journal::{ReceivedCommand, contains};

/// What is done to a command.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing, as if it had never arrived.
    Ignore,
    /// It is carried out, and the answer is lost.
    LoseAnswer,
    /// It is carried out and answered that much later. A serial host does nothing else meanwhile.
    After(Duration),
    /// It is carried out at once, and answered that much later.
    AnswerAfter(Duration),
    /// It is not carried out, and this is the answer, whatever it is.
    Response(Bytes),
    /// It is carried out, and this is the answer, whatever it is.
    ObeyAndAnswer(Bytes),
    /// A start ends in ERROR with this message; `known` hosts keep a record of it.
    Fail {
        /// What the answer says.
        message: String,
        /// Whether status says ERROR afterwards, and not NOT_FOUND.
        known: bool,
    },
    /// A start is answered with STARTING at once, and runs that much later.
    Starting(Duration),
    /// The ordinary thing: a way to end other rules early.
    Ordinary,
}

/// One rule. Of several that match, the one that was added last has its way.
#[derive(Clone, Debug)]
pub struct Rule {
    command: String,
    part: Option<String>,
    times: Option<u32>,
    after: u32,
    act: Act,
}

impl Rule {
    /// For every such command: `workload.start`, `workload.stop`, `workload.status`, `heartbeat`.
    pub fn on(command: &str, act: Act) -> Rule {
        Rule {
            command: command.to_owned(),
            part: None,
            times: None,
            after: 0,
            act,
        }
    }

    /// Only when the payload contains that text, such as an id or an image.
    pub fn containing(self, part: &str) -> Rule {
        Rule {
            part: Some(part.to_owned()),
            ..self
        }
    }

    /// Only so often.
    pub fn times(self, times: u32) -> Rule {
        Rule {
            times: Some(times),
            ..self
        }
    }

    /// Not the first so many.
    pub fn after(self, after: u32) -> Rule {
        Rule { after, ..self }
    }

    fn matches(&self, came: &ReceivedCommand) -> bool {
        let part = |part: &String| contains(&came.payload, part);
        self.command == came.command && self.times != Some(0) && self.part.as_ref().is_none_or(part)
    }
}

/// The rules of one host.
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<Rule>);

impl Script {
    /// Adds a rule.
    pub fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    /// Takes all rules back.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What is to be done to a command; counts it.
    pub fn take(&mut self, came: &ReceivedCommand) -> Option<Act> {
        let rule = self.0.iter_mut().rev().find(|rule| rule.matches(came))?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.act.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response::Headers;

    fn came(command: &str, payload: &'static str) -> ReceivedCommand {
        ReceivedCommand {
            command: command.to_owned(),
            id: String::new(),
            payload: Bytes::from_static(payload.as_bytes()),
            json: None,
            reply: None,
            headers: Headers::none(),
        }
    }

    #[test]
    fn the_last_rule_has_its_way_until_it_is_used_up() {
        let mut script = Script::default();
        script.add(Rule::on("workload.stop", Act::Ignore));
        script.add(
            Rule::on("workload.stop", Act::LoseAnswer)
                .containing("a")
                .after(1)
                .times(1),
        );
        let mut acts = |payload| script.take(&came("workload.stop", payload));
        assert!(acts("a").is_none());
        assert!(matches!(acts("b"), Some(Act::Ignore)));
        assert!(matches!(acts("a"), Some(Act::LoseAnswer)));
        assert!(matches!(acts("a"), Some(Act::Ignore)));
        assert!(script.take(&came("workload.start", "a")).is_none());
    }
}
