//! Pieces of text against decoding everything at once.

use crate::support::{byte_fallback, byte_level, tokenizer, word_level};
use automodel_generation::{TextStream, TextTokenizer};
use proptest::prelude::*;

fn pieces(tokenizer: &TextTokenizer, ids: &[u32], skip: bool) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer, skip);
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

proptest! {
    #[test]
    fn pieces_make_the_whole(
        // Ids beyond each vocabulary are in it, and the bytes of é, € and 🎉 more often than others.
        ids in prop::collection::vec(
            prop_oneof![0u32..280, 0u32..12, prop::sample::select(vec![0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x8e, 0x89])],
            0..40,
        ),
        shift in prop::bool::ANY,
        skip in prop::bool::ANY,
    ) {
        // The byte tokens of the byte-fallback vocabulary begin at 9.
        let shifted: Vec<u32> = ids.iter().map(|id| if shift { id + 9 } else { *id }).collect();
        for file in [byte_level(), byte_fallback(), word_level(&["<unk>", "one", "two", "three"])] {
            let tokenizer = tokenizer(&file);
            prop_assert_eq!(pieces(&tokenizer, &shifted, skip).concat(), tokenizer.decode(&shifted, skip).unwrap());
        }
    }
}

#[test]
fn characters_come_when_they_are_complete() {
    let tokenizer = tokenizer(&byte_level());
    let ids = tokenizer.encode("a€b", false).unwrap();
    assert_eq!(pieces(&tokenizer, &ids, true), ["a", "", "", "€", "b", ""]);
    let ids = tokenizer.encode("é", false).unwrap();
    assert_eq!(pieces(&tokenizer, &ids[..1], true), ["", "\u{fffd}"]);
}

#[test]
fn a_run_of_byte_tokens_comes_as_one() {
    let tokenizer = tokenizer(&byte_fallback());
    let ids = tokenizer.encode("€€a a", false).unwrap();
    let text: Vec<String> = pieces(&tokenizer, &ids, true);
    // One byte too many would have turned the whole run into U+FFFD.
    assert_eq!(text.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["€€a", " a"]);
}
