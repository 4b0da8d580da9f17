//! The routes of the API.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{File, Hub, Repo, Shared, connection::Asked, response::Response};

pub fn response(hub: &Hub, asked: &Asked, shared: &Shared) -> Response {
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let path = decoded(path);
    if asked.is_storage {
        let contents = path.strip_prefix("/storage/").and_then(|sha256| hub.large(sha256));
        return contents.map_or_else(|| Response::refused(403, ""), of_contents);
    }
    if path == "/api/models" {
        return Response::json(&hub.repos.keys().map(|id| json!({ "id": id })).collect());
    }
    if let Some(rest) = path.strip_prefix("/api/resolve-cache/models/") {
        return with_repo(hub, asked, rest, |_, repo, rest| {
            let (commit, file) = rest.split_once('/').unwrap_or((rest, ""));
            let Some(file) = repo.commits.get(commit).and_then(|files| files.get(file)) else {
                return Response::refused(404, "EntryNotFound");
            };
            described(of_contents(Arc::clone(&file.contents)), file, commit)
        });
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return with_repo(hub, asked, rest, |id, repo, rest| api(hub, asked, query, (id, repo), rest, shared));
    }
    with_repo(hub, asked, path.trim_start_matches('/'), |id, repo, rest| file(id, repo, rest, shared))
}

/// Finds the repo at the beginning of `path` and checks access to it.
fn with_repo(hub: &Hub, asked: &Asked, path: &str, then: impl FnOnce(&str, &Repo, &str) -> Response) -> Response {
    let is_at_start =
        |id: &&String| path.strip_prefix(id.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(id) = hub.repos.keys().find(is_at_start) else {
        // As the Hub does, which does not tell strangers what there is not.
        return Response::refused(if asked.token.is_some() { 404 } else { 401 }, "RepoNotFound");
    };
    let repo = &hub.repos[id];
    if asked.token.is_some() && asked.token != hub.token {
        return Response::refused(401, "");
    }
    if repo.is_private && asked.token.is_none() {
        return Response::refused(401, "RepoNotFound");
    }
    let rest = path.strip_prefix(id.as_str()).unwrap_or_default().trim_start_matches('/');
    // Of a gated repo everyone may read the list of files.
    if repo.is_gated && rest.starts_with("resolve/") {
        return Response::refused(if asked.token.is_some() { 403 } else { 401 }, "GatedRepo");
    }
    then(id, repo, rest)
}

fn api(hub: &Hub, asked: &Asked, query: &str, (id, repo): (&str, &Repo), rest: &str, shared: &Shared) -> Response {
    if rest == "refs" {
        let refs: Vec<Value> = repo
            .branches
            .iter()
            .map(|(name, commit)| json!({ "name": name, "ref": format!("refs/heads/{name}"), "targetCommit": commit }))
            .collect();
        return Response::json(&json!({ "branches": refs, "tags": [], "converts": [] }));
    }
    if rest.is_empty() || rest.starts_with("revision/") {
        let revision = rest.strip_prefix("revision/").unwrap_or("main");
        let Some(commit) = repo.resolve(revision) else { return Response::refused(404, "RevisionNotFound") };
        let siblings: Vec<Value> = repo.commits[&commit].keys().map(|name| json!({ "rfilename": name })).collect();
        return Response::json(
            &json!({ "_id": "0", "id": id, "modelId": id, "sha": commit, "siblings": siblings, "private": repo.is_private, "gated": repo.is_gated, "tags": [], "downloads": 0, "likes": 0 }),
        );
    }
    let Some(revision) = rest.strip_prefix("tree/") else { return Response::refused(404, "") };
    let Some(commit) = repo.resolve(revision) else { return Response::refused(404, "RevisionNotFound") };
    let start = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0);
    let page = if hub.page == 0 { 1000 } else { hub.page };
    let files = &repo.commits[&commit];
    let entries: Vec<Value> = files.iter().skip(start).take(page).map(|(name, file)| entry(name, file)).collect();
    let response = Response::json(&Value::Array(entries));
    if start + page >= files.len() {
        return response;
    }
    let path = asked.target.split('?').next().unwrap_or_default();
    response.with("link", format!("<http://{}{path}?recursive=true&cursor={}>; rel=\"next\"", shared.api, start + page))
}

fn entry(name: &str, file: &File) -> Value {
    let mut entry = json!({ "type": "file", "oid": file.git(), "size": file.contents.len(), "path": name });
    if file.is_large {
        entry["lfs"] = json!({ "oid": file.sha256(), "size": file.contents.len(), "pointerSize": 134 });
    }
    entry
}

/// `resolve/REVISION/FILE`.
fn file(id: &str, repo: &Repo, rest: &str, shared: &Shared) -> Response {
    let Some(rest) = rest.strip_prefix("resolve/") else { return Response::refused(404, "") };
    let revisions = repo.branches.keys().chain(repo.commits.keys());
    let found = revisions
        .into_iter()
        .find_map(|revision| Some((revision, rest.strip_prefix(revision.as_str())?.strip_prefix('/')?)));
    let Some((commit, name)) = found.and_then(|(revision, name)| Some((repo.resolve(revision)?, name))) else {
        return Response::refused(404, "RevisionNotFound");
    };
    let Some(file) = repo.commits[&commit].get(name) else {
        return Response::refused(404, "EntryNotFound").with("x-repo-commit", commit);
    };
    let location = if file.is_large {
        format!("http://{}/storage/{}?signature=secret", shared.storage, file.sha256())
    } else {
        format!("/api/resolve-cache/models/{id}/{commit}/{name}")
    };
    let status = if file.is_large { 302 } else { 307 };
    described(Response::new(status, Vec::new()), file, &commit).with("location", location)
}

fn of_contents(contents: Arc<Vec<u8>>) -> Response {
    Response { status: 200, end: contents.len(), body: contents, ..Response::default() }.with("accept-ranges", "bytes")
}

fn described(response: Response, file: &File, commit: &str) -> Response {
    let response = response.with("x-repo-commit", commit).with("etag", format!("\"{}\"", file.etag()));
    if file.is_large {
        response
            .with("x-linked-etag", format!("\"{}\"", file.etag()))
            .with("x-linked-size", file.contents.len().to_string())
    } else {
        response
    }
}

fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = Vec::new();
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let digits = path.get(index + 1..index + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, digits) {
            (b'%', Some(decoded)) => {
                text.push(decoded);
                index += 3;
            }
            _ => {
                text.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
