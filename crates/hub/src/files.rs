//! Opens untrusted files. A name may be a dangling link, a pipe without a writer, a device, or something huge.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read},
    path::Path,
};

/// Opens a regular file for reading. Links are followed.
///
/// # Errors
/// Those of the system, and one that names the kind of anything but a regular file: a dangling link, a directory, a named pipe, a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
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
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_open(open(path)?, limit)
}

/// The contents of an open file that has at most `limit` bytes.
pub(crate) fn read_open(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// The target of a dangling link.
pub(crate) fn dangling(path: &Path) -> Option<std::path::PathBuf> {
    let target = fs::read_link(path).ok()?;
    let is_gone = fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_gone.then_some(target)
}

/// Unsupported formats of weights, by file extension.
const FOREIGN: [(&str, &str); 11] = [
    (".bin", "PyTorch's pickle"),
    (".ckpt", "PyTorch's pickle"),
    (".gguf", "GGUF"),
    (".ggml", "GGML"),
    (".h5", "TensorFlow's HDF5"),
    (".llamafile", "llamafile"),
    (".msgpack", "Flax's msgpack"),
    (".npz", "NumPy's"),
    (".onnx", "ONNX"),
    (".pt", "PyTorch's pickle"),
    (".pth", "PyTorch's pickle"),
];

/// The unsupported format of a file of weights, by its name or its first bytes.
pub(crate) fn foreign_format(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let by_name = FOREIGN.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format);
    by_name.or_else(|| {
        let mut first = [0; 4];
        open(path).ok()?.read_exact(&mut first).ok()?;
        // Source: the specification of GGUF, in ggml's docs/gguf.md. Ollama's blobs have no extension.
        (&first == b"GGUF").then_some("GGUF")
    })
}

/// The error for anything but a regular file.
pub(crate) fn not_regular(found: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}, not a regular file"))
}

/// The kind of anything but a regular file.
pub(crate) fn irregular(kind: FileType) -> Option<&'static str> {
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

/// `error`, or a clearer one for a dangling link, of which the system says that it does not exist.
fn explained(path: &Path, error: io::Error) -> io::Error {
    if let Some(target) = dangling(path) {
        return io::Error::new(error.kind(), format!("it is a link to {}, which does not exist", target.display()));
    }
    match fs::metadata(path).ok().and_then(|metadata| irregular(metadata.file_type())) {
        Some(found) => not_regular(found),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_up_to_a_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(open(directory.path()).unwrap_err().to_string().contains("a directory"));
        assert_eq!(open(&directory.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[cfg(unix)]
    fn pipes_sockets_and_devices_are_named_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let socket = directory.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, expected) in [
            (pipe.as_path(), "a named pipe"),
            (&link, "a named pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
        let nowhere = directory.path().join("nowhere");
        std::os::unix::fs::symlink("../gone", &nowhere).unwrap();
        let error = open(&nowhere).unwrap_err();
        assert!(error.to_string().contains("../gone") && error.kind() == io::ErrorKind::NotFound, "{error}");
    }
}
