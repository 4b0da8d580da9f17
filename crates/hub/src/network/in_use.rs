//! What a load needs is not removed by a cleaning process, from its first byte to the reference that keeps it.
//!
//! Each load holds a lock of its own in the repo's directory of locks, whose name begins with `load-`, and takes it while it holds
//! the *gate*, another lock. Whoever removes something holds the gate from looking for such locks until it is done.

use super::{
    folder::Folder,
    lock::{self, Guard, Patience},
    retry::random_number,
};
use crate::{HubError, Locking};

/// The lock that loads hold while they begin, and cleaning while it removes.
const GATE: &str = "gate";
/// Beginning of the names of the locks of loads.
const LOAD: &str = "load-";
/// Entries of a directory of locks that are looked at.
const ENTRIES: usize = 1_000_000;

/// Keeps the contents of a repo in the cache until it is dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    locks: Folder,
    stem: String,
    _guard: Guard,
}

impl InUse {
    /// Begins a load, after waiting for whoever removes something.
    pub(crate) fn begin(locks: Folder, locking: Locking, patience: &mut Patience<'_>) -> Result<Self, HubError> {
        let stem = format!("{LOAD}{:x}-{:x}", std::process::id(), random_number());
        let _gate = lock::acquire(&locks, GATE, locking, patience)?;
        let guard = lock::acquire(&locks, &stem, locking, &mut || Err(HubError::Stopped))?;
        Ok(Self { locks, stem, _guard: guard })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // While it is still held, so that nobody takes it in between.
        let _ = self.locks.remove_file(&format!("{}.lock", self.stem));
    }
}

/// Keeps loads of a repo from beginning, until it is dropped; `None` if one is going on.
pub(crate) fn hold_off_loads(
    locks: &Folder,
    locking: Locking,
    patience: &mut Patience<'_>,
) -> Result<Option<Guard>, HubError> {
    let gate = lock::acquire(locks, GATE, locking, patience)?;
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
    fn nothing_is_removed_while_a_load_goes_on_and_none_begins_while_something_is() {
        for locking in [Locking::Probe, Locking::Leases] {
            let directory = tempfile::tempdir().unwrap();
            let locks = Folder::create_root(directory.path()).unwrap();
            let begin = || InUse::begin(locks.try_clone().unwrap(), locking, &mut || Err(HubError::Stopped));
            let hold_off = || hold_off_loads(&locks, locking, &mut || Err(HubError::Stopped)).unwrap();
            let (first, second) = (begin().unwrap(), begin().unwrap());
            assert!(hold_off().is_none());
            drop(first);
            assert!(hold_off().is_none());
            drop(second);
            let gate = hold_off().unwrap();
            assert!(matches!(begin(), Err(HubError::Stopped)));
            drop(gate);
            drop(begin().unwrap());
            let left: Vec<_> = locks.entries(9).unwrap().into_iter().map(|(name, _)| name).collect();
            assert!(left.iter().all(|name| !name.starts_with(LOAD)), "{left:?}");
        }
    }
}
