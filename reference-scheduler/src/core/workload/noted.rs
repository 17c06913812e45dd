//! Where the store says that a workload is: in its status, or, from its creation until its first status, in an
//! annotation. That spares every replica a write.

use std::time::Duration;

use super::{Phase, Place, Workload};
use crate::api::{self, names};
use crate::core::Scheduler;
use crate::core::placement::filter::{self, Refusal};

/// How long a host that was told to start something may take before people are told no more than that.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Where it stands that a workload has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// In the status, or on the way there.
    InStatus,
    /// In what we created it with, at that time.
    AtCreation(Duration),
    /// In what it was created with, by whom we do not know: anybody may annotate. So the host is asked first, and
    /// nothing is started there that could not be placed there.
    AsHint,
}

/// The host and the id that an object tells of.
pub(super) fn noted_place(object: &api::Workload) -> Option<(&str, &str)> {
    let status = object.status.as_ref();
    match status.filter(|status| !status.host_id.is_empty()) {
        Some(status) => Some((&status.host_id, &status.workload_id)),
        None => Some((created_on(object)?, &object.metadata.uid)),
    }
}

/// The host that it was placed on when it was created, if it has not left it since.
pub(super) fn created_on(object: &api::Workload) -> Option<&str> {
    // Another scheduler may write a host without an id.
    let tells =
        |status: &api::WorkloadStatus| !status.host_id.is_empty() || !status.workload_id.is_empty();
    if object.status.as_ref().is_some_and(tells) {
        return None;
    }
    let annotations = &object.metadata.annotations;
    annotations
        .get(names::PLACED_ANNOTATION)
        .map(String::as_str)
        .filter(|host| !host.is_empty())
}

impl Workload {
    /// Whether nobody has said yet that it was ever where it is thought to be.
    pub fn is_hint(&self) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| place.noted == Noted::AsHint)
    }

    /// By when its host will have answered, before which there is nothing new to be written.
    pub fn answered_by(&self) -> Option<Duration> {
        let begins = matches!(self.phase, Phase::Bound | Phase::Starting);
        match self.place.as_ref()?.noted {
            Noted::AtCreation(at) if begins && self.config_error.is_none() => {
                Some(at + ANSWER_TIME)
            }
            _ => None,
        }
    }
}

impl Scheduler {
    /// What was placed before it was created is there now. Says whether it is where it was placed: an earlier
    /// creation of it may have told another host.
    pub(super) fn is_created_there(&mut self, number: u32, object: &api::Workload) -> bool {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(number) else {
            return false;
        };
        let id = record.next_id();
        let Some(place) = &mut record.place else {
            return false;
        };
        let host = self.fleet.get(place.host);
        if host.map(|host| &*host.id) == created_on(object) {
            *place = Place {
                id,
                generation: object.metadata.generation,
                content: record.kept.object.clone(),
                noted: Noted::AtCreation(now),
                ..place.clone()
            };
            return true;
        }
        self.uncount(number);
        if let Some(record) = self.workloads.get_mut(number) {
            (record.place, record.phase) = (None, Phase::Waiting);
        }
        false
    }

    /// Its host has never heard of what was to be placed there. It is started there if the host could be chosen now;
    /// if not, it is given up.
    pub(super) fn prove_hint(&mut self, number: u32) {
        let (now, interval) = (self.now, self.options.timings.starting_interval);
        self.uncount(number);
        let refusal = self.workloads.get(number).and_then(|record| {
            let place = record.place.as_ref()?;
            match self.fleet.get(place.host) {
                Some(host) => filter::refusal(&record.shape, host, now),
                None => Some(Refusal::Lost),
            }
        });
        self.count(number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        match refusal {
            None => {
                if let Some(place) = &mut record.place {
                    place.noted = Noted::AtCreation(now);
                }
                record.contact = super::Contact::default();
                self.workload_changed(number);
            }
            // Its first heartbeat will tell.
            Some(Refusal::Unheard | Refusal::Suspect) => {
                record.contact.ask_later(now + interval);
                self.workload_changed(number);
            }
            Some(_) => self.vanish(number),
        }
    }

    /// Whether the store has its host and id.
    pub(super) fn is_noted(&self, number: u32) -> bool {
        let Some(record) = self.workloads.get(number) else {
            return false;
        };
        let noted = record.kept.object.as_deref().and_then(noted_place);
        let (Some((host_id, id)), Some(place)) = (noted, &record.place) else {
            return false;
        };
        let host = self.fleet.get(place.host);
        host.is_some_and(|host| *host.id == *host_id) && *place.id == *id
    }
}
