//! Requests to the Hub's API: the commit of a revision, the files of a commit, and the errors.

use serde::{Deserialize, de::DeserializeOwned};
use ureq::http::Uri;

use super::{
    client::{Client, Response},
    hash::ContentHash,
    listing::{Entry, LIST_BYTES, Listing},
    retry::Failure,
    url::{encoded, joined, shown},
};
use crate::{HubError, RepoId, revision, suggestions};

/// Maximum size of a JSON response.
const JSON_BYTES: u64 = 16 << 20;
/// Maximum of pages of a list of files. A page has 1000 entries.
const PAGES: usize = 200;
/// Approximate bytes of a file in a list besides its name.
const ENTRY_BYTES: u64 = 200;
/// Maximum of repos of an organisation that are searched for similar names.
const NEIGHBOURS: usize = 500;

/// The subject of a request, for messages.
pub(crate) struct Subject<'a> {
    pub(crate) repo: &'a RepoId,
    pub(crate) revision: &'a str,
    pub(crate) file: Option<&'a str>,
}

#[derive(Deserialize)]
struct RevisionResponse {
    sha: String,
}

#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Refs {
    #[serde(default)]
    branches: Vec<Ref>,
    #[serde(default)]
    tags: Vec<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    name: String,
}

#[derive(Deserialize)]
struct Neighbour {
    id: String,
}

/// The current commit of `revision`; `most` limits the attempts.
pub(crate) fn commit(client: &Client, repo: &RepoId, revision: &str, most: Option<u32>) -> Result<String, HubError> {
    let url = client.endpoint.api(repo, &format!("/revision/{}", encoded(revision)));
    let subject = Subject { repo, revision, file: None };
    let RevisionResponse { sha } =
        client.repeat(&url, most, |_| json(client, &url, &subject).map(|(value, _)| value))?;
    if revision::is_commit(&sha) {
        return Ok(sha);
    }
    Err(unusable(&url, format!("the commit {:.60?} is not 40 hexadecimal digits", sha)))
}

/// All files of a commit.
pub(crate) fn listing(client: &Client, repo: &RepoId, commit: &str) -> Result<Listing, HubError> {
    let mut url = client.endpoint.api(repo, &format!("/tree/{commit}?recursive=true"));
    let subject = Subject { repo, revision: commit, file: None };
    let mut listing = Listing::default();
    let mut bytes = 0_u64;
    for _ in 0..PAGES {
        let (page, next): (Vec<TreeEntry>, _) = client.repeat(&url, None, |_| json(client, &url, &subject))?;
        for entry in page.into_iter().filter(|entry| entry.kind == "file") {
            bytes = bytes.saturating_add(ENTRY_BYTES + entry.path.len() as u64);
            if bytes > LIST_BYTES {
                return Err(unusable(&url, format!("the list of files has more than {LIST_BYTES} bytes")));
            }
            listing.insert(file(entry).map_err(|reason| unusable(&url, reason))?);
        }
        match next {
            Some(next) => url = next_page(client, &url, &next)?,
            None => return Ok(listing),
        }
    }
    Err(unusable(&url, format!("the list of files has more than {PAGES} pages")))
}

fn file(entry: TreeEntry) -> Result<Entry, String> {
    let TreeEntry { path: name, size, oid: git, lfs, .. } = entry;
    let is_git = matches!(ContentHash::from_name(&git), Some(ContentHash::Git(_)));
    let (bytes, hash) = match lfs {
        // Some servers add the prefix `sha256:`.
        Some(Lfs { oid, size }) => (size, ContentHash::from_name(oid.strip_prefix("sha256:").unwrap_or(&oid))),
        None => (size, ContentHash::from_name(&git)),
    };
    match hash {
        Some(hash) if is_git => Ok(Entry { name, bytes, hash, git }),
        _ => Err(format!("the hash of the file {name:.100?} is invalid")),
    }
}

/// The next page must be on the same server, because the token is sent to it.
fn next_page(client: &Client, url: &str, next: &str) -> Result<String, HubError> {
    let base: Uri = url.parse().map_err(|_| unusable(url, "its address cannot be parsed".to_owned()))?;
    let next = joined(&base, next).map_err(|reason| unusable(url, reason.to_owned()))?;
    if client.endpoint.has(&next) {
        return Ok(next.to_string());
    }
    Err(unusable(url, "the next page of the list of files is on another server".to_owned()))
}

