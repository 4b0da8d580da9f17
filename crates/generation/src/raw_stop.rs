//! Stop strings in the raw text of all tokens: also of special ones, which are not part of the output, and of the prompt.

use crate::stop::longest_beginning;
use crate::{GenerationError, TextStream, TextTokenizer};

/// Finds stop strings where transformers does (`StopStringCriteria`, `generation/stopping_criteria.py` of 5.23): in the raw text of
/// prompt and output, special tokens included. A string matches if it ends within the last token.
#[derive(Clone, Debug)]
pub(crate) struct RawStops<'t> {
    tokenizer: &'t TextTokenizer,
    stream: TextStream<'t>,
    stops: Vec<String>,
    skip_special_tokens: bool,
    /// The end of the raw text, with which a stop string may begin.
    tail: String,
    /// For each byte of `tail` whether it is part of the text.
    in_text: Vec<bool>,
}

impl<'t> RawStops<'t> {
    /// Searches for `stops` after `prompt`.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub(crate) fn new(
        tokenizer: &'t TextTokenizer,
        stops: &[String],
        prompt: &[u32],
        skip_special_tokens: bool,
    ) -> Result<Self, GenerationError> {
        let stops: Vec<String> = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        let stream = TextStream::new(tokenizer, false);
        let mut raw = Self { tokenizer, stream, stops, skip_special_tokens, tail: String::new(), in_text: Vec::new() };
        // A token has at least a character, or part of one.
        let longest = raw.stops.iter().map(String::len).max().unwrap_or(0);
        for &token in &prompt[prompt.len() - longest.min(prompt.len())..] {
            raw.take(token, true, false)?;
            raw.keep_beginning();
        }
        Ok(raw)
    }

    /// Adds the next token, which is not part of the output if `unseen`. If it completes a stop string, returns the number of output
    /// bytes that belong to the string or follow it.
    ///
    /// # Errors
    /// [`GenerationError::Tokenizer`].
    pub(crate) fn push(&mut self, token: u32, unseen: bool) -> Result<Option<usize>, GenerationError> {
        let old = self.tail.len();
        self.take(token, false, unseen)?;
        match self.find_after(old) {
            Some(start) => Ok(Some(self.count(start))),
            None => {
                self.keep_beginning();
                Ok(None)
            }
        }
    }

    /// The start of the stop string that ends first after the first `old` bytes of the tail.
    fn find_after(&self, old: usize) -> Option<usize> {
        let ends = self.stops.iter().filter_map(|stop| {
            let from = self.tail.ceil_char_boundary((old + 1).saturating_sub(stop.len()));
            let start = from + self.tail.get(from..)?.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        ends.min().map(|(_, start)| start)
    }

    /// Bytes at the end of the output that may be the beginning of a stop string.
    pub(crate) fn held(&self) -> usize {
        self.count(0)
    }

    /// Output bytes from `start` of the tail on.
    fn count(&self, start: usize) -> usize {
        self.in_text.iter().skip(start).filter(|in_text| **in_text).count()
    }

    fn take(&mut self, token: u32, is_prompt: bool, unseen: bool) -> Result<(), GenerationError> {
        let piece = self.stream.push(token)?;
        let is_unseen = |name: &String| unseen || (self.skip_special_tokens && self.tokenizer.is_special(name));
        // Text that was held back may be released by the special token.
        let unseen = match self.tokenizer.token(token).filter(is_unseen) {
            Some(name) if piece.ends_with(name.as_str()) => name.len(),
            Some(_) => piece.len(),
            None => 0,
        };
        self.in_text.extend((0..piece.len()).map(|at| !is_prompt && at < piece.len() - unseen));
        self.tail += &piece;
        Ok(())
    }

    /// Drops bytes that cannot begin a stop string.
    fn keep_beginning(&mut self) {
        let forgotten = self.tail.len() - longest_beginning(&self.stops, &self.tail);
        self.tail.drain(..forgotten);
        self.in_text.drain(..forgotten);
    }
}
