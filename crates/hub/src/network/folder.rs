//! Directories to write to, below which no link is followed.
//!
//! Other programs and other users write to a cache: a link in it may point anywhere. Files are created, renamed and removed relative
//! to an open directory, which was itself opened from its parent without following a link, so that a link that appears meanwhile has
//! no effect. Only the root may be a link, because the caller chose it.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::{
    ambient_authority,
    fs::{Dir, Metadata, OpenOptions},
};

use super::retry::random_number;
use crate::{HubError, files};

/// An open directory.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: Dir,
    /// For messages.
    path: PathBuf,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Folder,
    File {
        bytes: u64,
    },
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl Folder {
    /// Opens the directory at `path`, which may be a link; `None` if it does not exist.
    pub(crate) fn root(path: &Path) -> Result<Option<Self>, HubError> {
        match Dir::open_ambient_dir(path, ambient_authority()) {
            Ok(dir) => Ok(Some(Self { dir, path: path.to_owned() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound && files::dangling(path).is_none() => Ok(None),
            Err(source) => Err(HubError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Opens the directory at `path`, which may be a link, and creates it if needed.
    pub(crate) fn create_root(path: &Path) -> Result<Self, HubError> {
        let unwritable = |source| HubError::Unwritable { path: path.to_owned(), source };
        Dir::create_ambient_dir_all(path, ambient_authority()).map_err(unwritable)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(unwritable)?;
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Its path, for messages and for reading.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the same directory.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { dir: self.dir.try_clone()?, path: self.path.clone() })
    }

    /// The directory below this one at `relative`, with `/` between its parts; `None` if it does not exist.
    pub(crate) fn open(&self, relative: &str) -> Result<Option<Self>, HubError> {
        let mut folder: Option<Self> = None;
        for name in relative.split('/') {
            let parent = folder.as_ref().unwrap_or(self);
            match parent.child(name) {
                Ok(child) => folder = Some(child),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(parent.refused(name, source, true)),
            }
        }
        Ok(folder)
    }

    /// The directory below this one at `relative`, which is created if needed.
    pub(crate) fn create(&self, relative: &str) -> Result<Self, HubError> {
        let mut folder: Option<Self> = None;
        for name in relative.split('/') {
            let parent = folder.as_ref().unwrap_or(self);
            let made = match parent.child(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => match parent.dir.create_dir(name) {
                    // Another process may be faster.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                    _ => parent.child(name),
                },
                result => result,
            };
            folder = Some(made.map_err(|source| parent.refused(name, source, false))?);
        }
        folder
            .ok_or_else(|| HubError::Unwritable { path: self.path.clone(), source: io::ErrorKind::InvalidInput.into() })
    }

    fn child(&self, name: &str) -> io::Result<Self> {
        check_plain(name)?;
        Ok(Self { dir: self.dir.open_dir_nofollow(name)?, path: self.path.join(name) })
    }

    /// The error of opening the directory `name`, above all that it is a link.
    fn refused(&self, name: &str, source: io::Error, reading: bool) -> HubError {
        let path = self.path.join(name);
        match self.dir.read_link_contents(name) {
            Ok(target) => HubError::LinkInCache { link: path, target },
            Err(_) if reading => HubError::Unreadable { path, source },
            Err(_) => HubError::Unwritable { path, source },
        }
    }

    /// The entry `name`, without following links; `None` if it does not exist.
    pub(crate) fn entry(&self, name: &str) -> io::Result<Option<Entry>> {
        Ok(self.metadata(name)?.as_ref().map(Entry::of))
    }

    /// Size and times of the entry `name`, without following links.
    pub(crate) fn metadata(&self, name: &str) -> io::Result<Option<Metadata>> {
        check_plain(name)?;
        match self.dir.symlink_metadata(name) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Size of the regular file at `relative`. Links are followed as long as they stay below this directory, as links into the shared
    /// blob store do.
    pub(crate) fn followed_bytes(&self, relative: &str) -> Option<u64> {
        let metadata = self.dir.metadata(relative).ok()?;
        metadata.is_file().then(|| metadata.len())
    }

    /// Whether the entry `name` is still the open file.
    #[cfg(unix)]
    pub(crate) fn is_called(&self, file: &File, name: &str) -> bool {
        use cap_std::fs::MetadataExt as _;
        use std::os::unix::fs::MetadataExt as _;
        match (file.metadata(), self.metadata(name)) {
            (Ok(open), Ok(Some(named))) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// On other systems open files cannot be removed.
    #[cfg(not(unix))]
    pub(crate) fn is_called(&self, _file: &File, _name: &str) -> bool {
        true
    }

    /// Names and entries, sorted. Neither this crate nor the Hub uses names that are not UTF-8: they are returned with replacement
    /// characters, and no operation finds them.
    pub(crate) fn entries(&self, limit: usize) -> io::Result<Vec<(String, Entry)>> {
        let mut entries = Vec::new();
        for entry in self.dir.entries()? {
            let entry = entry?;
            if entries.len() == limit {
                return Err(io::Error::other(format!("it has more than {limit} entries")));
            }
            match entry.metadata() {
                Ok(metadata) => entries.push((entry.file_name().to_string_lossy().into_owned(), Entry::of(&metadata))),
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    }

    /// The target of the link `name`.
    pub(crate) fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        check_plain(name)?;
        self.dir.read_link_contents(name)
    }

    /// The contents of the regular file `name`, which has at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        files::read_open(self.open_file(name, OpenOptions::new().read(true))?, limit)
    }

    /// Opens the regular file `name` for reading and writing, and creates it if needed.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OpenOptions::new().read(true).write(true).create(true))
    }

    /// Creates the file `name`, which must not exist.
    pub(crate) fn create_new(&self, name: &str) -> io::Result<File> {
        self.open_file(name, OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open_file(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        check_plain(name)?;
        // A pipe must not block.
        let file = self.dir.open_with(name, options.follow(FollowSymlinks::No).nonblock(true));
        let file = file.map_err(|error| match self.entry(name) {
            Ok(Some(Entry::Link)) => files::not_regular("a link"),
            Ok(Some(Entry::Folder)) => files::not_regular("a directory"),
            Ok(Some(Entry::Other)) => files::not_regular("a pipe, a socket or a device"),
            _ => error,
        })?;
        let file = file.into_std();
        match files::irregular(file.metadata()?.file_type()) {
            Some(found) => Err(files::not_regular(found)),
            None => Ok(file),
        }
    }

    /// Replaces the file `name` atomically. A link of that name is replaced, not followed.
    pub(crate) fn replace(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let temporary = temporary_name();
        let result = self
            .create_new(&temporary)
            .and_then(|mut file| file.write_all(text))
            .and_then(|()| self.rename(&temporary, name));
        if result.is_err() {
            let _ = self.remove_file(&temporary);
        }
        result
    }

    /// Renames `from` to `to`, and replaces an existing `to`.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_plain(from)?;
        check_plain(to)?;
        self.dir.rename(from, &self.dir, to)
    }

    /// Removes a file, or a link but not its target; returns whether it existed.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<bool> {
        check_plain(name)?;
        absent_is_false(self.dir.remove_file_or_symlink(name))
    }

    /// Removes a directory with its contents, links but not their targets; returns whether it existed.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<bool> {
        check_plain(name)?;
        absent_is_false(self.dir.remove_dir_all(name))
    }

    /// Links `link` to `target`, the file `blob` of `blobs`, or copies the file on systems without links.
    pub(crate) fn link_to(&self, target: &str, blobs: &Self, blob: &str, link: &str) -> io::Result<()> {
        check_plain(blob)?;
        check_plain(link)?;
        let target = if cfg!(windows) { target.replace('/', "\\") } else { target.to_owned() };
        self.dir
            .symlink_file(target, link)
            .or_else(|_| blobs.dir.hard_link(blob, &self.dir, link))
            .or_else(|_| blobs.dir.copy(blob, &self.dir, link).map(|_| ()))
    }

    /// Adds a hard link unless the name exists.
    pub(crate) fn hard_link(&self, from: &str, to: &str) -> io::Result<()> {
        check_plain(from)?;
        check_plain(to)?;
        self.dir.hard_link(from, &self.dir, to)
    }
}

impl Entry {
    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        if kind.is_symlink() {
            Self::Link
        } else if kind.is_dir() {
            Self::Folder
        } else if kind.is_file() {
            Self::File { bytes: metadata.len() }
        } else {
            Self::Other
        }
    }
}

fn absent_is_false(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name that no other process or thread uses.
pub(crate) fn temporary_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(".{:x}-{number:x}-{:x}.tmp", std::process::id(), random_number())
}

/// Operations take a single name, so that none of them passes through a directory that was not opened here.
fn check_plain(name: &str) -> io::Result<()> {
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(['/', '\0'])
        || (cfg!(windows) && name.contains(['\\', ':']))
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain name")));
    }
    Ok(())
}
