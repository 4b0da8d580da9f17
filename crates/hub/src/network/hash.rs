//! The hashes by which the Hub names contents: SHA-256 for large files, git's SHA-1 for the others.

use std::{
    fmt,
    io::{self, Read},
    path::Path,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::files;

const BUFFER: usize = 1 << 20;

/// The hash of a file's contents, which is also its etag and its name among the blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ContentHash {
    /// Of a file in large file storage.
    Sha256(String),
    /// Of a file that git itself keeps: of `blob`, its size, and the contents.
    Git(String),
}

impl ContentHash {
    /// The hash with this blob name, by its length.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let is_hexadecimal = name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match name.len() {
            64 if is_hexadecimal => Some(Self::Sha256(name.to_owned())),
            40 if is_hexadecimal => Some(Self::Git(name.to_owned())),
            _ => None,
        }
    }

    /// The blob name: hexadecimal digits, which are safe as a file name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sha256(name) | Self::Git(name) => name,
        }
    }

    /// A hasher for contents of `bytes` bytes.
    pub(crate) fn hasher(&self, bytes: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Box::default()),
            Self::Git(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {bytes}\0"));
                Hasher::Git(Box::new(hasher))
            }
        }
    }

    /// The actual hash of a file, of the same kind.
    pub(crate) fn of_file(&self, path: &Path) -> io::Result<Self> {
        let mut file = files::open(path)?;
        let mut hasher = self.hasher(file.metadata()?.len());
        hasher.update_from(&mut file)?;
        Ok(hasher.finish())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digits) => write!(formatter, "sha256:{digits}"),
            Self::Git(digits) => write!(formatter, "git-sha1:{digits}"),
        }
    }
}

/// A hash that is being computed.
pub(crate) enum Hasher {
    Sha256(Box<Sha256>),
    Git(Box<Sha1>),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    /// Adds all bytes of `reader`.
    pub(crate) fn update_from(&mut self, reader: &mut impl Read) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn finish(self) -> ContentHash {
        match self {
            Self::Sha256(hasher) => ContentHash::Sha256(hexadecimal(&hasher.finalize())),
            Self::Git(hasher) => ContentHash::Git(hexadecimal(&hasher.finalize())),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_sha256sum() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        let git = ContentHash::from_name("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!(git.of_file(&path).unwrap(), git);
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let sha = ContentHash::from_name(sha).unwrap();
        assert_eq!(sha.of_file(&path).unwrap(), sha);
        assert_ne!(ContentHash::from_name(&"0".repeat(64)).unwrap().of_file(&path).unwrap().name(), "0".repeat(64));
    }

    #[test]
    fn only_digits_are_names() {
        for bad in
            ["", "..", &"g".repeat(40), &"A".repeat(64), &"0".repeat(41), "../../../../../../../../../../etc/passwd..."]
        {
            assert_eq!(ContentHash::from_name(bad), None, "{bad}");
        }
    }
}
