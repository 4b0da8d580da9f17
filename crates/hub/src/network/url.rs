//! URLs: of the server, of its API and files, and of redirects.

use std::fmt;

use ureq::http::Uri;

use crate::{HubError, RepoId};

/// The default server.
const DEFAULT: &str = "https://huggingface.co";
/// Maximum length of an address in bytes.
const LONGEST: usize = 8192;

/// A server with the Hub's API. Mirrors may be below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// Reads `https://host[:port][/path]`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, HubError> {
        let text = text.unwrap_or(DEFAULT).trim().trim_end_matches('/');
        let invalid = |reason| HubError::InvalidEndpoint { endpoint: text.to_owned(), reason };
        if text.len() > LONGEST {
            return Err(invalid("it is too long"));
        }
        // Text before an `@` may be a password, which no message may show.
        if text.contains('@') {
            let endpoint = "...@...".to_owned();
            return Err(HubError::InvalidEndpoint { endpoint, reason: "it has a user name or password" });
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it cannot be parsed"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(invalid("it does not begin with https:// or http://")),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || text.contains('#') {
            return Err(invalid("it has no host, or more than a host and a path"));
        }
        Ok(Self(text.to_owned()))
    }

    /// `/api/models/ORG/NAME` followed by `rest`.
    pub(crate) fn api(&self, repo: &RepoId, rest: &str) -> String {
        format!("{}/api/models/{repo}{rest}", self.0)
    }

    /// Address of one file of a commit.
    pub(crate) fn file(&self, repo: &RepoId, commit: &str, file: &str) -> String {
        let file: Vec<String> = file.split('/').map(encoded).collect();
        format!("{}/{repo}/resolve/{commit}/{}", self.0, file.join("/"))
    }

    /// The web page of a repo.
    pub(crate) fn page(&self, repo: &RepoId) -> String {
        format!("{}/{repo}", self.0)
    }

    /// Whether `uri` is on this server, so that the token may be sent to it.
    pub(crate) fn has(&self, uri: &Uri) -> bool {
        self.0.parse().is_ok_and(|own: Uri| origin(&own) == origin(uri))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// `text` as one part of a path.
pub(crate) fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The target of a redirect from `base` to `location`, or the reason why it is refused.
pub(crate) fn joined(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    if location.len() > LONGEST {
        return Err("a redirect to an address that is too long");
    }
    let (scheme, authority) = match (base.scheme_str(), base.authority()) {
        (Some(scheme), Some(authority)) => (scheme, authority.as_str()),
        _ => return Err("a redirect from an address without a host"),
    };
    let absolute = if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = absolute.parse().map_err(|_| "a redirect to an address that cannot be parsed")?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if scheme == "http" => Ok(uri),
        Some("http") => Err("a redirect from https to http"),
        _ => Err("a redirect to something other than https"),
    }
}

/// An address for messages: without the query, which may contain a signature.
pub(crate) fn shown(uri: &str) -> String {
    uri.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_servers() {
        for good in ["https://huggingface.co", "http://127.0.0.1:8080/", "https://mirror.example/hf"] {
            assert!(Endpoint::parse(Some(good)).is_ok(), "{good}");
        }
        for bad in
            ["", "huggingface.co", "ftp://x", "https://", "https://a?b", "https://a#b", "file:///etc", "https://a b"]
        {
            assert!(matches!(Endpoint::parse(Some(bad)), Err(HubError::InvalidEndpoint { .. })), "{bad}");
        }
        let error = Endpoint::parse(Some("https://me:secret@host")).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn names_are_encoded_as_parts_of_a_path() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        let endpoint = Endpoint::parse(None).unwrap();
        let repo = RepoId::parse("a/b").unwrap();
        assert_eq!(endpoint.file(&repo, "c", "d e/ü#.txt"), "https://huggingface.co/a/b/resolve/c/d%20e/%C3%BC%23.txt");
    }

    #[test]
    fn the_token_is_for_one_origin() {
        let endpoint = Endpoint::parse(Some("https://Hub.example")).unwrap();
        let has = |uri: &str| endpoint.has(&uri.parse().unwrap());
        assert!(has("https://hub.example/x") && has("https://hub.example:443/x"));
        for other in ["http://hub.example/x", "https://hub.example:444/", "https://hub.example.evil/", "https://cdn/"] {
            assert!(!has(other), "{other}");
        }
    }

    #[test]
    fn redirects_are_joined_and_never_weakened() {
        let base: Uri = "https://hub/a/b?c".parse().unwrap();
        let to = |location| joined(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("https://cdn/x?y").unwrap(), "https://cdn/x?y");
        assert_eq!(to("/x?u=http://z").unwrap(), "https://hub/x?u=http://z");
        assert_eq!(to("//cdn/x").unwrap(), "https://cdn/x");
        assert_eq!(to("x").unwrap(), "https://hub/a/x");
        for bad in ["http://hub/x", "file:///etc/passwd", "https://", "https://a b/"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(joined(&"http://hub/".parse().unwrap(), "http://cdn/").is_ok());
    }
}
