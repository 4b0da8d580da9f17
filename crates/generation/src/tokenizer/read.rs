//! Opening files that strangers brought: nothing but regular files, and no more of them than was agreed.

use crate::GenerationError;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// The bytes of a file; `None` if there is none of that name.
///
/// # Errors
/// [`GenerationError::UnreadableFile`] for what is no regular file (a folder, a pipe, a socket, a device) or cannot be read,
/// [`GenerationError::FileTooLarge`] beyond `limit` bytes.
pub(super) fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, GenerationError> {
    let unreadable =
        |source: Error| GenerationError::UnreadableFile { path: path.to_owned(), source: Box::new(source) };
    let file = match open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more; the length that the file system states may be wrong.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(GenerationError::FileTooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Opens a regular file. To open a pipe waits for its other end, unless told not to; what was opened is looked at, not the
/// name, which may have become another file's meanwhile.
fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is not a regular file")) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let status = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(status.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

        assert_eq!(read_optional(&at("file"), 4).unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(read_optional(&at("link"), 4).unwrap().as_deref(), Some(&b"text"[..]));
        assert!(read_optional(&at("nothing"), 4).unwrap().is_none());
        assert!(read_optional(&at("dangling"), 4).unwrap().is_none());
        assert!(matches!(read_optional(&at("file"), 3), Err(GenerationError::FileTooLarge { limit: 3, .. })));
        for name in [at("folder"), at("pipe"), at("socket"), "/dev/zero".into()] {
            assert!(matches!(read_optional(&name, 4), Err(GenerationError::UnreadableFile { .. })), "{name:?}");
        }
    }
}
