//! HTTP: requests with redirects and retries.

use std::{
    io::Read,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Uri},
};

use super::{
    retry::{Failure, Transient, is_transient, retry_after},
    url::{Endpoint, joined, shown},
};
use crate::{DownloadEvent, Environment, HubError, HubOptions, RetryPolicy, Token, options};

/// Maximum of redirects.
const REDIRECTS: usize = 10;
/// Maximum bytes of all headers of a response.
const HEADER_BYTES: usize = 64 << 10;
/// Attempts without a network.
const NO_NETWORK_ATTEMPTS: u32 = 2;
/// A pause is slept in pieces of this length, so that it can be cancelled.
const SLICE: Duration = Duration::from_millis(25);

/// A client for one server.
pub(crate) struct Client {
    agent: Agent,
    pub(crate) endpoint: Endpoint,
    token: Option<Token>,
    policy: RetryPolicy,
    progress: options::Reporter,
    /// Another thread failed, or the caller cancelled: no more requests.
    pub(crate) stopped: AtomicBool,
}

/// A response whose body was not read yet.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    /// `x-repo-commit` of any response on the redirect chain.
    pub(crate) commit: Option<String>,
    /// `x-error-code` of the Hub.
    pub(crate) code: Option<String>,
}

impl Response {
    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A reader of the body.
    pub(crate) fn reader(self) -> impl Read + use<> {
        self.body.into_reader()
    }

    /// The first bytes of the body, at most `limit`, and whether that was all.
    pub(crate) fn bytes(self, limit: u64) -> Result<(Vec<u8>, bool), Failure> {
        let mut bytes = Vec::new();
        self.reader().take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
        let is_all = bytes.len() as u64 <= limit;
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((bytes, is_all))
    }
}

impl Client {
    pub(crate) fn new(options: &HubOptions, environment: &Environment) -> Result<Self, HubError> {
        let endpoint = Endpoint::parse(options.endpoint.as_deref().or(environment.hf_endpoint.as_deref()))?;
        let token = match &options.token {
            Some(token) => Some(token.clone()),
            None => environment.token()?,
        };
        let policy = options.retries;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_response_header_size(HEADER_BYTES)
            .user_agent(concat!("automodel/", env!("CARGO_PKG_VERSION")))
            // The size of the body is checked, so compression is disabled.
            .accept_encoding("identity")
            .timeout_connect(Some(policy.connect_timeout))
            .timeout_resolve(Some(policy.connect_timeout))
            .timeout_recv_response(Some(policy.stall_timeout))
            .timeout_per_read(Some(policy.stall_timeout))
            .timeout_per_write(Some(policy.stall_timeout))
            .proxy(proxy(&endpoint, environment)?);
        let stopped = AtomicBool::new(false);
        let agent = config.build().into();
        Ok(Self { agent, endpoint, token, policy, progress: options.reporter(), stopped })
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check_stopped(&self) -> Result<(), HubError> {
        if self.stopped.load(Ordering::Relaxed) { Err(HubError::Cancelled) } else { Ok(()) }
    }

    /// One request with its redirects. Transient statuses are failures; all others are responses.
    pub(crate) fn get(&self, url: &str, range: Option<Range<u64>>) -> Result<Response, Failure> {
        let unusable =
            |reason: &str| Failure::Permanent(HubError::InvalidResponse { url: shown(url), reason: reason.to_owned() });
        let mut uri: Uri = url.parse().map_err(|_| unusable("its address cannot be parsed"))?;
        let (mut commit, mut code) = (None, None);
        for _ in 0..=REDIRECTS {
            self.check_stopped()?;
            let is_own = self.endpoint.has(&uri);
            let mut request = self.agent.get(uri.clone());
            if let Some(token) = self.token.as_ref().filter(|_| is_own) {
                request = request.header("Authorization", token.authorization());
            }
            if let Some(range) = range.as_ref().filter(|range| !range.is_empty()) {
                request = request.header("Range", format!("bytes={}-{}", range.start, range.end - 1));
            }
            let (parts, body) = request.call().map_err(of_ureq)?.into_parts();
            let status = parts.status.as_u16();
            let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            if is_own {
                commit = commit.or_else(|| header("x-repo-commit"));
                code = header("x-error-code").or(code);
            }
            if is_transient(status) {
                let retry_after = header("retry-after").and_then(|value| retry_after(&value));
                return Err(Failure::Transient(Transient::Status { status, retry_after }));
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Response { status, headers: parts.headers, body, commit, code });
            }
            let location = header("location").ok_or_else(|| unusable("a redirect without a location"))?;
            uri = joined(&uri, &location).map_err(unusable)?;
        }
        Err(unusable(&format!("more than {REDIRECTS} redirects")))
    }

