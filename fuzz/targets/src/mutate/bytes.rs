//! Mutations of text and of bytes.

use super::Random;

/// Bytes at which parsers turn: ends of ranges, separators, the beginnings of UTF-8 sequences.
const TURNS: &[u8] = b"\0\x01\x1b\x7f\x80\xc2\xe2\xf0\xff\"\\{}[]:,-.0189\n\r /";
/// Most copies of a piece.
const COPIES: usize = 64;

/// Changes `text` once. `words` are those of the format, and `other` is a text to take pieces from.
pub fn mutate(text: &mut Vec<u8>, words: &[&str], other: &[u8], random: &mut Random) {
    let at = random.below(text.len() + 1);
    match random.below(10) {
        0 => {
            if let Some(byte) = text.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let (Some(byte), Some(turn)) = (text.get_mut(at), random.choose(TURNS)) {
                *byte = *turn;
            }
        }
        2 => drop(text.drain(random.range(text.len()))),
        3 => {
            let piece = text[random.range(text.len())].to_vec();
            let copies = if random.chance(4) { random.below(COPIES) } else { 1 };
            insert(text, at, &piece.repeat(copies));
        }
        4 => insert(text, at, &other[random.range(other.len())]),
        5 => {
            let line = random.choose(&other.split_inclusive(|&byte| byte == b'\n').collect::<Vec<_>>()).copied();
            insert(text, at, line.unwrap_or_default());
        }
        6 => another_number(text, at, random),
        7 => text.truncate(at),
        _ => insert(text, at, random.choose(words).copied().unwrap_or_default().as_bytes()),
    }
}

fn insert(text: &mut Vec<u8>, at: usize, piece: &[u8]) {
    text.splice(at..at, piece.iter().copied());
}

/// The next number in the text becomes another one.
fn another_number(text: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = text[at..].iter().position(u8::is_ascii_digit).map(|index| at + index) else { return };
    let length = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = random.choose(super::json::NUMBERS).copied().unwrap_or_default();
    text.splice(start..start + length, number.bytes());
}
