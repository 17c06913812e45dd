//! The life of an incarnation: bound to a host, left there, moved elsewhere, let go.

use std::sync::Arc;
use std::time::Duration;

use super::noted::{self, Noted};
use super::{Phase, Place, Workload};
use crate::api::{self, names};
use crate::breakage::Breakage;
use crate::core::Scheduler;
use crate::core::agenda::Item;
use crate::core::replica_set::DEBOUNCE;

/// How long a host on which something failed gets no more of the same while there are others.
const AVOID: Duration = Duration::from_secs(300);

/// What apart the first questions about what an earlier scheduler has left are asked.
const ADOPTION_STAGGER: Duration = Duration::from_millis(5);

impl Workload {
    /// Whether its host may have it. What was bound and never sent cannot run.
    pub fn may_run(&self) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Bound | Phase::Failed { gone: true } => false,
            Phase::Starting => self.contact.may_have_arrived(),
            _ => true,
        }
    }

    pub fn is_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed { .. })
    }
}

impl Scheduler {
    /// Takes over what the object says that was done with it, by us in an earlier life or by another
    /// scheduler. Nothing is started or stopped over it.
    pub(in crate::core) fn adopt(&mut self, number: u32, object: &api::Workload) {
        if Breakage::AdoptsNothing.is_on() {
            return;
        }
        if let Some(host) = noted::created_on(object) {
            return self.adopt_hint(number, object, host);
        }
        let Some(status) = &object.status else {
            return;
        };
        let lives = lives_of(&object.metadata.uid, &status.workload_id);
        if status.host_id.is_empty() {
            // Between two lives. The last id is not used again.
            if let Some(record) = self.workloads.get_mut(number) {
                record.lives = lives.map_or(0, |lives| lives + 1);
            }
            return;
        }
        let host = self.known_host(&status.host_id, false);
        let holds = |name| api::is_true(&status.conditions, name);
        let placement = api::condition(&status.conditions, names::workload::PLACEMENT);
        let ready = api::condition(&status.conditions, names::workload::READY);
        let sync = api::condition(&status.conditions, names::workload::SYNC);
        let phase = match (
            holds(names::workload::PLACEMENT),
            holds(names::workload::SYNC),
        ) {
            (true, true) if ready.is_some_and(|ready| ready.reason == super::report::COMPLETED) => {
                Phase::Completed
            }
            (true, true) => Phase::Running,
            (_, false) if sync.is_some_and(|sync| sync.reason == super::report::FAILED) => {
                Phase::Failed { gone: false }
            }
            (true, false) => Phase::Accepted,
            (false, _) => Phase::Starting,
        };
        let generation = placement.map_or(0, |placement| placement.observed_generation);
        let generation = match generation {
            0 => object.metadata.generation,
            observed => observed,
        };
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let id: Arc<str> = match status.workload_id.as_str() {
            "" => record.uid.clone(),
            id => id.into(),
        };
        record.lives = lives.unwrap_or(0);
        record.message = ready.map_or_else(String::new, |ready| ready.message.clone());
        let was_taken = phase != Phase::Starting;
        let place = Place::new(host, id, generation);
        self.take_over(number, Place { was_taken, ..place }, phase);
    }

    /// One that was created with this host, and of which no more was ever written.
    fn adopt_hint(&mut self, number: u32, object: &api::Workload, host_id: &str) {
        let host = self.known_host(host_id, false);
        let metadata = &object.metadata;
        let place = Place::new(host, metadata.uid.as_str().into(), metadata.generation);
        let noted = Noted::AsHint;
        self.take_over(number, Place { noted, ..place }, Phase::Starting);
    }

    fn take_over(&mut self, number: u32, place: Place, phase: Phase) {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        (record.place, record.phase) = (Some(place), phase);
        record
            .contact
            .adopt(now, ADOPTION_STAGGER * (number % 4096));
        self.count(number);
    }

    /// Gives it a host. Nothing is sent before that is written down.
    pub(in crate::core) fn bind(&mut self, number: u32, host: u32) {
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let object = record.kept.object.clone();
        let generation = object.as_ref().map_or(0, |it| it.metadata.generation);
        record.place = Some(Place {
            content: object,
            ..Place::new(host, record.next_id(), generation)
        });
        (record.phase, record.refused) = (Phase::Bound, None);
        record.contact = super::Contact::default();
        record.message.clear();
        self.waiting.remove(&number);
        self.count(number);
        self.agenda.look_at(Item::Workload(number));
    }

