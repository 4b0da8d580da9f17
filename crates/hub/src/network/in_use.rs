//! Protects the files of a load from pruning, from its first byte until its ref is written.
//!
//! Each load holds its own lock `load-*` in the repo's directory of locks, and acquires it while it holds the *gate*, another lock. A
//! process that removes something holds the gate from checking for such locks until it is done.

use super::{
    folder::Folder,
    lock::{self, Guard, OnWait},
    retry::random_number,
};
use crate::{HubError, Locking};

/// The lock that loads hold while they begin, and pruning while it removes.
const GATE: &str = "gate";
/// Prefix of the names of load locks.
const LOAD: &str = "load-";
/// Maximum of entries of a directory of locks.
const ENTRIES: usize = 1_000_000;

/// Protects the contents of a repo in the cache until it is dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    locks: Folder,
    stem: String,
    _guard: Guard,
}

impl InUse {
    /// Begins a load, after waiting for processes that remove something.
    pub(crate) fn begin(locks: Folder, locking: Locking, on_wait: &mut OnWait<'_>) -> Result<Self, HubError> {
        let stem = format!("{LOAD}{:x}-{:x}", std::process::id(), random_number());
        let _gate = lock::acquire(&locks, GATE, locking, on_wait)?;
        let guard = lock::acquire(&locks, &stem, locking, &mut || Err(HubError::Cancelled))?;
        Ok(Self { locks, stem, _guard: guard })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Removed while it is still held, so that no process acquires it in between.
        let _ = self.locks.remove_file(&format!("{}.lock", self.stem));
    }
}

/// Blocks new loads of a repo until the guard is dropped; `None` if a load is in progress.
pub(crate) fn block_loads(
    locks: &Folder,
    locking: Locking,
    on_wait: &mut OnWait<'_>,
) -> Result<Option<Guard>, HubError> {
    let gate = lock::acquire(locks, GATE, locking, on_wait)?;
    let unreadable = |source| HubError::Unreadable { path: locks.path().to_owned(), source };
    for (name, _) in locks.entries(ENTRIES).map_err(unreadable)? {
        let is_of_a_load = name.starts_with(LOAD) && (name.ends_with(".lock") || name.ends_with(".lease"));
        if is_of_a_load && lock::is_held(locks, &name)? {
            return Ok(None);
        }
    }
    Ok(Some(gate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_and_removal_exclude_each_other() {
        for locking in [Locking::Probe, Locking::Leases] {
            let directory = tempfile::tempdir().unwrap();
            let locks = Folder::create_root(directory.path()).unwrap();
            let begin = || InUse::begin(locks.try_clone().unwrap(), locking, &mut || Err(HubError::Cancelled));
            let hold_off = || block_loads(&locks, locking, &mut || Err(HubError::Cancelled)).unwrap();
            let (first, second) = (begin().unwrap(), begin().unwrap());
            assert!(hold_off().is_none());
            drop(first);
            assert!(hold_off().is_none());
            drop(second);
            let gate = hold_off().unwrap();
            assert!(matches!(begin(), Err(HubError::Cancelled)));
            drop(gate);
            drop(begin().unwrap());
            let left: Vec<_> = locks.entries(9).unwrap().into_iter().map(|(name, _)| name).collect();
            assert!(left.iter().all(|name| !name.starts_with(LOAD)), "{left:?}");
        }
    }
}
