//! Stop strings in streamed text.

use std::ops::Range;

/// Finds stop strings in streamed text, and holds back text that may be the beginning of one.
///
/// The first stop string to be *complete* ends the text (the longest, if several end at one place), so the result does not depend on
/// how the text is cut into pieces.
///
/// ```
/// use automodel_generation::StopStrings;
///
/// let mut stop = StopStrings::new(["\nUser:"]);
/// assert_eq!(stop.push("75\nUs"), "75");
/// assert_eq!(stop.push("ually"), "\nUsually");
/// assert_eq!(stop.push(" so\nUser: more"), " so");
/// assert!(stop.matched());
/// assert_eq!(stop.push("never seen"), "");
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    matched: bool,
}

impl StopStrings {
    /// Searches for any of `stops`; empty ones are ignored.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Self {
        let stops = stops.into_iter().map(Into::into).filter(|stop: &String| !stop.is_empty()).collect();
        Self { stops, held: String::new(), matched: false }
    }

    /// Adds a piece and returns the text that is final, up to the stop string if there is one.
    pub fn push(&mut self, piece: &str) -> String {
        self.push_holding(piece, 0)
    }

    /// As [`push`](Self::push), but holds back at least the last `hold` bytes.
    pub(crate) fn push_holding(&mut self, piece: &str, hold: usize) -> String {
        if self.matched {
            return String::new();
        }
        self.held.push_str(piece);
        let certain = match first_match(&self.stops, &self.held) {
            Some(found) => {
                self.matched = true;
                found.start
            }
            None => {
                let held = longest_beginning(&self.stops, &self.held).max(hold);
                self.held.floor_char_boundary(self.held.len().saturating_sub(held))
            }
        };
        let rest = self.held.split_off(certain);
        let text = std::mem::replace(&mut self.held, rest);
        if self.matched {
            self.held.clear();
        }
        text
    }

    /// Ends the text: returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub fn matched(&self) -> bool {
        self.matched
    }
}

/// The stop string that ends first, of several that end there the longest.
fn first_match(stops: &[String], text: &str) -> Option<Range<usize>> {
    let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
    found.min().map(|(end, start)| start..end)
}

/// Length of the longest suffix of `text` that is the beginning of a stop string.
pub(crate) fn longest_beginning(stops: &[String], text: &str) -> usize {
    let begins = |tail: &str| stops.iter().any(|stop| stop.starts_with(tail));
    text.char_indices().map(|(at, _)| &text[at..]).find(|tail| begins(tail)).map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, character by character.
    fn cut(text: &str, stops: &[String]) -> (String, bool) {
        for end in 1..=text.len() {
            let longest = stops
                .iter()
                .filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()))
                .map(String::len)
                .max();
            if let Some(length) = longest {
                return (text[..end - length].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn pieces_do_not_change_the_cut(
            pieces in prop::collection::vec("[abc]{0,4}", 0..8),
            stops in prop::collection::vec("[abc]{0,4}", 0..4),
        ) {
            let mut stop = StopStrings::new(stops.clone());
            let mut text = String::new();
            for piece in &pieces {
                text += &stop.push(piece);
            }
            text += &stop.finish();
            prop_assert_eq!((text, stop.matched()), cut(&pieces.concat(), &stops));
        }
    }

    #[test]
    fn holds_back_no_more_than_a_beginning() {
        let mut stop = StopStrings::new(["</s>", "<|end|>"]);
        assert_eq!(stop.push("a < b"), "a < b");
        assert_eq!(stop.push("<|en"), "");
        assert_eq!(stop.push("é"), "<|ené");
        assert_eq!(stop.push("<"), "");
        assert_eq!(stop.finish(), "<");
    }
}