    /// Retries `attempt` while it fails with a transient failure, at most `most` times without progress. The attempt reports the total
    /// of received bytes.
    pub(crate) fn repeat<T>(
        &self,
        what: &str,
        most: Option<u32>,
        mut attempt: impl FnMut(&mut u64) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let (mut tries, mut arrived, mut counted) = (0, 0, 0);
        loop {
            let passing = match attempt(&mut arrived) {
                Ok(value) => return Ok(value),
                Err(Failure::Permanent(error)) => return Err(error),
                Err(Failure::Transient(passing)) => passing,
            };
            if arrived - counted >= 1 << 20 {
                (tries, counted) = (0, arrived);
            }
            tries += 1;
            let most = match &passing {
                Transient::NoNetwork(_) => self.policy.attempts.min(NO_NETWORK_ATTEMPTS),
                _ => self.policy.attempts,
            }
            .min(most.unwrap_or(u32::MAX));
            let asked = match &passing {
                Transient::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            let delay = asked.unwrap_or_default().max(self.policy.delay(tries));
            if tries >= most || asked.is_some_and(|asked| asked > self.policy.max_retry_after) {
                return Err(passing.into_error(shown(what), tries));
            }
            self.progress.event(DownloadEvent::Retrying { what: &shown(what), reason: &passing.reason(), delay });
            self.pause(delay)?;
        }
    }

    fn pause(&self, delay: Duration) -> Result<(), HubError> {
        let end = Instant::now() + delay;
        loop {
            self.check_stopped()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(SLICE));
        }
    }
}

/// A connection that broke while a body was read.
pub(crate) fn broken(error: std::io::Error) -> Failure {
    Failure::Transient(Transient::Connection(error.into()))
}

fn of_ureq(error: ureq::Error) -> Failure {
    use ureq::Error::{ConnectionFailed, HostNotFound, InvalidProxyUrl, Rustls, Tls};
    match error {
        HostNotFound | ConnectionFailed => Failure::Transient(Transient::NoNetwork(error.into())),
        // An untrusted certificate is not transient.
        Rustls(_) | Tls(_) | InvalidProxyUrl => {
            let (url, attempts) = ("the server".to_owned(), 1);
            Failure::Permanent(HubError::Unreachable { url, attempts, source: error.into() })
        }
        ureq::Error::Io(error) if is_without_network(&error) => Failure::Transient(Transient::NoNetwork(error.into())),
        _ => Failure::Transient(Transient::Connection(error.into())),
    }
}

/// Whether the host is unreachable or its name cannot be resolved.
fn is_without_network(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    let is_of_kind = matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable);
    // A failed name resolution has no error kind.
    is_of_kind || error.to_string().contains("failed to lookup address")
}

/// The proxy of the environment for the server, unless `NO_PROXY` has it.
fn proxy(endpoint: &Endpoint, environment: &Environment) -> Result<Option<ureq::Proxy>, HubError> {
    let is_https = endpoint.to_string().starts_with("https:");
    let named = if is_https { &environment.https_proxy } else { &environment.http_proxy };
    let Some(address) = named else { return Ok(None) };
    let unreachable = |source: ureq::Error| HubError::Unreachable {
        url: "the proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY".to_owned(),
        attempts: 0,
        source: source.into(),
    };
    let parsed = ureq::Proxy::new(address).map_err(unreachable)?;
    let mut builder = ureq::Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(name) = parsed.username() {
        builder = builder.username(name);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let direct = environment.no_proxy.iter().flat_map(|hosts| hosts.split(',')).map(str::trim);
    for host in direct.filter(|host| !host.is_empty()) {
        // `example.com` includes its subdomains.
        builder = builder.no_proxy(host);
        if !host.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{host}"));
        }
    }
    builder.build().map(Some).map_err(unreachable)
}