    pub(super) fn count(&mut self, number: u32) {
        let set = self.set_of(number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let Some(place) = record.place.as_mut().filter(|place| !place.counted) else {
            return;
        };
        place.counted = true;
        let host = place.host;
        for image in record.images() {
            let hosts = self.image_hosts.entry(image.to_owned()).or_default();
            *hosts.entry(host).or_default() += 1;
        }
        if let Some(set) = set.and_then(|set| self.sets.get_mut(set)) {
            set.spread.add(host);
        }
        if let Some(record) = self.fleet.get_mut(host) {
            record.workloads.insert(number);
            // Those with room for any number are filed anew when they are met.
            if record.is_limited() {
                self.candidates.refresh(host, &self.fleet, self.now);
            }
        }
    }

    /// Takes it out of all counts by which others are placed.
    pub(in crate::core) fn uncount(&mut self, number: u32) {
        let set = self.set_of(number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let Some(place) = record.place.as_mut().filter(|place| place.counted) else {
            return;
        };
        place.counted = false;
        let host = place.host;
        for image in record.images() {
            let Some(hosts) = self.image_hosts.get_mut(image) else {
                continue;
            };
            if let Some(count) = hosts.get_mut(&host) {
                *count -= 1;
                if *count == 0 {
                    hosts.remove(&host);
                }
            }
            if hosts.is_empty() {
                self.image_hosts.remove(image);
            }
        }
        if let Some(set) = set.and_then(|set| self.sets.get_mut(set)) {
            set.spread.remove(host);
        }
        if let Some(record) = self.fleet.get_mut(host) {
            record.workloads.remove(&number);
            let object = record.object;
            self.candidates.refresh(host, &self.fleet, self.now);
            if let Some(object) = object {
                self.agenda.look_at(Item::Host(object));
            }
        }
        if !self.waiting.is_empty() {
            let at = self.now + self.options.timings.join;
            self.agenda.look_by(Item::Placement, at);
        }
    }

    /// Goes on with a workload as far as it can; says when to look again.
    pub(in crate::core) fn advance(&mut self, number: u32) -> Option<Duration> {
        let record = self.workloads.get(number)?;
        let object = record.kept.object.as_ref()?;
        if object.metadata.is_deleting() {
            self.let_go(number);
            return None;
        }
        if record.unwanted {
            return None;
        }
        if !record.may_run() && self.is_orphan(number) {
            self.waiting.remove(&number);
            return None;
        }
        let Some(place) = &record.place else {
            if record.waits() && self.waiting.insert(number) {
                self.agenda.look_at(Item::Placement);
            }
            return None;
        };
        if record.owner.is_none() && self.is_outdated(number) {
            self.leave(number);
            return self.advance(number);
        }
        let record = self.workloads.get(number)?;
        let place = record.place.as_ref().unwrap_or(place);
        if record.phase == Phase::Leaving {
            self.finish_leaving(number);
            return None;
        }
        let lost = self.fleet.get(place.host).is_none_or(|host| host.is_lost());
        match lost {
            true => self.advance_lost(number),
            false => self.advance_there(number),
        }
    }

    /// On a host that is lost, it stays what it is until there is somewhere to go.
    fn advance_lost(&mut self, number: u32) -> Option<Duration> {
        let record = self.workloads.get(number)?;
        if record.phase == Phase::Completed {
            return None;
        }
        // The store will take it away, and what it runs is stopped then.
        if self.is_orphan(number) {
            return None;
        }
        let shape = record.shape.clone();
        let owned = self.set_of(number);
        if let Some(set) = owned {
            self.stranded.insert(number);
            self.agenda.look_at(Item::Set(set));
            return None;
        }
        match self.has_candidates(&shape) {
            true => {
                self.stranded.remove(&number);
                self.leave(number);
                self.finish_leaving(number);
            }
            false => {
                self.stranded.insert(number);
            }
        }
        None
    }

    fn advance_there(&mut self, number: u32) -> Option<Duration> {
        self.stranded.remove(&number);
        let record = self.workloads.get(number)?;
        match record.phase {
            Phase::Waiting | Phase::Leaving | Phase::Completed => None,
            Phase::Bound => {
                if self.is_noted(number)
                    && let Some(record) = self.workloads.get_mut(number)
                {
                    record.phase = Phase::Starting;
                    return self.contact(number);
                }
                None
            }
            Phase::Starting | Phase::Accepted | Phase::Running => self.contact(number),
            Phase::Failed { .. } => self.advance_failed(number),
        }
    }

    /// One that belongs to nobody tries again after a pause, under another id; sets replace theirs.
    fn advance_failed(&mut self, number: u32) -> Option<Duration> {
        let record = self.workloads.get(number)?;
        if record.owner.is_some() {
            return None;
        }
        if !record.backoff.is_over(self.now) {
            return Some(record.backoff.next_at);
        }
        self.leave(number);
        self.finish_leaving(number);
        None
    }

    /// Whether its object wants something else than what was placed.
    fn is_outdated(&self, number: u32) -> bool {
        let Some(record) = self.workloads.get(number) else {
            return false;
        };
        let (Some(object), Some(place)) = (&record.kept.object, &record.place) else {
            return false;
        };
        let same = place
            .content
            .as_ref()
            .is_some_and(|content| content.spec == object.spec);
        let drained = self
            .fleet
            .get(place.host)
            .is_some_and(|host| host.drained_since.is_some());
        let newer = object.metadata.generation > place.generation && !same;
        record.phase != Phase::Leaving && (newer || (drained && self.has_other_host(number)))
    }

    /// Whether there is a host for it; a draining one never counts.
    fn has_other_host(&self, number: u32) -> bool {
        let Some(record) = self.workloads.get(number) else {
            return false;
        };
        crate::core::placement::fits_anywhere(&record.shape, &self.fleet, self.now)
    }

    /// Begins to leave a host, for another id elsewhere.
    fn leave(&mut self, number: u32) {
        let item = Item::Workload(number);
        self.uncount(number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let may_run = record.may_run();
        record.phase = Phase::Leaving;
        let at = record.contact.stop_after();
        if let Some(place) = record.place.as_mut().filter(|_| may_run) {
            place.stop_wanted = true;
            let (host, id) = (place.host, place.id.clone());
            self.want_stop(host, &id, Some(item), at);
        }
    }

    fn finish_leaving(&mut self, number: u32) {
        let Some(record) = self.workloads.get(number) else {
            return;
        };
        let Some(place) = &record.place else {
            return;
        };
        let host = place.host;
        if self.is_stop_held(host, &place.id) {
            return;
        }
        if let Some(record) = self.workloads.get_mut(number) {
            record.place = None;
            record.lives += 1;
            record.phase = Phase::Waiting;
            record.contact = super::Contact::default();
        }
        self.look_at_object_of(host);
        self.agenda.look_at(Item::Workload(number));
    }

    /// The object is deleted: once its id is gone from its host, so is what holds the object.
    fn let_go(&mut self, number: u32) {
        self.uncount(number);
        self.waiting.remove(&number);
        self.stranded.remove(&number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let (may_run, at) = (record.may_run(), record.contact.stop_after());
        let Some(place) = &mut record.place else {
            return;
        };
        let (host, id) = (place.host, place.id.clone());
        if may_run && !place.stop_wanted {
            place.stop_wanted = true;
            self.want_stop(host, &id, Some(Item::Workload(number)), at);
        }
        if !self.is_stop_held(host, &id)
            && let Some(record) = self.workloads.get_mut(number)
        {
            record.place = None;
            record.phase = Phase::Waiting;
            self.look_at_object_of(host);
        }
    }

    /// Its host's process has ended, and the next one has the same id: no fault of the workload, nor of the host.
    pub(in crate::core) fn vanish(&mut self, number: u32) {
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let there = matches!(
            record.phase,
            Phase::Starting | Phase::Accepted | Phase::Running
        );
        if there && record.may_run() {
            record.phase = Phase::Failed { gone: true };
            record.message = "its host has begun anew".to_owned();
            self.workload_changed(number);
        }
    }

    /// It does not run and will not by itself.
    pub(in crate::core) fn fail(&mut self, number: u32, gone: bool, message: String) {
        let (now, timings) = (self.now, self.options.timings);
        let set = self.set_of(number);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        if record.is_failed() {
            return;
        }
        record.phase = Phase::Failed { gone };
        record.message.clone_from(&message);
        let Some(host) = record.place.as_ref().map(|place| place.host) else {
            return;
        };
        record.avoided.insert(host, now + AVOID);
        record.avoided.retain(|_, until| *until > now);
        record.backoff.failed(now, &timings);
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        if let Some(record) = set.and_then(|set| self.sets.get_mut(set)) {
            record.backoff.failed(now, &timings);
            record.avoided.insert(host, now + AVOID);
            record.avoided.retain(|_, until| *until > now);
        }
        self.warn(key, uid, "Failed", message);
        self.workload_changed(number);
    }

    /// It is to be looked at again, and so is what counts it.
    pub(in crate::core) fn workload_changed(&mut self, number: u32) {
        self.agenda.look_at(Item::Workload(number));
        if let Some(set) = self.set_of(number) {
            self.agenda.look_by(Item::Set(set), self.now + DEBOUNCE);
        }
    }
}

/// Which life of a workload an id belongs to.
fn lives_of(uid: &str, id: &str) -> Option<u32> {
    match id.strip_prefix(uid)?.strip_prefix('-') {
        Some(lives) => lives.parse().ok(),
        None => Some(0),
    }
}
