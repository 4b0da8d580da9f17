//! Locks: one process at a time for each blob. File locks of the system, which `huggingface_hub` uses on the same files, or lease
//! files where such locks do not work.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{folder::Folder, retry::random_number};
use crate::{HubError, Locking};

/// Called each time a lock is found held; an error ends the waiting.
pub(crate) type OnWait<'a> = dyn FnMut() -> Result<(), HubError> + 'a;

/// Pause between two attempts to acquire a lock.
const POLL: Duration = Duration::from_millis(50);
/// Interval at which the holder of a lease renews it.
const RENEWAL: Duration = Duration::from_secs(2);
/// A lease that was not renewed for this long belongs to a dead process.
const EXPIRY: Duration = Duration::from_secs(10);
/// Maximum bytes of a lease.
const LEASE_BYTES: u64 = 256;

/// Holds a lock until it is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct Guard {
    _held: Held,
}

#[derive(Debug)]
enum Held {
    /// The system releases the lock when the file is closed.
    File(#[allow(dead_code, reason = "kept open, not read")] File),
    Lease(#[allow(dead_code, reason = "its drop releases the lease")] Lease),
}

/// Extension of lock files.
const LOCK: &str = ".lock";
/// Extension of leases, which replace the lock file with the same stem.
const LEASE: &str = ".lease";

/// Acquires the lock `STEM.lock` in `folder`.
pub(crate) fn acquire(
    folder: &Folder,
    stem: &str,
    locking: Locking,
    on_wait: &mut OnWait<'_>,
) -> Result<Guard, HubError> {
    if locking == Locking::Probe && locks_hold(folder) {
        match acquire_file(folder, &format!("{stem}{LOCK}"), on_wait) {
            Err(HubError::Unwritable { source, .. }) if is_unsupported(&source) => {}
            result => return result.map(|file| Guard { _held: Held::File(file) }),
        }
    }
    let folder = folder.try_clone().map_err(|source| unwritable(folder, stem, source))?;
    let lease = Lease::acquire(folder, format!("{stem}{LEASE}"), RENEWAL, EXPIRY, on_wait)?;
    Ok(Guard { _held: Held::Lease(lease) })
}

/// Whether a live process holds the lock or the lease called `name`. Those of dead processes are removed. For a lease this waits until
/// it was renewed or has expired.
pub(crate) fn is_held(folder: &Folder, name: &str) -> Result<bool, HubError> {
    is_held_for(folder, name, EXPIRY).map_err(|source| unwritable(folder, name, source))
}

fn is_held_for(folder: &Folder, name: &str, expiry: Duration) -> io::Result<bool> {
    if name.ends_with(LOCK) {
        let file = folder.open_or_create(name)?;
        return match file.try_lock() {
            Ok(()) => folder.remove_file(name).map(|_| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        };
    }
    let (Some(first), start) = (read(folder, name), Instant::now()) else { return Ok(false) };
    while start.elapsed() < expiry {
        thread::sleep(POLL.min(expiry));
        match read(folder, name) {
            Some(now) if now == first => {}
            now => return Ok(now.is_some()),
        }
    }
    remove_expired(folder, name, &first);
    Ok(false)
}

fn unwritable(folder: &Folder, name: &str, source: io::Error) -> HubError {
    HubError::Unwritable { path: folder.path().join(name), source }
}

fn acquire_file(folder: &Folder, name: &str, on_wait: &mut OnWait<'_>) -> Result<File, HubError> {
    loop {
        let file = folder.open_or_create(name).map_err(|source| unwritable(folder, name, source))?;
        match file.try_lock() {
            // The file may have been removed meanwhile: a lock on it would exclude nobody.
            Ok(()) if folder.is_called(&file, name) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait()?;
                thread::sleep(POLL);
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(folder, name, source)),
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    // ENOLCK on Linux: network file systems without a lock service return this.
    error.kind() == io::ErrorKind::Unsupported || (cfg!(target_os = "linux") && error.raw_os_error() == Some(37))
}

/// Whether a lock in the directory excludes a second one. Probed once for each directory.
fn locks_hold(folder: &Folder) -> bool {
    static KNOWN: Mutex<Option<HashMap<PathBuf, bool>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    *known.entry(folder.path().to_owned()).or_insert_with(|| probe(folder))
}

/// Locks a file twice. The second lock must be refused: some network file systems grant every lock.
fn probe(folder: &Folder) -> bool {
    let name = format!(".probe-{:x}-{:x}", std::process::id(), random_number());
    let holds = || -> io::Result<bool> {
        let (first, second) = (folder.open_or_create(&name)?, folder.open_or_create(&name)?);
        Ok(first.try_lock().is_ok() && matches!(second.try_lock(), Err(TryLockError::WouldBlock)))
    };
    let holds = holds();
    let _ = folder.remove_file(&name);
    // An unwritable directory gives a better error later.
    holds.unwrap_or(true)
}

/// A file that exists while its live holder renews it.
#[derive(Debug)]
struct Lease {
    folder: Folder,
    name: String,
    text: String,
    lost: Arc<AtomicBool>,
    renewal: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn acquire(
        folder: Folder,
        name: String,
        every: Duration,
        expiry: Duration,
        on_wait: &mut OnWait<'_>,
    ) -> Result<Self, HubError> {
        let text = format!("{:x} {:016x}", std::process::id(), random_number());
        // The text of the lease and since when it is unchanged, by this machine's clock alone.
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match create(&folder, &name, &renewed(&text, 0)) {
                Ok(()) => return Self::hold(folder, name, text, every),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(unwritable(&folder, &name, source)),
            }
            let now = read(&folder, &name).unwrap_or_default();
            match &seen {
                Some((before, since)) if *before == now => {
                    if since.elapsed() >= expiry {
                        remove_expired(&folder, &name, &now);
                        seen = None;
                        continue;
                    }
                }
                _ => seen = Some((now, Instant::now())),
            }
            on_wait()?;
            thread::sleep(POLL.min(every));
        }
    }

    fn hold(folder: Folder, name: String, text: String, every: Duration) -> Result<Self, HubError> {
        let renewing = folder.try_clone().map_err(|source| unwritable(&folder, &name, source))?;
        let (sender, receiver) = mpsc::channel();
        let lost = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (folder, name, text, lost) = (renewing, name.clone(), text.clone(), Arc::clone(&lost));
            move || {
                let mut number = 0_u64;
                while receiver.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                    number += 1;
                    // A process that considered this one dead holds the lease now.
                    if read(&folder, &name).is_none_or(|now| !now.starts_with(&text)) {
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    let _ = folder.replace(&name, renewed(&text, number).as_bytes());
                }
            }
        });
        Ok(Self { folder, name, text, lost, renewal: Some((sender, thread)) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.renewal.take() {
            drop(sender);
            let _ = thread.join();
        }
        let is_own = || read(&self.folder, &self.name).is_some_and(|now| now.starts_with(&self.text));
        if !self.lost.load(Ordering::Relaxed) && is_own() {
            let _ = self.folder.remove_file(&self.name);
        }
    }
}

/// The text of a lease after `number` renewals.
fn renewed(text: &str, number: u64) -> String {
    format!("{text} {number}\n")
}

fn create(folder: &Folder, name: &str, text: &str) -> io::Result<()> {
    folder.create_new(name)?.write_all(text.as_bytes())
}

/// The text of a lease; `None` if it does not exist.
fn read(folder: &Folder, name: &str) -> Option<String> {
    String::from_utf8(folder.read(name, LEASE_BYTES).ok()?).ok()
}

/// Removes a lease with the text `expired`. Of several processes that try, one moves it away; if it finds that it moved a renewed one, it
/// restores that unless there is another by now.
fn remove_expired(folder: &Folder, name: &str, expired: &str) {
    let away = format!("{name}.expired-{:x}", random_number());
    if folder.rename(name, &away).is_err() {
        return;
    }
    if read(folder, &away).is_some_and(|text| text != expired) {
        let _ = folder.hard_link(&away, name);
    }
    let _ = folder.remove_file(&away);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn directory() -> (TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::create_root(directory.path()).unwrap();
        (directory, folder)
    }

    const EVERY: Duration = Duration::from_millis(20);
    const EXPIRY: Duration = Duration::from_millis(400);

    fn stop_after(mut times: u32) -> impl FnMut() -> Result<(), HubError> {
        move || {
            times = times.checked_sub(1).ok_or(HubError::Cancelled)?;
            Ok(())
        }
    }

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let (_directory, folder) = directory();
        for locking in [Locking::Probe, Locking::Leases] {
            let guard = acquire(&folder, "x", locking, &mut stop_after(0)).unwrap();
            assert!(matches!(acquire(&folder, "x", locking, &mut stop_after(2)), Err(HubError::Cancelled)));
            drop(guard);
            assert!(acquire(&folder, "x", locking, &mut stop_after(0)).is_ok());
        }
    }

    #[test]
    fn a_removed_lock_file_is_not_a_lock() {
        let (directory, folder) = directory();
        let _orphan = acquire(&folder, "x", Locking::Probe, &mut stop_after(0)).unwrap();
        if fs::remove_file(directory.path().join("x.lock")).is_ok() {
            let _guard = acquire(&folder, "x", Locking::Probe, &mut stop_after(0)).unwrap();
            assert!(acquire(&folder, "x", Locking::Probe, &mut stop_after(1)).is_err());
        }
    }

    #[test]
    fn held_locks_are_detected_and_those_of_dead_processes_removed() {
        let (directory, folder) = directory();
        let guard = acquire(&folder, "x", Locking::Probe, &mut stop_after(0)).unwrap();
        assert!(is_held_for(&folder, "x.lock", EXPIRY).unwrap());
        drop(guard);
        assert!(!is_held_for(&folder, "x.lock", EXPIRY).unwrap() && !directory.path().join("x.lock").exists());

        let lease =
            Lease::acquire(folder.try_clone().unwrap(), "x.lease".to_owned(), EVERY, EXPIRY, &mut stop_after(0));
        assert!(is_held_for(&folder, "x.lease", EXPIRY).unwrap());
        drop(lease.unwrap());
        fs::write(directory.path().join("x.lease"), "1 dead 0\n").unwrap();
        assert!(!is_held_for(&folder, "x.lease", EXPIRY).unwrap() && !directory.path().join("x.lease").exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_lock_file_is_not_made_through_a_link() {
        let (directory, folder) = directory();
        let outside = tempfile::tempdir().unwrap();
        for name in ["x.lock", "x.lease"] {
            std::os::unix::fs::symlink(outside.path().join("made"), directory.path().join(name)).unwrap();
        }
        for locking in [Locking::Probe, Locking::Leases] {
            assert!(acquire(&folder, "x", locking, &mut stop_after(0)).is_err(), "{locking:?}");
        }
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_lease_that_is_not_renewed_expires() {
        let (directory, folder) = directory();
        let path = directory.path().join("x.lease");
        fs::write(&path, "1 dead 0\n").unwrap();
        let start = Instant::now();
        let acquire = |on_wait: &mut OnWait<'_>| {
            Lease::acquire(folder.try_clone().unwrap(), "x.lease".to_owned(), EVERY, EXPIRY, on_wait)
        };
        let lease = acquire(&mut stop_after(1000)).unwrap();
        assert!(start.elapsed() >= EXPIRY);
        // A lease that is renewed does not.
        assert!(acquire(&mut stop_after(60)).is_err(), "held for longer than it takes to expire");
        drop(lease);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_threads_one_holds_the_lease() {
        let (directory, folder) = directory();
        fs::write(directory.path().join("x.lease"), "1 dead 0\n").unwrap();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let folder = folder.try_clone().unwrap();
                    let lease =
                        Lease::acquire(folder, "x.lease".to_owned(), EVERY, EXPIRY, &mut stop_after(1000)).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two hold it");
                    thread::sleep(EVERY);
                    inside.store(false, Ordering::SeqCst);
                    drop(lease);
                });
            }
        });
    }
}
