//! Incremental detokenisation.

use crate::{GenerationError, TextTokenizer};

/// Decodes token ids incrementally into pieces of final text.
///
/// A token need not be a whole character, and its text may depend on its neighbours. So a piece is held back while
/// it ends in an incomplete character, or in a run of byte tokens (`<0xE2>`) that the decoder reads as a whole; and
/// each piece is decoded together with the tokens of the piece before it. All pieces together, with that of
/// [`finish`](Self::finish), equal the decoding of all ids at once.
#[derive(Clone, Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t TextTokenizer,
    skip_special_tokens: bool,
    ids: Vec<u32>,
    /// First id of the last piece.
    previous: usize,
    /// First id that is not in a piece yet.
    pending: usize,
    /// Bytes of text that were returned.
    returned: usize,
    ends_in_byte: bool,
}

impl<'t> TextStream<'t> {
    /// An empty stream; `skip_special_tokens` leaves special tokens out.
    pub fn new(tokenizer: &'t TextTokenizer, skip_special_tokens: bool) -> Self {
        Self {
            tokenizer,
            skip_special_tokens,
            ids: Vec::new(),
            previous: 0,
            pending: 0,
            returned: 0,
            ends_in_byte: false,
        }
    }

    /// Adds a token and returns the text that became final, which may be empty.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub fn push(&mut self, id: u32) -> Result<String, GenerationError> {
        self.ids.push(id);
        match self.tokenizer.token(id) {
            Some(token) if !(self.skip_special_tokens && self.tokenizer.is_special(&token)) => {
                self.ends_in_byte = is_byte_token(&token);
            }
            // Decoding leaves this token out, so that its neighbours become adjacent.
            _ => return Ok(String::new()),
        }
        if self.ends_in_byte {
            return Ok(String::new());
        }
        let before = self.decode(self.previous, self.pending)?;
        let text = self.decode(self.previous, self.ids.len())?;
        match text.strip_prefix(before.as_str()) {
            Some(piece) if !piece.is_empty() && !piece.ends_with(char::REPLACEMENT_CHARACTER) => {
                self.previous = self.pending;
                self.pending = self.ids.len();
                self.returned += piece.len();
                Ok(piece.to_owned())
            }
            _ => Ok(String::new()),
        }
    }

    /// Ends the stream: returns what was held back, with U+FFFD for invalid bytes.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub fn finish(&mut self) -> Result<String, GenerationError> {
        let text = self.decode(0, self.ids.len())?;
        let rest = text.get(self.returned..).unwrap_or_default().to_owned();
        self.returned += rest.len();
        self.previous = self.ids.len();
        self.pending = self.ids.len();
        Ok(rest)
    }

    fn decode(&self, from: usize, to: usize) -> Result<String, GenerationError> {
        self.tokenizer.decode(&self.ids[from..to], self.skip_special_tokens)
    }
}

/// Whether a byte-fallback decoder reads `token` as one byte (`decoders/byte_fallback.rs` of tokenizers).
fn is_byte_token(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}
