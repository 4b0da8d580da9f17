//! Length and time of modification, by which a change of a file is noticed.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// Length and time of modification of an open file, whatever its path leads to meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    length: u64,
    /// In the file system's precision, nanoseconds on most; `None` where the system does not report it.
    modified: Option<SystemTime>,
}

/// How a file differs from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileChange {
    /// It is longer or shorter.
    Length {
        /// Bytes before.
        before: u64,
        /// Bytes that it has.
        now: u64,
    },
    /// It is as long, but was written to.
    Written {
        /// Its time of modification then.
        before: Option<SystemTime>,
        /// Its time of modification now.
        now: Option<SystemTime>,
    },
}

impl FileStamp {
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), modified: metadata.modified().ok() })
    }

    /// The stamp of the file that a path leads to now, without opening it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { length: metadata.len(), modified: metadata.modified().ok() })
    }

    pub fn modified(self) -> Option<SystemTime> {
        self.modified
    }

    pub fn length(self) -> u64 {
        self.length
    }

    /// The change since then, if any.
    pub fn change_to(self, now: Self) -> Option<FileChange> {
        if self.length != now.length {
            return Some(FileChange::Length { before: self.length, now: now.length });
        }
        (self != now).then_some(FileChange::Written { before: self.modified, now: now.modified })
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { before, now } => write!(f, "it had {before} bytes and has {now}"),
            Self::Written { before: Some(before), now: Some(now) } => {
                let (by, direction) = match now.duration_since(*before) {
                    Ok(later) => (later, "later"),
                    Err(earlier) => (earlier.duration(), "earlier"),
                };
                write!(f, "it was written to, its time of modification is {} s {direction}", Seconds(by))
            }
            Self::Written { .. } => f.write_str("it was written to"),
        }
    }
}

/// Seconds without zeros at the end.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_well() {
        let at = |seconds, nanos| Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
        let stamp = FileStamp { length: 4, modified: at(10, 5) };
        let change =
            |length, modified| stamp.change_to(FileStamp { length, modified }).map(|change| change.to_string());
        assert_eq!(change(4, at(10, 5)), None);
        assert_eq!(change(9, at(10, 5)).unwrap(), "it had 4 bytes and has 9");
        assert!(change(4, at(12, 500_000_005)).unwrap().ends_with("is 2.5 s later"));
        assert!(change(4, at(10, 4)).unwrap().ends_with("is 0.000000001 s earlier"));
        assert_eq!(change(4, None).unwrap(), "it was written to");
    }
}
