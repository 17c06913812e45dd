//! Records by index, and indexes by key.

use std::collections::BTreeMap;

use crate::api::Key;

/// The records of one kind. An index identifies a record while the record exists and may be reused
/// afterwards: a holder of an index must check the record that it finds.
#[derive(Debug)]
pub(super) struct Arena<T> {
    slots: Vec<Option<Box<T>>>,
    by_key: BTreeMap<Key, u32>,
    free: Vec<u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            by_key: BTreeMap::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Arena<T> {
    pub fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub fn index(&self, key: &Key) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Inserts a record under an unused key and returns its index.
    pub fn insert(&mut self, key: Key, record: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Some(Box::new(record));
        }
        self.by_key.insert(key, index);
        index
    }

    pub fn remove(&mut self, key: &Key) -> Option<T> {
        let index = self.by_key.remove(key)?;
        let record = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(*record)
    }

    /// Iterates over all records in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let indexes = self.by_key.values();
        indexes.filter_map(|index| Some((*index, self.get(*index)?)))
    }
}
