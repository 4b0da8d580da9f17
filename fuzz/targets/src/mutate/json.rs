//! Mutations of JSON that leave it JSON: other values, other shapes, keys twice and not at all.

use super::Random;

/// Numbers at the ends of ranges, among them those that Python reads and JSON does not have.
pub const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "64",
    "127",
    "128",
    "255",
    "256",
    "257",
    "1000",
    "4096",
    "65535",
    "65536",
    "100000",
    "1000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "1000000000",
    "1099511627776",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "0.0",
    "-0.0",
    "0.5",
    "1.0",
    "1.5",
    "-0.5",
    "1e-320",
    "1e-45",
    "1e-8",
    "1e38",
    "3.5e38",
    "1e308",
    "1e309",
    "-1e309",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "123456789012345678901234567890",
];
const STRINGS: &[&str] = &[
    "\"\"",
    "\" \"",
    "\"0\"",
    "\"-1\"",
    "\"auto\"",
    "\"none\"",
    "\"\\u0000\"",
    "\"\\u001b[2J\"",
    "\"\\ud800\"",
    "\"\\u202e\"",
    "\"../x\"",
    "\"/etc/passwd\"",
    "\"C:\\\\x\"",
    "\"a\\nb\"",
    "\"😀\"",
    "\"%s%n\"",
    "\"NaN\"",
];
const OTHERS: &[&str] = &["null", "true", "false", "[]", "{}", "[null]", "[[]]"];
/// Deeper text is not taken for JSON, so that this code does not overflow its stack.
const DEEPEST: usize = 200;
/// Nesting that mutations add at once.
const MOST_NESTING: usize = 150;
/// Most copies of an item.
const COPIES: usize = 40;

/// JSON with details that parsers lose: the spelling of numbers, repeated keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// A number, a string with its quotes, or a word.
    Atom(Vec<u8>),
    List(Vec<Json>),
    /// Keys have their quotes.
    Object(Vec<(Vec<u8>, Json)>),
}

/// Keys and values that seeds have, for use in other places.
#[derive(Debug, Default)]
pub struct Vocabulary {
    keys: Vec<Vec<u8>>,
    values: Vec<Json>,
}

impl Vocabulary {
    /// Remembers the values in `json`.
    pub fn learn(&mut self, json: &Json) {
        match json {
            Json::Atom(_) => {}
            Json::List(items) => items.iter().for_each(|item| self.learn(item)),
            Json::Object(entries) => {
                for (key, value) in entries {
                    if !self.keys.contains(key) {
                        self.keys.push(key.clone());
                    }
                    if !self.values.contains(value) {
                        self.values.push(value.clone());
                    }
                    self.learn(value);
                }
            }
        }
    }
}

impl Json {
    /// Reads a text whose outside is an object or a list; anything else is not taken for JSON.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        if !matches!(text.first(), Some(b'{' | b'[')) {
            return None;
        }
        let mut parser = Parser { text, at: 0 };
        let json = parser.value(0)?;
        parser.skip_space();
        (parser.at == text.len()).then_some(json)
    }

    /// As text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut Vec<u8>) {
        match self {
            Self::Atom(atom) => text.extend_from_slice(atom),
            Self::List(items) => {
                text.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    text.extend_from_slice(if index > 0 { b", " } else { b"" });
                    item.write(text);
                }
                text.push(b']');
            }
            Self::Object(entries) => {
                text.push(b'{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    text.extend_from_slice(if index > 0 { b", " } else { b"" });
                    text.extend_from_slice(key);
                    text.extend_from_slice(b": ");
                    value.write(text);
                }
                text.push(b'}');
            }
        }
    }

    /// Values in it, itself included.
    fn count(&self) -> usize {
        1 + match self {
            Self::Atom(_) => 0,
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Object(entries) => entries.iter().map(|(_, value)| value.count()).sum::<usize>(),
        }
    }

    /// The value number `index`, in the order of the text.
    fn nth(&mut self, index: &mut usize) -> Option<&mut Self> {
        if *index == 0 {
            return Some(self);
        }
        *index -= 1;
        match self {
            Self::Atom(_) => None,
            Self::List(items) => items.iter_mut().find_map(|item| item.nth(index)),
            Self::Object(entries) => entries.iter_mut().find_map(|(_, value)| value.nth(index)),
        }
    }

    /// Changes one place.
    pub fn mutate(&mut self, vocabulary: &Vocabulary, random: &mut Random) {
        let mut index = random.below(self.count());
        let Some(place) = self.nth(&mut index) else { return };
        // Inside of a list or an object there is more to change than the whole of it.
        match place {
            Self::Object(entries) if !random.chance(8) => mutate_object(entries, vocabulary, random),
            Self::List(items) if !random.chance(6) => mutate_list(items, vocabulary, random),
            _ => *place = replacement(place, vocabulary, random),
        }
    }
}

fn mutate_object(entries: &mut Vec<(Vec<u8>, Json)>, vocabulary: &Vocabulary, random: &mut Random) {
    let (index, other) = (random.below(entries.len()), random.below(entries.len()));
    match random.below(6) {
        0 if !entries.is_empty() => drop(entries.remove(index)),
        1 if !entries.is_empty() => {
            let (key, value) = entries[index].clone();
            let value = replacement(&value, vocabulary, random);
            entries.push((key, value));
        }
        2 if !entries.is_empty() => {
            let value = entries[other].1.clone();
            entries[index].1 = value;
        }
        3 if !entries.is_empty() => {
            let key = random.choose(&vocabulary.keys).cloned().unwrap_or_else(|| b"\"x\"".to_vec());
            entries[index].0 = key;
        }
        4 if !entries.is_empty() => entries[index].1 = replacement(&entries[index].1.clone(), vocabulary, random),
        _ => {
            let key = random.choose(&vocabulary.keys).cloned().unwrap_or_else(|| b"\"x\"".to_vec());
            let value = random.choose(&vocabulary.values).cloned().unwrap_or(Json::Atom(b"1".to_vec()));
            entries.insert(index, (key, value));
        }
    }
}

