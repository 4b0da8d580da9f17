//! The directory in which a conversion works until its result is complete.
//!
//! `.NAME.partial` beside the target holds `lock`, held by the process that works there; `journal.json`, the settings of the run;
//! `checkpoint`, which becomes the target; and, for a moment at the end, `old`, the checkpoint that is replaced.

use super::ConvertOptions;
use crate::{
    LoadError,
    save::directory::{NO_NAME, check_target, in_the_way, is_empty, write_json},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

const LOCK: &str = "lock";
const JOURNAL: &str = "journal.json";
const NEW_JOURNAL: &str = "journal.json.new";
const STAGING: &str = "checkpoint";
const OLD: &str = "old";
/// A journal lists the names of all quantised tensors.
const MAX_JOURNAL_BYTES: u64 = 100_000_000;

const FOREIGN: &str = "holds files that no conversion made: choose another output directory, or remove them yourself";
const SOURCE: &str = "is the checkpoint that is read: choose another directory";

/// What was found at the target.
pub(super) enum Opened {
    /// A place to work in, fresh or of an interrupted run.
    Ready(Workplace),
    /// The same run was interrupted after its result had appeared in this directory.
    Finished(PathBuf),
}

/// The place to work in.
pub(super) struct Workplace {
    root: PathBuf,
    staging: PathBuf,
    target: PathBuf,
    overwrite: bool,
    settings: Value,
    /// Held until the process ends or drops it.
    _lock: File,
}

impl Workplace {
    /// Opens the place for `target`, with what a run of the same `settings` left there.
    pub fn open(target: &Path, source: &Path, settings: &Value, options: &ConvertOptions) -> Result<Opened, LoadError> {
        // A link to a directory stays, what it points to is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        if fs::canonicalize(source).is_ok_and(|source| source == target) {
            return Err(in_the_way(&target, SOURCE));
        }
        let Some(name) = target.file_name() else { return Err(in_the_way(&target, NO_NAME)) };
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let root = parent.join(format!(".{}.partial", name.to_string_lossy()));
        if !root.exists() {
            check_target(&target, options.overwrite)?;
        }
        fs::create_dir_all(&root).map_err(|source| LoadError::io("create", &root, source))?;
        check_own(&root)?;
        let workplace = Self {
            _lock: lock(&root)?,
            staging: root.join(STAGING),
            root,
            target,
            overwrite: options.overwrite,
            settings: settings.clone(),
        };
        workplace.prepare(options.restart)
    }

    /// Where the files of the new checkpoint go.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    fn prepare(self, restart: bool) -> Result<Opened, LoadError> {
        let journal = self.read_journal();
        let same = journal.as_ref().is_some_and(|journal| journal["settings"] == self.settings);
        let committing = journal.is_some_and(|journal| journal["committing"] == true);
        if same && committing && !self.staging.exists() && self.target.exists() {
            self.remove_root();
            return Ok(Opened::Finished(self.target));
        }
        if !same || restart {
            self.clear()?;
        }
        if let Err(error) = check_target(&self.target, self.overwrite) {
            if is_empty_but_for_lock(&self.root) {
                self.remove_root();
            }
            return Err(error);
        }
        self.write_journal(false)?;
        fs::create_dir_all(&self.staging).map_err(|source| LoadError::io("create", &self.staging, source))?;
        Ok(Opened::Ready(self))
    }

    /// Gives the new checkpoint its name.
    pub fn commit(self) -> Result<(), LoadError> {
        check_target(&self.target, self.overwrite)?;
        sync_directory(&self.staging);
        self.write_journal(true)?;
        if self.target.exists() {
            if is_empty(&self.target)? {
                fs::remove_dir(&self.target).map_err(|source| LoadError::io("replace", &self.target, source))?;
            } else {
                let old = self.root.join(OLD);
                fs::rename(&self.target, &old).map_err(|source| LoadError::io("replace", &self.target, source))?;
            }
        }
        if let Err(source) = fs::rename(&self.staging, &self.target) {
            self.restore_old();
            return Err(LoadError::io("rename", &self.staging, source));
        }
        if let Some(parent) = self.root.parent() {
            sync_directory(parent);
        }
        self.remove_root();
        Ok(())
    }

    /// Removes all that this run made.
    pub fn discard(self) {
        self.restore_old();
        self.remove_root();
    }

    fn read_journal(&self) -> Option<Value> {
        let path = self.root.join(JOURNAL);
        let small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_JOURNAL_BYTES);
        small.then(|| fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())).flatten()
    }

    fn write_journal(&self, committing: bool) -> Result<(), LoadError> {
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
        if old.exists() && !self.target.exists() {
            let _ = fs::rename(&old, &self.target);
        }
    }

    /// Removes the place. What cannot be removed is in nobody's way: the next run finds it.
    fn remove_root(&self) {
        let old = self.root.join(OLD);
        if old.exists() && !self.target.exists() {
            return;
        }
        for name in [STAGING, OLD] {
            let _ = fs::remove_dir_all(self.root.join(name));
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn lock(root: &Path) -> Result<File, LoadError> {
    let path = root.join(LOCK);
    let failed = |source| LoadError::io("lock", &path, source);
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match lock.try_lock() {
        // The one who held it a moment ago may have removed the directory since.
        Ok(()) if path.exists() => Ok(lock),
        Ok(()) | Err(TryLockError::WouldBlock) => Err(LoadError::OutputBusy { directory: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Checks that a directory has nothing in it but what conversions put there.
fn check_own(root: &Path) -> Result<(), LoadError> {
    let own = [LOCK, JOURNAL, NEW_JOURNAL, STAGING, OLD];
    match entries(root)?.iter().all(|name| own.contains(&name.as_str())) {
        true => Ok(()),
        false => Err(in_the_way(root, FOREIGN)),
    }
}

fn is_empty_but_for_lock(root: &Path) -> bool {
    entries(root).is_ok_and(|names| names.iter().all(|name| name == LOCK))
}

fn entries(directory: &Path) -> Result<Vec<String>, LoadError> {
    let failed = |source| LoadError::io("list", directory, source);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

fn remove(path: &Path, remove: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), LoadError> {
    match remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LoadError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Has names and renamings on the disk, where the system can do that for directories.
pub(super) fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
