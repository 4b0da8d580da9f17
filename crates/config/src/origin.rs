//! Where a value came from.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Written in the file.
    File,
    /// Given by the caller on top of the file.
    Override,
    /// Absent from the file; what the config class assumes.
    ClassDefault,
    /// Concluded from other values, with the reason.
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
