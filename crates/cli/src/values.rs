//! Parsers of option values.

use automodel::DeviceName;
use automodel::config::{ConfigError, Overrides};

/// Parses the name of a device that this build supports.
pub fn device(name: &str) -> Result<DeviceName, String> {
    let device: DeviceName = name.parse().map_err(|_| no_device(name))?;
    if device.is_built() { Ok(device) } else { Err(no_device(name)) }
}

fn no_device(name: &str) -> String {
    format!("this build of automodel has no device `{name}`, only `{}`", DeviceName::built().join("`, `"))
}

/// Reads `KEY=VALUE`.
pub fn config_override(text: &str) -> Result<Overrides, ConfigError> {
    Overrides::parse([text])
}

/// Token ids, as the option `--tokens` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(pub Vec<u32>);

/// Reads `1,2,3`.
pub fn tokens(text: &str) -> Result<Tokens, String> {
    let token = |(index, part): (usize, &str)| {
        let part = part.trim();
        let number = part.parse().map_err(|_| format!("entry {} is `{part}`, which is not a token id", index + 1));
        number.map_err(|problem| format!("{problem}; write ids of at least 0, separated by commas: 1,2,3"))
    };
    text.split(',').enumerate().map(token).collect::<Result<_, _>>().map(Tokens)
}

/// Reads a length of context: `4096`, `4k`, `1M`, in binary units.
pub fn positions(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(number), _) => (number, 1 << 10),
        (_, Some(number)) => (number, 1 << 20),
        _ => (lower.as_str(), 1),
    };
    match number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(positions) if (1..=1 << 40).contains(&positions) => Ok(positions),
        _ => Err("write a number of tokens of at least 1: 4096, 4k, 1M".to_owned()),
    }
}

/// Parses a number above 0.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("a number of at least 1 is expected".to_owned()),
    }
}

/// Reads a number of rows, or `all`.
pub fn row_count(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        number => number.parse().map_err(|_| "a number or `all` is expected".to_owned()),
    }
}

/// Reads a size in bytes: `5GB`, `512MiB`, `1000000`. Decimal units as transformers has them, and binary ones.
pub fn byte_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 11] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("b", 1),
        ("g", 1_000_000_000),
        ("m", 1_000_000),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit))).unwrap_or((lower.as_str(), 1));
    let number: u64 =
        number.trim().parse().map_err(|_| "write a whole number and a unit: 5GB, 500MB, 2GiB".to_owned())?;
    match number.checked_mul(unit) {
        Some(0) => Err("a size must be at least 1 byte".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("the size is too large".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let sizes = [("5GB", 5_000_000_000), (" 2 GiB ", 2 << 30), ("500mb", 500_000_000), ("7", 7), ("7b", 7)];
        for (text, expected) in sizes {
            assert_eq!(byte_size(text), Ok(expected), "{text}");
        }
        for bad in ["", "GB", "1.5GB", "-1", "0", "99999999999TB", "5PB"] {
            assert!(byte_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_context_have_binary_units() {
        for (text, expected) in [("1", 1), (" 4k", 4096), ("1M", 1 << 20), ("40960", 40_960)] {
            assert_eq!(positions(text), Ok(expected), "{text}");
        }
        for bad in ["", "0", "k", "0k", "-1", "1.5k", "4kb", "99999999999999999999", "99999999999999M", "1099511627777"]
        {
            assert!(positions(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_are_counted_or_all() {
        assert_eq!((row_count("all"), row_count("0"), at_least_one("3")), (Ok(usize::MAX), Ok(0), Ok(3)));
        assert!(row_count("some").is_err() && row_count("-1").is_err() && at_least_one("0").is_err());
    }

    #[test]
    fn tokens_are_named_where_they_are_wrong() {
        assert_eq!(tokens("1, 2,3"), Ok(Tokens(vec![1, 2, 3])));
        for (bad, entry) in [("1,,3", 2), ("", 1), ("1,-2", 2), ("1,2,x", 3), ("4294967296", 1)] {
            let problem = tokens(bad).unwrap_err();
            assert!(problem.contains(&format!("entry {entry} ")), "{problem}");
        }
    }

    #[test]
    fn devices_are_those_of_the_build() {
        assert_eq!(device("CPU"), Ok(DeviceName::Cpu));
        assert!(device("cuda:x").unwrap_err().contains("cuda:x"));
        assert_eq!(device("cuda:1").is_ok(), DeviceName::Cuda(1).is_built());
    }
}
