//! The directory in which a checkpoint is written until it is whole.
//!
//! `.NAME.partial` beside the target `NAME` holds `lock`, held by the process that works there; `journal.json`, what it does;
//! `checkpoint`, which becomes the target; and, for a moment at the end, the checkpoint that was replaced: under the name
//! `checkpoint` where the system exchanges two names in one call, and elsewhere as `old`.
//!
//! The next process that writes to the same target finds what a killed one left there.

use super::{
    beside::write_json,
    target::{TEMPLATES, Target, in_the_way, is_empty},
};
use crate::LoadError;
use serde_json::{Value, json};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.json";
const NEW_JOURNAL: &str = "journal.json.new";
const STAGING: &str = "checkpoint";
const OLD: &str = "old";
/// A journal lists the names of all quantised tensors.
const MAX_JOURNAL_BYTES: u64 = 100_000_000;

/// A child process holds copies of all open files, and so their locks, from its creation until it executes its program: a lock that
/// was just released may seem held for that long.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

const FOREIGN: &str =
    "holds files that automodel did not write: choose another output directory, or remove them yourself";
const LINKED: &str =
    "is a link, and nothing is written through links there: remove it, or choose another output directory";
const OTHER_USER: &str = "belongs to another user: choose another output directory, or have it removed";

/// The state found at the target.
pub(crate) enum Opened {
    /// A place to work in, fresh or of an interrupted run.
    Ready(Place),
    /// The same run was interrupted after its result had appeared in this directory.
    Finished(PathBuf),
}

/// The place to work in. Dropped before it is committed, it is removed, unless it has settings by which a later run can know
/// that it may continue.
pub(crate) struct Place {
    root: PathBuf,
    staging: PathBuf,
    target: Target,
    settings: Option<Value>,
    /// Whether nothing is left to do for it.
    closed: bool,
    /// Held until the process ends or drops it.
    _lock: File,
}

impl Place {
    /// Opens the place for `target`. What an interrupted run left there stays if it had the same `settings`; without settings
    /// nothing does, and with `restart` only what has its name already.
    pub fn open(target: Target, settings: Option<Value>, restart: bool) -> Result<Opened, LoadError> {
        if !target.is_begun() {
            target.check()?;
            target.check_writable()?;
        }
        fs::create_dir_all(target.parent()).map_err(|source| LoadError::io("create", target.parent(), source))?;
        let root = target.place();
        make_root(&root)?;
        // Not even a lock is made beside what is somebody else's.
        check_own(&root)?;
        let lock = lock(&root)?;
        let staging = root.join(STAGING);
        // Closed until it is prepared: what is found may be another run's.
        Self { root, staging, target, settings, closed: true, _lock: lock }.prepare(restart)
    }

    /// Opens the place for `target`, without anything that an interrupted run left.
    pub fn fresh(target: Target) -> Result<Self, LoadError> {
        match Self::open(target, None, true)? {
            Opened::Ready(place) => Ok(place),
            // Only runs with settings are ever found finished.
            Opened::Finished(directory) => Err(LoadError::OutputBusy { directory }),
        }
    }

