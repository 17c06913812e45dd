//! Records by number, and numbers by name.

use std::collections::BTreeMap;

use crate::api::Key;

/// Records of one kind. A number stands for one record as long as that exists, and may later stand for
/// another: whoever keeps a number checks what it finds.
#[derive(Debug)]
pub(super) struct Table<T> {
    rows: Vec<Option<Box<T>>>,
    by_key: BTreeMap<Key, u32>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            by_key: BTreeMap::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    pub fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_deref_mut()
    }

    pub fn number(&self, key: &Key) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Files a record under a name that is free.
    pub fn insert(&mut self, key: Key, record: T) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(row) = self.rows.get_mut(number as usize) {
            *row = Some(Box::new(record));
        }
        self.by_key.insert(key, number);
        number
    }

    pub fn remove(&mut self, key: &Key) -> Option<T> {
        let number = self.by_key.remove(key)?;
        let record = self.rows.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(*record)
    }

    /// All records by name.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbers = self.by_key.values();
        numbers.filter_map(|number| Some((*number, self.get(*number)?)))
    }
}