/// A JSON response, and the address of its next page.
fn json<T: DeserializeOwned>(
    client: &Client,
    url: &str,
    subject: &Subject<'_>,
) -> Result<(T, Option<String>), Failure> {
    let response = client.get(url, None)?;
    if response.status != 200 {
        return Err(Failure::Permanent(refusal(client, subject, url, &response)));
    }
    let next = response.header("link").and_then(next_link).map(str::to_owned);
    let (bytes, is_all) = response.bytes(JSON_BYTES)?;
    if !is_all {
        return Err(Failure::Permanent(unusable(url, format!("it has more than {JSON_BYTES} bytes"))));
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((value, next)),
        Err(error) => Err(Failure::Permanent(unusable(url, format!("not the JSON that was expected ({error})")))),
    }
}

/// The address in `<address>; rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    header.split(", ").find_map(|link| {
        let (address, attributes) = link.trim().strip_prefix('<')?.split_once('>')?;
        attributes.contains("rel=\"next\"").then_some(address)
    })
}

pub(crate) fn unusable(url: &str, reason: String) -> HubError {
    HubError::InvalidResponse { url: shown(url), reason }
}

/// The error for a response that is neither a success nor transient.
pub(crate) fn refusal(client: &Client, subject: &Subject<'_>, url: &str, response: &Response) -> HubError {
    let with_token = client.has_token();
    let (repo, endpoint, url) = (subject.repo.to_string(), client.endpoint.to_string(), shown(url));
    match (response.status, response.code.as_deref()) {
        (_, Some("GatedRepo")) => HubError::Gated { repo, page: client.endpoint.page(subject.repo), with_token },
        (_, Some("RevisionNotFound")) => unknown_revision(client, subject),
        (_, Some("EntryNotFound")) => missing_file(subject),
        (_, Some("RepoNotFound")) => unknown_repo(client, subject),
        (401, _) if with_token => HubError::RefusedToken { url, endpoint },
        (401, _) => unknown_repo(client, subject),
        (403, _) => HubError::Forbidden { url, with_token },
        (404, _) if subject.file.is_some() => missing_file(subject),
        (404, _) => unknown_repo(client, subject),
        (status, _) => HubError::InvalidResponse { url, reason: format!("status {status}") },
    }
}

fn missing_file(subject: &Subject<'_>) -> HubError {
    HubError::MissingRemoteFile {
        repo: subject.repo.to_string(),
        commit: subject.revision.to_owned(),
        file: subject.file.unwrap_or("that").to_owned(),
        nearest: Vec::new(),
    }
}

/// A response for a message: one attempt, and an empty value if it fails.
fn for_message<T: DeserializeOwned + Default>(client: &Client, url: &str) -> T {
    let bytes = match client.get(url, None) {
        Ok(response) if response.status == 200 => response.bytes(JSON_BYTES),
        _ => return T::default(),
    };
    bytes.ok().and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn unknown_revision(client: &Client, subject: &Subject<'_>) -> HubError {
    let refs: Option<Refs> = for_message(client, &client.endpoint.api(subject.repo, "/refs"));
    let names: Vec<String> = refs
        .into_iter()
        .flat_map(|refs| refs.branches.into_iter().chain(refs.tags))
        .map(|known| known.name)
        .filter(|name| revision::check(name).is_ok())
        .collect();
    let mut known = suggestions::nearest(subject.revision, names.iter().cloned());
    known.extend(names.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>());
    HubError::UnknownRevision {
        repo: subject.repo.to_string(),
        revision: subject.revision.to_owned(),
        known: suggestions::first_few(known),
    }
}

fn unknown_repo(client: &Client, subject: &Subject<'_>) -> HubError {
    let repo = subject.repo.to_string();
    let query = match subject.repo.organization() {
        Some(organization) => format!("author={}", encoded(organization)),
        None => format!("search={}", encoded(subject.repo.name())),
    };
    let url = format!("{}/api/models?{query}&limit={NEIGHBOURS}", client.endpoint);
    let neighbours: Vec<Neighbour> = for_message(client, &url);
    let names =
        neighbours.into_iter().take(NEIGHBOURS).filter_map(|other| Some(RepoId::parse(&other.id).ok()?.to_string()));
    let nearest = suggestions::nearest(&repo, names.filter(|name| *name != repo));
    HubError::UnknownRepo { repo, endpoint: client.endpoint.to_string(), with_token: client.has_token(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let header = "<https://hub/a?cursor=x>; rel=\"prev\", <https://hub/a?cursor=y>; rel=\"next\"";
        assert_eq!(next_link(header), Some("https://hub/a?cursor=y"));
        for none in ["", "<x>; rel=\"prev\"", "x; rel=\"next\"", "<x rel=\"next\""] {
            assert_eq!(next_link(none), None, "{none}");
        }
    }
}
