//! JSON of tens of thousands of short strings, read without copying them.

use serde::{Deserialize, Deserializer, de::Visitor};
use std::{borrow::Cow, error::Error, fmt};

/// Parses JSON. That it is UTF-8 is checked once for the whole text, which is quicker than for each string.
pub(super) fn parse_json<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Box<dyn Error + Send + Sync>> {
    Ok(serde_json::from_str(std::str::from_utf8(text)?)?)
}

/// A string, borrowed from the JSON text unless it has escapes.
pub(super) struct Text<'t>(pub Cow<'t, str>);

impl<'de: 't, 't> Deserialize<'de> for Text<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Any)
    }
}
