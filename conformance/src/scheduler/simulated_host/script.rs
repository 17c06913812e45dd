//! Script of a simulated host: rules that replace its normal reaction to some commands.

use std::time::Duration;

use bytes::Bytes;

use super::ReplyTemplate;
use crate::scheduler::journal::{ReceivedCommand, contains};

/// Reaction to a command.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Ignores the command, as if it had not arrived.
    Ignore,
    /// Executes the command, and sends no reply.
    DropReply,
    /// Executes the command and replies, both after a delay. A host that executes one command at a
    /// time does nothing else during the delay.
    Delay(Duration),
    /// Executes the command at once, and replies after a delay.
    DelayReply(Duration),
    /// Sends these bytes as the reply, and does not execute the command.
    Reply(Bytes),
    /// Executes the command, and sends these bytes as the reply.
    ExecuteThenReply(Bytes),
    /// Executes the command, and sends its reply in the encoding of the template.
    Encode(ReplyTemplate),
    /// Sends a reply in the encoding of the template, and does not execute the command.
    Pretend(ReplyTemplate),
    /// Replies with ERROR and this error code, and does not execute the command.
    Refuse(u16),
    /// Executes a start whose workload ends by itself at once, and replies with COMPLETED.
    Complete,
    /// Replies with ERROR, and starts nothing.
    Fail {
        /// Message of the reply.
        message: String,
        /// Whether later status replies contain ERROR instead of NOT_FOUND.
        recorded: bool,
    },
    /// Replies to a start with STARTING at once, and runs the workload after this duration.
    Starting(Duration),
    /// Replies to a stop with STOPPING at once, and ends the workload after this duration.
    Stopping(Duration),
    /// Executes the command and replies, like a host without rules, even if earlier rules match.
    Normal,
}

/// Rule for some commands. If several rules match, the rule that was added last applies.
#[derive(Clone, Debug)]
pub struct CommandRule {
    command: String,
    text: Option<String>,
    times: Option<u32>,
    skip_first: u32,
    reaction: Reaction,
}

impl CommandRule {
    /// Returns a rule for a command: `workload.start`, `workload.stop`, `workload.status` or
    /// `heartbeat`.
    pub fn on(command: &str, reaction: Reaction) -> CommandRule {
        CommandRule {
            command: command.to_owned(),
            text: None,
            times: None,
            skip_first: 0,
            reaction,
        }
    }

    /// Restricts the rule to payloads that contain `text`, such as an id or an image.
    pub fn containing(self, text: &str) -> CommandRule {
        CommandRule {
            text: Some(text.to_owned()),
            ..self
        }
    }

    /// Limits the number of commands to which the rule applies.
    pub fn times(self, times: u32) -> CommandRule {
        CommandRule {
            times: Some(times),
            ..self
        }
    }

    /// Exempts the first `count` matching commands.
    pub fn skip_first(self, count: u32) -> CommandRule {
        CommandRule {
            skip_first: count,
            ..self
        }
    }

    fn matches(&self, received: &ReceivedCommand) -> bool {
        let contained = |text: &String| contains(&received.payload, text);
        self.command == received.command
            && self.times != Some(0)
            && self.text.as_ref().is_none_or(contained)
    }
}

/// Rules of a host.
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<CommandRule>);

impl Script {
    /// Adds a rule.
    pub fn add(&mut self, rule: CommandRule) {
        self.0.push(rule);
    }

    /// Removes all rules.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the reaction to a command, if a rule matches, and counts the use of that rule.
    pub fn take(&mut self, received: &ReceivedCommand) -> Option<Reaction> {
        let rule = self
            .0
            .iter_mut()
            .rev()
            .find(|rule| rule.matches(received))?;
        if rule.skip_first > 0 {
            rule.skip_first -= 1;
            return None;
        }
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.reaction.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response::Headers;

    fn received(command: &str, payload: &'static str) -> ReceivedCommand {
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
    fn last_rule_applies_until_it_is_used_up() {
        let mut script = Script::default();
        script.add(CommandRule::on("workload.stop", Reaction::Ignore));
        script.add(
            CommandRule::on("workload.stop", Reaction::DropReply)
                .containing("a")
                .skip_first(1)
                .times(1),
        );
        let mut reaction = |payload| script.take(&received("workload.stop", payload));
        assert!(reaction("a").is_none());
        assert!(matches!(reaction("b"), Some(Reaction::Ignore)));
        assert!(matches!(reaction("a"), Some(Reaction::DropReply)));
        assert!(matches!(reaction("a"), Some(Reaction::Ignore)));
        assert!(script.take(&received("workload.start", "a")).is_none());
    }
}
