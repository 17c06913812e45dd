//! The keys of one namespace in memory, and their size.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::KeyResponse;

/// Limit of one namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64 << 20;

/// Limit of all namespaces together, in bytes, because they are in host memory.
pub const MAX_TOTAL_BYTES: usize = 256 << 20;

/// Size that counts for each key in addition to the key and its value: about the memory of its
/// entries in the maps.
const KEY_OVERHEAD_BYTES: usize = 256;

/// Limit of the name of a bucket and of a key, in bytes: more than any other store allows.
const MAX_NAME_BYTES: usize = 4096;

/// Limit of the values in one response of `get-many`, in bytes. They are copied for the response,
/// so a list that repeats one key could take all memory.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Limit of keys in one response of `list-keys`. The cursor continues the list.
const MAX_LISTED_KEYS: usize = 1000;

/// Bytes in all namespaces.
pub type TotalBytes = Arc<AtomicUsize>;

/// Reason why a store cannot do what the guest wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The namespace is full.
    #[error("the namespace is full: it may have {MAX_NAMESPACE_BYTES} bytes")]
    NamespaceFull,
    /// All namespaces together are full.
    #[error("the host is full: its namespaces may have {MAX_TOTAL_BYTES} bytes together")]
    HostFull,
    /// A bucket or key has a long name.
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    LongName,
    /// The values do not fit into a response.
    #[error("the values have more than {MAX_RESPONSE_BYTES} bytes together; get fewer at once")]
    LargeResponse,
    /// The value to increment is not a number.
    #[error("the value is not a number")]
    NotANumber,
    /// The incremented number is too large.
    #[error("the number overflows")]
    Overflow,
}

/// The buckets of one namespace.
pub struct Namespace {
    buckets: HashMap<String, Bucket>,
    used_bytes: usize,
    total_bytes: TotalBytes,
    latest_number: u64,
}

/// The keys of one bucket, each with a number that grows with each new key. Lists are in the order
/// of the numbers, so that their cursor stays valid when keys are deleted.
#[derive(Default)]
struct Bucket {
    entries: HashMap<Arc<str>, (u64, Vec<u8>)>,
    keys: BTreeMap<u64, Arc<str>>,
}

/// Checks the length of the name of a bucket or key.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    if name.len() > MAX_NAME_BYTES {
        Err(StoreError::LongName)
    } else {
        Ok(())
    }
}

impl Namespace {
    pub fn new(total_bytes: TotalBytes) -> Self {
        Self {
            buckets: HashMap::new(),
            used_bytes: 0,
            total_bytes,
            latest_number: 0,
        }
    }

