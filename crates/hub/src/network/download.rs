//! The download of one file: resumed, verified, and then renamed to its final name.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use super::{
    api::{Subject, refusal},
    client::{Client, Response, broken},
    folder::Folder,
    hash::Hasher,
    listing::Entry,
    retry::{Failure, Transient},
    store::{Store, incomplete_name},
};
use crate::{DownloadEvent, HubError, RepoId, options::Reporter};

const BUFFER: usize = 256 << 10;

/// The download of one file.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) store: &'a Store,
    pub(crate) blobs: &'a Folder,
    pub(crate) repo: &'a RepoId,
    pub(crate) commit: &'a str,
    pub(crate) entry: &'a Entry,
    pub(crate) skip_hash: bool,
    pub(crate) progress: &'a Reporter,
}

/// A difference between the expected and the received contents.
struct Damage {
    expected: String,
    found: String,
}

/// The unfinished file and the hash of its contents.
struct Partial {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Download<'_> {
    /// Ensures that the snapshot has the file.
    pub(crate) fn run(&self) -> Result<(), HubError> {
        let name = self.entry.name.as_str();
        let mut is_waiting = false;
        let _guard = self.store.lock(&self.entry.hash, &mut || {
            self.client.check_stopped()?;
            if !is_waiting {
                self.progress.event(DownloadEvent::Waiting { file: name });
                is_waiting = true;
            }
            let bytes_done = self.store.incomplete_bytes(&self.entry.hash);
            self.progress.event(DownloadEvent::Advanced { file: name, bytes_done: bytes_done.min(self.entry.bytes) });
            Ok(())
        })?;
        // Another process may have downloaded the same contents meanwhile.
        if !self.store.has_blob(self.blobs, self.entry) {
            self.fetch()?;
        }
        self.store.link(self.commit, self.blobs, self.entry)?;
        self.progress.event(DownloadEvent::Finished { file: name, bytes: self.entry.bytes });
        Ok(())
    }

    fn fetch(&self) -> Result<(), HubError> {
        let mut partial = self.open()?;
        let (file, bytes_total) = (self.entry.name.as_str(), self.entry.bytes);
        self.progress.event(DownloadEvent::Started { file, bytes_done: partial.bytes, bytes_total });
        let url = self.client.endpoint.file(self.repo, self.commit, file);
        let mut damages = 0;
        loop {
            let received = if partial.bytes == bytes_total {
                Ok(None)
            } else {
                self.client.repeat(&url, None, |arrived| self.receive(&url, &mut partial, arrived))
            };
            let damage = match received? {
                Some(damage) => Some(damage),
                None => self.verify(&mut partial)?,
            };
            let Some(damage) = damage else { return self.publish(partial) };
            damages += 1;
            self.restart(&mut partial)?;
            if damages == 2 {
                drop(partial);
                let _ = self.blobs.remove_file(&incomplete_name(&self.entry.hash));
                return Err(HubError::CorruptDownload {
                    repo: self.repo.to_string(),
                    file: file.to_owned(),
                    expected: damage.expected,
                    found: damage.found,
                });
            }
            self.progress.warn(&format!("{file} is corrupt ({}) and is downloaded again", damage.found));
        }
    }

    /// The unfinished file, with the part that an earlier run downloaded.
    fn open(&self) -> Result<Partial, HubError> {
        let name = incomplete_name(&self.entry.hash);
        let mut file = self.blobs.open_or_create(&name).map_err(|source| self.unwritable(source))?;
        let bytes = file.metadata().map_err(|source| self.unwritable(source))?.len();
        let mut partial = Partial { hasher: self.entry.hash.hasher(self.entry.bytes), bytes, file };
        if bytes > self.entry.bytes {
            self.restart(&mut partial)?;
        } else if !self.skip_hash {
            file = partial.file.try_clone().map_err(|source| self.unwritable(source))?;
            partial.hasher.update_from(&mut file).map_err(|source| {
                let path = self.blobs.path().join(&name);
                HubError::Unreadable { path, source }
            })?;
        }
        partial.file.seek(SeekFrom::Start(partial.bytes)).map_err(|source| self.unwritable(source))?;
        Ok(partial)
    }

    fn restart(&self, partial: &mut Partial) -> Result<(), HubError> {
        partial.hasher = self.entry.hash.hasher(self.entry.bytes);
        partial.bytes = 0;
        let emptied = partial.file.set_len(0).and_then(|()| partial.file.rewind());
        emptied.map_err(|source| self.unwritable(source))?;
        self.progress.event(DownloadEvent::Advanced { file: &self.entry.name, bytes_done: 0 });
        Ok(())
    }