    /// Where the files of the new checkpoint go.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    fn prepare(mut self, restart: bool) -> Result<Opened, LoadError> {
        check_own(&self.root)?;
        let journal = self.read_journal();
        let settings = self.settings.as_ref();
        let same = settings.is_some() && journal.as_ref().map(|journal| &journal["settings"]) == settings;
        if same && journal.is_some_and(|journal| self.has_appeared(&journal["committing"])) {
            self.remove();
            return Ok(Opened::Finished(self.target.directory().to_owned()));
        }
        if !same || restart || !has_plain_files(&self.staging) {
            self.clear()?;
        }
        if let Err(error) = self.target.check() {
            if entries(&self.root).is_ok_and(|names| names.iter().all(|name| name == LOCK)) {
                self.remove();
            }
            return Err(error);
        }
        self.closed = false;
        self.write_journal(&Value::Bool(false))?;
        fs::create_dir_all(&self.staging).map_err(|source| LoadError::io("create", &self.staging, source))?;
        Ok(Opened::Ready(self))
    }

    /// Gives the new checkpoint its name. Whenever the process is killed, the name of a checkpoint that is replaced leads to it or
    /// to the new one. Where the system cannot exchange names, it leads nowhere for a moment; the next run that writes
    /// there gives it back.
    pub fn commit(mut self) -> Result<(), LoadError> {
        self.target.check()?;
        sync_directory(&self.staging);
        self.write_journal(&identity(&self.staging).map_or(Value::Bool(true), Value::String))?;
        self.give_name()?;
        sync_directory(self.target.parent());
        self.closed = true;
        self.remove();
        Ok(())
    }

    fn give_name(&self) -> Result<(), LoadError> {
        let (staging, target) = (self.staging.as_path(), self.target.directory());
        if target.exists() {
            if is_empty(target)? {
                // Unix replaces an empty directory; other systems do not.
                if !cfg!(unix) {
                    fs::remove_dir(target).map_err(|source| LoadError::io("replace", target, source))?;
                }
            } else if exchange(staging, target).map_err(|source| LoadError::io("replace", target, source))? {
                return Ok(());
            } else {
                let old = self.root.join(OLD);
                fs::rename(target, old).map_err(|source| LoadError::io("replace", target, source))?;
            }
        }
        fs::rename(staging, target).map_err(|source| {
            self.restore_old();
            LoadError::io("rename", staging, source)
        })
    }

    /// Removes all that this run made.
    pub fn discard(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.restore_old();
            self.remove();
        }
    }

    /// Whether the checkpoint that a journal was about to give its name has it.
    fn has_appeared(&self, committing: &Value) -> bool {
        match committing {
            Value::String(known) => identity(self.target.directory()).as_ref() == Some(known),
            Value::Bool(true) => !self.staging.exists() && self.target.directory().exists(),
            _ => false,
        }
    }

    fn read_journal(&self) -> Option<Value> {
        let path = self.root.join(JOURNAL);
        let small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_JOURNAL_BYTES);
        small.then(|| fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())).flatten()
    }

    fn write_journal(&self, committing: &Value) -> Result<(), LoadError> {
        let (new, journal) = (self.root.join(NEW_JOURNAL), self.root.join(JOURNAL));
        write_json(&new, &json!({ "settings": self.settings, "committing": committing }))?;
        fs::rename(&new, &journal).map_err(|source| LoadError::io("rename", &new, source))?;
        sync_directory(&self.root);
        Ok(())
    }

    /// Removes what another run left. The journal goes first: what is behind it then counts as nothing.
    fn clear(&self) -> Result<(), LoadError> {
        self.restore_old();
        for name in [JOURNAL, NEW_JOURNAL] {
            remove(&self.root.join(name), |path| fs::remove_file(path))?;
        }
        for name in [STAGING, OLD] {
            remove(&self.root.join(name), |path| fs::remove_dir_all(path))?;
        }
        Ok(())
    }

    /// Gives a checkpoint that was to be replaced its name back if nothing has taken its place.
    fn restore_old(&self) {
        let old = self.root.join(OLD);
        if old.exists() && !self.target.directory().exists() {
            let _ = fs::rename(&old, self.target.directory());
        }
    }

    /// Removes the place. What cannot be removed is in nobody's way: the next run finds it.
    fn remove(&self) {
        let old = self.root.join(OLD);
        if old.exists() && !self.target.directory().exists() {
            return;
        }
        for name in [STAGING, OLD] {
            let _ = fs::remove_dir_all(self.root.join(name));
        }
        for name in [JOURNAL, NEW_JOURNAL, LOCK] {
            let _ = fs::remove_file(self.root.join(name));
        }
        let _ = fs::remove_dir(&self.root);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.settings.is_none() {
            self.close();
        }
    }
}

