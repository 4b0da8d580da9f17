//! Access tokens, which are never shown.

use std::fmt;

use crate::HubError;

/// Maximum length of a token in bytes.
const LONGEST: usize = 4096;

/// An access token of the Hub. Its text is never in a message, log or debug output.
///
/// ```
/// let token = automodel_hub::Token::new("hf_secret", "an option")?;
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// # Ok::<(), automodel_hub::HubError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from `text`, trimmed; `origin` names its source in errors.
    ///
    /// # Errors
    /// [`HubError::InvalidToken`] if it cannot be sent: empty, spaces, control characters, non-ASCII characters.
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
    fn tokens_that_do_not_fit_a_header_are_refused_and_not_shown() {
        assert!(Token::new(" hf_abc\n", "a file").is_ok());
        for bad in ["", " ", "a b", "a\r\nX-Evil: 1", "tökén", &"a".repeat(LONGEST + 1)] {
            let error = Token::new(bad, "HF_TOKEN").unwrap_err().to_string();
            assert!(error.contains("HF_TOKEN") && (bad.trim().is_empty() || !error.contains(bad)), "{error}");
        }
    }
}
