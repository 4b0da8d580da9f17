//! Opening files that others made. A name may lead nowhere, to a pipe that never answers, to a device, or to something huge.
//!
//! Every file of a checkpoint is opened so: by the time it is read it is known to be a regular file, whatever its name leads to.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Opens a regular file for reading. Links are followed.
///
/// ```
/// let error = automodel_config::files::open(std::path::Path::new("src")).unwrap_err();
/// assert!(error.to_string().contains("it is a directory"));
/// ```
///
/// # Errors
/// Those of the system, and one that names what it is instead: a link that leads nowhere, a directory, a named pipe, a device.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe would wait for somebody to write, and what a name leads to can change between a look and the opening: it is
        // opened without waiting, and then known.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).map_err(|error| explained(path, error))?;
    match irregular(file.metadata()?.file_type()) {
        Some(found) => Err(not_regular(found)),
        None => Ok(file),
    }
}

/// The contents of a regular file that has at most `limit` bytes.
///
/// # Errors
/// As [`open`], and [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// What a link points to, as it is written in the link, if it leads nowhere; `None` for all else.
pub fn dangling_target(path: &Path) -> Option<PathBuf> {
    let target = fs::read_link(path).ok()?;
    let is_gone = fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_gone.then_some(target)
}

/// What is there instead of a regular file: `a directory`, `a named pipe`.
pub fn irregular(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a named pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_block_device() || kind.is_char_device() {
            return Some("a device");
        }
    }
    Some("something else")
}

fn not_regular(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}, not a regular file"))
}

/// `error`, or what explains it better: the system says of a link that leads nowhere that it does not exist.
fn explained(path: &Path, error: io::Error) -> io::Error {
    if let Some(target) = dangling_target(path) {
        return io::Error::new(error.kind(), format!("it is a link to {}, which does not exist", target.display()));
    }
    match fs::metadata(path).ok().and_then(|metadata| irregular(metadata.file_type())) {
        Some(found) => not_regular(found),
        None => error,
    }
}