fn mutate_list(items: &mut Vec<Json>, vocabulary: &Vocabulary, random: &mut Random) {
    let (index, other) = (random.below(items.len()), random.below(items.len()));
    match random.below(5) {
        0 if !items.is_empty() => drop(items.remove(index)),
        1 if !items.is_empty() => {
            let copies = if random.chance(3) { random.below(COPIES) } else { 1 };
            let item = items[index].clone();
            items.splice(index..index, std::iter::repeat_n(item, copies));
        }
        2 if !items.is_empty() => items.swap(index, other),
        3 if !items.is_empty() => items[index] = replacement(&items[index].clone(), vocabulary, random),
        _ => items.insert(index, random.choose(&vocabulary.values).cloned().unwrap_or(Json::Atom(b"1".to_vec()))),
    }
}

/// Something else in the place of `old`, mostly of the same kind.
fn replacement(old: &Json, vocabulary: &Vocabulary, random: &mut Random) -> Json {
    let atom = |list: &[&str], random: &mut Random| {
        Json::Atom(random.choose(list).copied().unwrap_or_default().as_bytes().to_vec())
    };
    match (old, random.below(8)) {
        (Json::Atom(old), 0..=4) if old.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-') => {
            match (random.below(4), std::str::from_utf8(old).ok().and_then(|text| text.parse::<i64>().ok())) {
                (0, Some(number)) => Json::Atom(near(number, random).to_string().into_bytes()),
                _ => atom(NUMBERS, random),
            }
        }
        (Json::Atom(old), 0..=4) if old.first() == Some(&b'"') => match random.below(3) {
            0 => atom(STRINGS, random),
            1 => Json::Atom([b"\"".as_slice(), &b"A".repeat(random.below(300)), b"\""].concat()),
            _ => random.choose(&vocabulary.keys).cloned().map_or(Json::Atom(b"\"\"".to_vec()), Json::Atom),
        },
        (_, 0..=2) => atom(NUMBERS, random),
        (_, 3) => atom(STRINGS, random),
        (_, 4) => atom(OTHERS, random),
        (old, 5) => {
            let mut nested = old.clone();
            for _ in 0..if random.chance(3) { random.below(MOST_NESTING) } else { 1 } {
                nested = match random.choose(&vocabulary.keys) {
                    Some(key) if random.chance(2) => Json::Object(vec![(key.clone(), nested)]),
                    _ => Json::List(vec![nested]),
                };
            }
            nested
        }
        _ => random.choose(&vocabulary.values).cloned().unwrap_or(Json::Atom(b"null".to_vec())),
    }
}

fn near(number: i64, random: &mut Random) -> i64 {
    match random.below(5) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number.wrapping_neg(),
        3 => number.wrapping_mul(2),
        _ => number / 2,
    }
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Whether `byte` comes next, which is passed then.
    fn passes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let passes = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(passes);
        passes
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        if self.passes(b'[') {
            let mut items = Vec::new();
            while !self.passes(b']') {
                if !items.is_empty() && !self.passes(b',') {
                    return None;
                }
                items.push(self.value(depth + 1)?);
            }
            return Some(Json::List(items));
        }
        if self.passes(b'{') {
            let mut entries = Vec::new();
            while !self.passes(b'}') {
                if !entries.is_empty() && !self.passes(b',') {
                    return None;
                }
                self.skip_space();
                let key = self.string()?;
                if !self.passes(b':') {
                    return None;
                }
                entries.push((key, self.value(depth + 1)?));
            }
            return Some(Json::Object(entries));
        }
        if self.text.get(self.at) == Some(&b'"') {
            return self.string().map(Json::Atom);
        }
        let rest = self.text.get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        self.at += length;
        (length > 0).then(|| Json::Atom(rest[..length].to_vec()))
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return None;
        }
        loop {
            self.at += 1;
            match self.text.get(self.at)? {
                b'\\' => self.at += 1,
                b'"' => break,
                _ => {}
            }
        }
        self.at += 1;
        Some(self.text[start..self.at].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parsers_lose_is_kept() {
        let text = br#"{"a": 1e400, "a": NaN, "b\"": [[], {}, -0.0, "\\"], "": null}"#;
        assert_eq!(Json::parse(text).unwrap().text(), text);
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "1", "{", "[1", "[1 2]", "{1: 2}", "{\"a\" 1}", "[\"]", "[1] x", "[\"a\\"] {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Json::parse("[".repeat(100_000).as_bytes()), None);
    }

    #[test]
    fn every_value_has_a_number() {
        let mut json = Json::parse(br#"{"a": [1, {"b": 2}], "c": 3}"#).unwrap();
        assert_eq!(json.count(), 6);
        let texts = (0..6).map(|index| String::from_utf8(json.nth(&mut { index }).unwrap().text()).unwrap());
        assert_eq!(texts.skip(2).collect::<Vec<_>>(), ["1", r#"{"b": 2}"#, "2", "3"]);
    }
}
