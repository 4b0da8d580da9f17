//! Human-readable numbers.

/// Bytes in binary units: `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        // Not at 1024: a number that would print as 1024.0 uses the next unit.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// A number with a comma every three digits: `445,312`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of parameters in words: `1.24 billion (1,235,814,400)`, below a million just the number.
pub fn count(number: u64) -> String {
    const NAMES: [(u64, &str); 3] =
        [(1_000_000_000_000, "trillion"), (1_000_000_000, "billion"), (1_000_000, "million")];
    match NAMES.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.2} {name} ({})", number as f64 / *unit as f64, grouped(number)),
        None => grouped(number),
    }
}

/// A time: `12.3 ms`, `4.56 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A rate in tokens per second, or a dash without a measurement.
pub fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1} tokens/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_and_never_reach_the_next_unit() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (u64::MAX, "16384.0 PiB")];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(445_312), "445,312");
        assert_eq!(count(999_999), "999,999");
        assert_eq!(count(1_235_814_400), "1.24 billion (1,235,814,400)");
    }
}
