//! Reads untrusted files: only regular ones, up to a limit.

use crate::GenerationError;
use automodel_config::files;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// The bytes of a file; `None` if it does not exist.
///
/// # Errors
/// [`GenerationError::UnreadableFile`] for anything but a regular file (a folder, a pipe, a socket, a device), for a dangling
/// link and for an unreadable file, [`GenerationError::FileTooLarge`] beyond `limit` bytes.
pub(super) fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, GenerationError> {
    let unreadable =
        |source: Error| GenerationError::UnreadableFile { path: path.to_owned(), source: Box::new(source) };
    match files::read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound && files::dangling_target(path).is_none() => Ok(None),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Err(GenerationError::FileTooLarge { path: path.to_owned(), limit })
        }
        Err(error) => Err(unreadable(error)),
    }
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
        assert!(matches!(read_optional(&at("file"), 3), Err(GenerationError::FileTooLarge { limit: 3, .. })));
        for name in [at("folder"), at("pipe"), at("socket"), at("dangling"), "/dev/zero".into()] {
            assert!(matches!(read_optional(&name, 4), Err(GenerationError::UnreadableFile { .. })), "{name:?}");
        }
    }
}
