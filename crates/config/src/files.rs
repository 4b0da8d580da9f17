//! Opens untrusted files. A name may be a dangling link, a pipe without a writer, a device, or something huge.
//!
//! Every file of a checkpoint is opened here: before it is read it is known to be a regular file.

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
/// Those of the system, and one that names the kind of anything but a regular file: a dangling link, a directory, a named pipe, a device.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe would block until a writer opens it, and the file can be replaced between a check and the opening: it is opened
        // non-blocking, and then checked.
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

/// The target of a dangling link, as written in the link; `None` for anything else.
pub fn dangling_target(path: &Path) -> Option<PathBuf> {
    let target = fs::read_link(path).ok()?;
    let is_gone = fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_gone.then_some(target)
}

/// The kind of anything but a regular file: `a directory`, `a named pipe`.
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

/// `error`, or a clearer one for a dangling link, of which the system says that it does not exist.
fn explained(path: &Path, error: io::Error) -> io::Error {
    if let Some(target) = dangling_target(path) {
        return io::Error::new(error.kind(), format!("it is a link to {}, which does not exist", target.display()));
    }
    match fs::metadata(path).ok().and_then(|metadata| irregular(metadata.file_type())) {
        Some(found) => not_regular(found),
        None => error,
    }
}