    /// One request for the missing bytes.
    fn receive(&self, url: &str, partial: &mut Partial, arrived: &mut u64) -> Result<Option<Damage>, Failure> {
        let total = self.entry.bytes;
        let range = (partial.bytes > 0).then_some(partial.bytes..total);
        let response = self.client.get(url, range)?;
        if response.commit.as_ref().is_some_and(|commit| commit != self.commit) {
            return Err(self.unusable(url, "it belongs to another commit than requested"));
        }
        match response.status {
            206 => match content_range(&response) {
                Some((start, size)) if start == partial.bytes && size.is_none_or(|size| size == total) => {}
                Some((_, Some(size))) if size != total => return Ok(Some(self.wrong_size(size))),
                _ => {
                    // The server's ranges cannot be trusted: the whole file is requested.
                    self.restart(partial)?;
                    let cause = "the server sent another range than requested".into();
                    return Err(Failure::Transient(Transient::Connection(cause)));
                }
            },
            // A server without ranges.
            200 => {
                if partial.bytes > 0 {
                    self.restart(partial)?;
                }
                match content_length(&response) {
                    Some(size) if size != total => return Ok(Some(self.wrong_size(size))),
                    _ => {}
                }
            }
            416 => {
                self.restart(partial)?;
                return Err(Failure::Transient(Transient::Connection("the server has no such range".into())));
            }
            _ => {
                let subject = Subject { repo: self.repo, revision: self.commit, file: Some(&self.entry.name) };
                return Err(Failure::Permanent(refusal(self.client, &subject, url, &response)));
            }
        }
        self.copy(response, partial, arrived)
    }

    fn copy(&self, response: Response, partial: &mut Partial, arrived: &mut u64) -> Result<Option<Damage>, Failure> {
        let missing = self.entry.bytes - partial.bytes;
        // One byte more, to detect a body that is too long.
        let mut reader = response.reader().take(missing.saturating_add(1));
        let mut buffer = vec![0; BUFFER];
        loop {
            self.client.check_stopped()?;
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if read == 0 {
                break;
            }
            if partial.bytes + read as u64 > self.entry.bytes {
                return Ok(Some(self.damage("at least one byte more")));
            }
            partial.file.write_all(bytes).map_err(|source| Failure::Permanent(self.unwritable(source)))?;
            if !self.skip_hash {
                partial.hasher.update(bytes);
            }
            partial.bytes += read as u64;
            *arrived += read as u64;
            self.progress.event(DownloadEvent::Advanced { file: &self.entry.name, bytes_done: partial.bytes });
        }
        if partial.bytes < self.entry.bytes {
            return Err(broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended too early")));
        }
        Ok(None)
    }

    fn verify(&self, partial: &mut Partial) -> Result<Option<Damage>, HubError> {
        let hasher = std::mem::replace(&mut partial.hasher, self.entry.hash.hasher(0));
        if self.skip_hash {
            return Ok(None);
        }
        let found = hasher.finish();
        let expected = self.entry.hash.to_string();
        Ok((found != self.entry.hash).then(|| Damage { expected, found: found.to_string() }))
    }

    /// Gives the file its final name.
    fn publish(&self, partial: Partial) -> Result<(), HubError> {
        let (incomplete, blob) = (incomplete_name(&self.entry.hash), self.entry.hash.name());
        let synced = partial.file.sync_all();
        drop(partial);
        match synced.and_then(|()| self.blobs.rename(&incomplete, blob)) {
            // The lease expired, and another process finished the download.
            Err(source) if source.kind() == io::ErrorKind::NotFound && self.store.has_blob(self.blobs, self.entry) => {
                Ok(())
            }
            result => result.map_err(|source| HubError::Unwritable { path: self.blobs.path().join(blob), source }),
        }
    }

    fn damage(&self, found: &str) -> Damage {
        Damage { expected: format!("{} bytes", self.entry.bytes), found: found.to_owned() }
    }

    fn wrong_size(&self, size: u64) -> Damage {
        self.damage(&format!("{size} bytes"))
    }

    fn unwritable(&self, source: io::Error) -> HubError {
        HubError::Unwritable { path: self.blobs.path().join(incomplete_name(&self.entry.hash)), source }
    }

    fn unusable(&self, url: &str, reason: &str) -> Failure {
        Failure::Permanent(super::api::unusable(url, reason.to_owned()))
    }
}

/// Start and full size in `bytes 0-99/200`; the size may be `*`.
pub(crate) fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let (range, size) = response.header("content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((start.parse().ok()?, size))
}

pub(crate) fn content_length(response: &Response) -> Option<u64> {
    response.header("content-length")?.trim().parse().ok()
}
