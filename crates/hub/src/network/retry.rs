//! The retry policy of requests.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, SystemTime},
};

use crate::HubError;

/// Retries on broken connections and busy servers.
///
/// Requests are retried on broken connections and on the statuses 408, 429, 500, 502, 503 and 504, with exponential backoff and random
/// jitter. `Retry-After` is obeyed.
///
/// ```
/// use automodel_hub::{HubOptions, RetryPolicy};
/// let patient = RetryPolicy { attempts: 20, ..RetryPolicy::default() };
/// let options = HubOptions { retries: patient, ..HubOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before giving up; each received mebibyte resets the count.
    pub attempts: u32,
    /// The first pause.
    pub initial_delay: Duration,
    /// The maximum pause without `Retry-After`.
    pub max_delay: Duration,
    /// The maximum `Retry-After` that is obeyed.
    pub max_retry_after: Duration,
    /// A connection without data for this long counts as broken.
    pub stall_timeout: Duration,
    /// A connection must be established within this time.
    pub connect_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(15),
        }
    }
}

impl RetryPolicy {
    /// The pause after the attempt number `tries`, counted from 1.
    pub(crate) fn delay(&self, tries: u32) -> Duration {
        let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = self.initial_delay.saturating_mul(factor).min(self.max_delay);
        // Between half of it and the whole.
        longest.mul_f64(0.5 + 0.5 * random_fraction())
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A retry may succeed.
    Transient(Transient),
    /// A retry cannot succeed.
    Permanent(HubError),
}

/// A transient failure.
#[derive(Debug)]
pub(crate) enum Transient {
    /// The server returned this status.
    Status { status: u16, retry_after: Option<Duration> },
    /// The connection could not be made, or broke.
    Connection(Box<dyn std::error::Error + Send + Sync>),
    /// As [`Connection`](Self::Connection), without a network: not worth many attempts.
    NoNetwork(Box<dyn std::error::Error + Send + Sync>),
}

impl Transient {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Status { status, .. } => format!("status {status}"),
            Self::Connection(cause) | Self::NoNetwork(cause) => cause.to_string(),
        }
    }

    pub(crate) fn into_error(self, url: String, attempts: u32) -> HubError {
        match self {
            Self::Status { status, retry_after } => {
                let retry_after_seconds = retry_after.map(|wait| wait.as_secs());
                HubError::ServerBusy { url, status, attempts, retry_after_seconds }
            }
            Self::Connection(source) | Self::NoNetwork(source) => HubError::Unreachable { url, attempts, source },
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Permanent(error)
    }
}

/// Whether a request with this status is retried.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` in seconds, or as a date.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// At least 0, less than 1. The standard library seeds its hash maps at random, which is enough to spread clients.
fn random_fraction() -> f64 {
    (random_number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A random number.
pub(crate) fn random_number() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_vary_and_end() {
        let policy = RetryPolicy::default();
        for (tries, longest) in [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (100, 30.0)] {
            let delay = policy.delay(tries).as_secs_f64();
            assert!((longest / 2.0..=longest).contains(&delay), "{tries}: {delay}");
        }
    }

    #[test]
    fn dates_are_seconds() {
        for bad in ["", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "a, b c d e f", "99999999999999999999999"] {
            assert_eq!(retry_after(bad), None, "{bad}");
        }
        assert!(retry_after("Sat, 06 Nov 2094 08:49:37 GMT").unwrap() > Duration::from_secs(1 << 30));
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("-1"), None);
    }
}