/// Makes the directory, or checks that the one that is there is none of somebody else's: whoever may write to it could put links
/// there at any time.
fn make_root(root: &Path) -> Result<(), LoadError> {
    match fs::create_dir(root) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(LoadError::io("create", root, source)),
    }
    let metadata = fs::symlink_metadata(root).map_err(|source| LoadError::io("open", root, source))?;
    if metadata.is_symlink() {
        return Err(in_the_way(root, LINKED));
    }
    if !metadata.is_dir() {
        return Err(in_the_way(root, FOREIGN));
    }
    if !is_ours(root, &metadata).map_err(|source| LoadError::io("write to", root, source))? {
        return Err(in_the_way(root, OTHER_USER));
    }
    Ok(())
}

/// Whether a directory has the owner that new files have there, whatever users a remote file system knows.
#[cfg(unix)]
fn is_ours(directory: &Path, metadata: &fs::Metadata) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(tempfile::tempfile_in(directory)?.metadata()?.uid() == metadata.uid())
}

#[cfg(not(unix))]
fn is_ours(_: &Path, _: &fs::Metadata) -> io::Result<bool> {
    Ok(true)
}

fn lock(root: &Path) -> Result<File, LoadError> {
    let path = root.join(LOCK);
    let failed = |source| LoadError::io("lock", &path, source);
    let lock = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            if !metadata.is_file() {
                return Err(if metadata.is_symlink() { in_the_way(&path, LINKED) } else { in_the_way(root, FOREIGN) });
            }
            File::options().write(true).open(&path).map_err(failed)?
        }
        created => created.map_err(failed)?,
    };
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_TIMEOUT => thread::sleep(LOCK_TIMEOUT / 50),
            // The one who held it a moment ago may have removed the directory since, and another one made it again.
            Ok(()) if is_at(&lock, &path) => return Ok(lock),
            Ok(()) | Err(TryLockError::WouldBlock) => return Err(LoadError::OutputBusy { directory: root.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let open = place(file.metadata());
    open.is_some() && open == place(fs::symlink_metadata(path))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Checks that a directory has only files that runs like this one put there, and no links.
fn check_own(root: &Path) -> Result<(), LoadError> {
    for name in entries(root)? {
        let path = root.join(&name);
        let metadata = fs::symlink_metadata(&path).map_err(|source| LoadError::io("open", &path, source))?;
        let is_own = match name.as_str() {
            LOCK | JOURNAL | NEW_JOURNAL => metadata.is_file(),
            STAGING | OLD => metadata.is_dir(),
            _ => return Err(in_the_way(root, FOREIGN)),
        };
        if metadata.is_symlink() {
            return Err(in_the_way(&path, LINKED));
        }
        if !is_own {
            return Err(in_the_way(root, FOREIGN));
        }
    }
    Ok(())
}

/// Whether a directory, if it is there, has plain files alone, also in the one folder that a checkpoint may have: no link that a
/// file could be written through.
fn has_plain_files(directory: &Path) -> bool {
    let kind = |entry: io::Result<fs::DirEntry>| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
    match fs::read_dir(directory) {
        Ok(mut entries) => entries.all(|entry| {
            kind(entry).is_ok_and(|(path, kind)| {
                kind.is_file() || (kind.is_dir() && path.ends_with(TEMPLATES) && has_plain_files(&path))
            })
        }),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn entries(directory: &Path) -> Result<Vec<String>, LoadError> {
    let failed = |source| LoadError::io("list", directory, source);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

fn remove(path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), LoadError> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LoadError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// The identity of a directory, whatever its name.
#[cfg(unix)]
fn identity(directory: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(directory).ok()?;
    Some(format!("{}:{}", metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<String> {
    None
}

/// Exchanges the names of two directories in one call. `false` where the system or the file system cannot do that.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    use rustix::{fs::RenameFlags, io::Errno};
    match rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Has names and renamings on the disk, where the system can do that for directories.
pub(crate) fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
