//! Access tokens, which are never shown.

use std::fmt;

use crate::HubError;

/// Longest token in bytes.
const LONGEST: usize = 4096;

/// An access token of the Hub. Its text is in no message, log or debug output.
///
/// ```
/// let token = automodel_hub::Token::new("hf_secret", "an option")?;
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// # Ok::<(), automodel_hub::HubError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes `text` without the spaces around it; `origin` says in an error where it comes from.
    ///
    /// # Errors
    /// [`HubError::InvalidToken`] for what could not be sent: nothing, spaces, control characters, more than ASCII.
    pub fn new(text: &str, origin: &str) -> Result<Self, HubError> {
        let text = text.trim();
        let is_valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Self(text.to_owned())) } else { Err(HubError::InvalidToken { origin: origin.to_owned() }) }
    }

    /// The value of the header `Authorization`.
    #[cfg(feature = "network")]
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_could_hold_is_refused_and_not_shown() {
        assert!(Token::new(" hf_abc\n", "a file").is_ok());
        for bad in ["", " ", "a b", "a\r\nX-Evil: 1", "tökén", &"a".repeat(LONGEST + 1)] {
            let error = Token::new(bad, "HF_TOKEN").unwrap_err().to_string();
            assert!(error.contains("HF_TOKEN") && (bad.trim().is_empty() || !error.contains(bad)), "{error}");
        }
    }
}
