//! One process at a time for each blob: locks of the system, which `huggingface_hub` takes on the same files, or lease files
//! where such locks do not hold.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::retry::random_number;
use crate::{HubError, Locking};

/// Called each time a lock was found taken; an error ends the waiting.
pub(crate) type Patience<'a> = dyn FnMut() -> Result<(), HubError> + 'a;

/// Pause between two attempts to take a lock.
const POLL: Duration = Duration::from_millis(50);
/// How often the holder of a lease renews it.
const RENEWAL: Duration = Duration::from_secs(2);
/// A lease that was not renewed for so long is that of a dead process.
const EXPIRY: Duration = Duration::from_secs(10);
/// Bytes of a lease that are read.
const LEASE_BYTES: u64 = 256;

/// Holds a lock until it is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct Guard {
    _held: Held,
}

#[derive(Debug)]
enum Held {
    /// The system frees the lock when the file is closed.
    File(#[allow(dead_code, reason = "kept open, not read")] File),
    Lease(#[allow(dead_code, reason = "its drop gives the lease back")] Lease),
}

/// Takes the lock at `path`.
pub(crate) fn acquire(path: &Path, locking: Locking, patience: &mut Patience<'_>) -> Result<Guard, HubError> {
    if locking == Locking::Probe && locks_hold(path) {
        match acquire_file(path, patience) {
            Err(HubError::Unwritable { source, .. }) if is_unsupported(&source) => {}
            result => return result.map(|file| Guard { _held: Held::File(file) }),
        }
    }
    let lease = Lease::acquire(path.with_extension("lease"), RENEWAL, EXPIRY, patience)?;
    Ok(Guard { _held: Held::Lease(lease) })
}

fn acquire_file(path: &Path, patience: &mut Patience<'_>) -> Result<File, HubError> {
    let unwritable = |source| HubError::Unwritable { path: path.to_owned(), source };
    loop {
        let file = open(path).map_err(unwritable)?;
        match file.try_lock() {
            // Someone may have removed the file in between: a lock on it would hold nobody off.
            Ok(()) if is_at(&file, path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                patience()?;
                thread::sleep(POLL);
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((&file.metadata(), &fs::metadata(path)), (Ok(open), Ok(named)) if identity(open) == identity(named))
}

/// Elsewhere open files cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

fn is_unsupported(error: &io::Error) -> bool {
    // ENOLCK on Linux: what network file systems without a lock service answer.
    error.kind() == io::ErrorKind::Unsupported || (cfg!(target_os = "linux") && error.raw_os_error() == Some(37))
}

/// Whether a lock in the directory of `path` keeps a second one off. Found out once for each directory.
fn locks_hold(path: &Path) -> bool {
    static KNOWN: Mutex<Option<HashMap<PathBuf, bool>>> = Mutex::new(None);
    let Some(directory) = path.parent() else { return false };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    *known.entry(directory.to_owned()).or_insert_with(|| probe(directory))
}

/// Locks a file twice. The second lock must be refused: some network file systems grant every one.
fn probe(directory: &Path) -> bool {
    let path = directory.join(format!(".probe-{:x}-{:x}", std::process::id(), random_number()));
    let holds = || -> io::Result<bool> {
        let (first, second) = (open(&path)?, open(&path)?);
        Ok(first.try_lock().is_ok() && matches!(second.try_lock(), Err(TryLockError::WouldBlock)))
    };
    let holds = holds();
    let _ = fs::remove_file(&path);
    // A directory that cannot be written gives a better error later.
    holds.unwrap_or(true)
}

/// A file that exists while its holder lives and renews it.
#[derive(Debug)]
struct Lease {
    path: PathBuf,
    text: String,
    lost: Arc<AtomicBool>,
    renewal: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn acquire(
        path: PathBuf,
        every: Duration,
        expiry: Duration,
        patience: &mut Patience<'_>,
    ) -> Result<Self, HubError> {
        let text = format!("{:x} {:016x}", std::process::id(), random_number());
        // What the lease says, and since when: the clock of another machine plays no part.
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match create(&path, &renewed(&text, 0)) {
                Ok(()) => return Ok(Self::hold(path, text, every)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(HubError::Unwritable { path, source }),
            }
            let now = read(&path).unwrap_or_default();
            match &seen {
                Some((before, since)) if *before == now => {
                    if since.elapsed() >= expiry {
                        remove_expired(&path, &now);
                        seen = None;
                        continue;
                    }
                }
                _ => seen = Some((now, Instant::now())),
            }
            patience()?;
            thread::sleep(POLL.min(every));
        }
    }

    fn hold(path: PathBuf, text: String, every: Duration) -> Self {
        let (sender, receiver) = mpsc::channel();
        let lost = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (path, text, lost) = (path.clone(), text.clone(), Arc::clone(&lost));
            move || {
                let mut number = 0_u64;
                while receiver.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                    number += 1;
                    // Whoever took this process for dead holds the lease now.
                    if read(&path).is_none_or(|now| !now.starts_with(&text)) {
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                    let _ = super::store::replace(&path, renewed(&text, number).as_bytes());
                }
            }
        });
        Self { path, text, lost, renewal: Some((sender, thread)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.renewal.take() {
            drop(sender);
            let _ = thread.join();
        }
        if !self.lost.load(Ordering::Relaxed) && read(&self.path).is_some_and(|now| now.starts_with(&self.text)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a lease says after so many renewals.
fn renewed(text: &str, number: u64) -> String {
    format!("{text} {number}\n")
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    File::create_new(path)?.write_all(text.as_bytes())
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LEASE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Removes a lease that says `expired`. Of several processes that try, one moves it away; should it find that it moved a fresh
/// one, it puts that back unless there is another by now.
fn remove_expired(path: &Path, expired: &str) {
    let away = path.with_extension(format!("expired-{:x}", random_number()));
    if fs::rename(path, &away).is_err() {
        return;
    }
    if read(&away).is_some_and(|text| text != expired) {
        let _ = fs::hard_link(&away, path);
    }
    let _ = fs::remove_file(&away);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(20);
    const EXPIRY: Duration = Duration::from_millis(400);

    fn stop_after(mut times: u32) -> impl FnMut() -> Result<(), HubError> {
        move || {
            times = times.checked_sub(1).ok_or(HubError::Stopped)?;
            Ok(())
        }
    }

    #[test]
    fn a_lock_keeps_others_off_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lock");
        for locking in [Locking::Probe, Locking::Leases] {
            let guard = acquire(&path, locking, &mut stop_after(0)).unwrap();
            assert!(matches!(acquire(&path, locking, &mut stop_after(2)), Err(HubError::Stopped)));
            drop(guard);
            assert!(acquire(&path, locking, &mut stop_after(0)).is_ok());
        }
    }

    #[test]
    fn a_removed_lock_file_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lock");
        let _orphan = acquire(&path, Locking::Probe, &mut stop_after(0)).unwrap();
        if fs::remove_file(&path).is_ok() {
            let _guard = acquire(&path, Locking::Probe, &mut stop_after(0)).unwrap();
            assert!(acquire(&path, Locking::Probe, &mut stop_after(1)).is_err());
        }
    }

    #[test]
    fn a_lease_that_nobody_renews_expires() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lease");
        fs::write(&path, "1 dead 0\n").unwrap();
        let start = Instant::now();
        let lease = Lease::acquire(path.clone(), EVERY, EXPIRY, &mut stop_after(1000)).unwrap();
        assert!(start.elapsed() >= EXPIRY);
        // A lease that is renewed does not.
        let mut other = stop_after(60);
        assert!(
            Lease::acquire(path.clone(), EVERY, EXPIRY, &mut other).is_err(),
            "held for longer than it takes to expire"
        );
        drop(lease);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_threads_one_holds_the_lease() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lease");
        fs::write(&path, "1 dead 0\n").unwrap();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let lease = Lease::acquire(path.clone(), EVERY, EXPIRY, &mut stop_after(1000)).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst), "two hold it");
                    thread::sleep(EVERY);
                    inside.store(false, Ordering::SeqCst);
                    drop(lease);
                });
            }
        });
    }
}
