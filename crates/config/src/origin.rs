//! The origin of a value.

use std::fmt;

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Written in the file.
    File,
    /// An override by the caller.
    Override,
    /// Absent from the file; the default of the config class.
    ClassDefault,
    /// Derived from other values, with the reason.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File => f.write_str("from the file"),
            Origin::Override => f.write_str("from an override"),
            Origin::ClassDefault => f.write_str("from the class default"),
            Origin::Derived(why) => write!(f, "derived: {why}"),
        }
    }
}