    pub fn value(&self, bucket: &str, key: &str) -> Option<&Vec<u8>> {
        let entry = self.buckets.get(bucket)?.entries.get(key);
        entry.map(|(_, value)| value)
    }

    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.value(bucket, key).cloned()
    }

    pub fn get_many(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let found = keys.iter().filter_map(|key| self.value(bucket, key));
        let bytes = found.fold(0, |sum: usize, value| sum.saturating_add(value.len()));
        if bytes > MAX_RESPONSE_BYTES {
            return Err(StoreError::LargeResponse);
        }
        let pair = |key: String| self.get(bucket, &key).map(|value| (key, value));
        Ok(keys.into_iter().filter_map(pair).collect())
    }

    pub fn set(&mut self, bucket: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check_name(key)?;
        let size = KEY_OVERHEAD_BYTES + bucket.len() + key.len() + value.len();
        self.resize(self.size_of(bucket, key), size)?;
        let bucket = self.buckets.entry(bucket.to_owned()).or_default();
        if let Some((_, old)) = bucket.entries.get_mut(key) {
            value.clone_into(old);
            return Ok(());
        }
        self.latest_number += 1;
        let key: Arc<str> = key.into();
        bucket.keys.insert(self.latest_number, key.clone());
        bucket
            .entries
            .insert(key, (self.latest_number, value.to_vec()));
        Ok(())
    }

    pub fn delete(&mut self, bucket: &str, key: &str) {
        let size = self.size_of(bucket, key);
        let Some(entries) = self.buckets.get_mut(bucket) else {
            return;
        };
        if let Some((number, _)) = entries.entries.remove(key) {
            entries.keys.remove(&number);
        }
        if entries.entries.is_empty() {
            self.buckets.remove(bucket);
        }
        self.release(size);
    }

    /// Returns keys in the order in which they were first set, from the cursor's position.
    pub fn list(&self, bucket: &str, cursor: Option<u64>) -> KeyResponse {
        let Some(bucket) = self.buckets.get(bucket) else {
            return KeyResponse {
                keys: Vec::new(),
                cursor: None,
            };
        };
        let mut rest = bucket.keys.range(cursor.unwrap_or(0)..);
        let keys = rest.by_ref().take(MAX_LISTED_KEYS);
        KeyResponse {
            keys: keys.map(|(_, key)| key.to_string()).collect(),
            cursor: rest.next().map(|(number, _)| *number),
        }
    }

    /// Adds to a number that is stored as decimal text. A missing number counts as 0.
    pub fn increment(&mut self, bucket: &str, key: &str, delta: u64) -> Result<u64, StoreError> {
        let old = match self.value(bucket, key) {
            None => 0,
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(StoreError::NotANumber)?,
        };
        let new = old.checked_add(delta).ok_or(StoreError::Overflow)?;
        self.set(bucket, key, new.to_string().as_bytes())?;
        Ok(new)
    }

    /// Counts `new` bytes instead of `old` ones, if they fit.
    fn resize(&mut self, old: usize, new: usize) -> Result<(), StoreError> {
        let added = new.saturating_sub(old);
        if self.used_bytes.saturating_add(added) > MAX_NAMESPACE_BYTES {
            return Err(StoreError::NamespaceFull);
        }
        let total = self.total_bytes.fetch_add(added, Ordering::Relaxed);
        if total.saturating_add(added) > MAX_TOTAL_BYTES {
            self.total_bytes.fetch_sub(added, Ordering::Relaxed);
            return Err(StoreError::HostFull);
        }
        self.used_bytes += added;
        self.release(old.saturating_sub(new));
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.used_bytes -= bytes;
        self.total_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn size_of(&self, bucket: &str, key: &str) -> usize {
        self.value(bucket, key).map_or(0, |value| {
            KEY_OVERHEAD_BYTES + bucket.len() + key.len() + value.len()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.release(self.used_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace::new(TotalBytes::default())
    }

    #[test]
    fn returns_set_values_until_deleted() {
        let mut namespace = namespace();
        namespace.set("a", "key", b"one").unwrap();
        namespace.set("a", "key", b"two!").unwrap();
        assert_eq!(namespace.get("a", "key"), Some(b"two!".to_vec()));
        assert_eq!(namespace.get("b", "key"), None);
        assert_eq!(namespace.used_bytes, KEY_OVERHEAD_BYTES + 8);
        namespace.set("a", "key", b"").unwrap();
        namespace.delete("a", "key");
        namespace.delete("a", "key");
        assert_eq!(namespace.get("a", "key"), None);
        assert_eq!(namespace.used_bytes, 0);
        assert!(namespace.buckets.is_empty());
    }

    #[test]
    fn rejects_values_when_the_namespace_is_full() {
        let mut namespace = namespace();
        let big = vec![0; MAX_NAMESPACE_BYTES - KEY_OVERHEAD_BYTES - 2];
        namespace.set("a", "k", &big).unwrap();
        let full = Err(StoreError::NamespaceFull);
        assert_eq!(namespace.set("b", "l", b""), full);
        namespace.set("a", "k", &big).unwrap();
        namespace.delete("a", "k");
        namespace.set("b", "l", b"").unwrap();
    }

    #[test]
    fn empty_values_and_names_count() {
        let mut namespace = namespace();
        let mut stored = 0;
        while namespace.set("a", &format!("{stored:03000}"), b"").is_ok() {
            stored += 1;
        }
        assert!(stored * 3000 < MAX_NAMESPACE_BYTES);
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(namespace.set("a", &long, b""), Err(StoreError::LongName));
        assert_eq!(check_name(&long), Err(StoreError::LongName));
    }

    #[test]
    fn responses_do_not_multiply_memory() {
        let mut namespace = namespace();
        namespace
            .set("a", "k", &vec![0; MAX_RESPONSE_BYTES / 2])
            .unwrap();
        let keys = |count| vec!["k".to_owned(); count];
        assert_eq!(namespace.get_many("a", keys(2)).unwrap().len(), 2);
        let many = namespace.get_many("a", keys(1000));
        assert_eq!(many, Err(StoreError::LargeResponse));
    }

    #[test]
    fn lists_keys_in_pages_that_deletions_do_not_shift() {
        let mut namespace = namespace();
        for n in 0..MAX_LISTED_KEYS + 5 {
            namespace.set("a", &format!("{n:06}"), b"").unwrap();
        }
        let first = namespace.list("a", None);
        assert_eq!(first.keys.len(), MAX_LISTED_KEYS);
        for key in &first.keys {
            namespace.delete("a", key);
        }
        let rest = namespace.list("a", first.cursor);
        assert_eq!((rest.keys.len(), rest.cursor), (5, None));
        assert_eq!(namespace.list("nothing", None).keys.len(), 0);
    }

    #[test]
    fn increments_numbers() {
        let mut namespace = namespace();
        assert_eq!(namespace.increment("a", "n", 2), Ok(2));
        assert_eq!(namespace.increment("a", "n", 3), Ok(5));
        assert_eq!(namespace.get("a", "n"), Some(b"5".to_vec()));
        let overflow = namespace.increment("a", "n", u64::MAX);
        assert_eq!(overflow, Err(StoreError::Overflow));
        namespace.set("a", "text", b"x").unwrap();
        let text = namespace.increment("a", "text", 1);
        assert_eq!(text, Err(StoreError::NotANumber));
    }
}
