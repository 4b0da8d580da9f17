//! Parses the output of `mistralrs bench`: a table, and log lines with times.
//! Source: `src/commands/bench.rs` of <https://crates.io/crates/mistralrs-cli/0.8.1>

use super::measurement::Measurement;

/// Its rate of decoding is from a prompt of 4 tokens, whose time it includes.
pub fn parse(output: &str) -> Result<Measurement, String> {
    let output = without_colours(output);
    let prefill = row(&output, "Prefill");
    let decode = row(&output, "Decode");
    if prefill.is_none() && decode.is_none() {
        return Err("it printed no results".to_owned());
    }
    Ok(Measurement {
        load_seconds: load_seconds(&output),
        first_token_seconds: prefill.and_then(|cells| number(cells.1)).map(|milliseconds| milliseconds / 1000.0),
        prefill_tokens_per_second: prefill.and_then(|cells| number(cells.0)),
        decode_tokens_per_second: decode.and_then(|cells| number(cells.0)),
        ..Measurement::default()
    })
}

/// The two cells after the one that begins with `name`.
fn row<'a>(output: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    output.lines().find_map(|line| {
        let mut cells = line.split(['│', '┆', '|']).map(str::trim).filter(|cell| !cell.is_empty());
        cells.next().filter(|cell| cell.starts_with(name))?;
        Some((cells.next()?, cells.next()?))
    })
}

/// The number that a cell begins with: `44.5 ± 0.1`, `11505.32 ms (TTFT)`.
fn number(cell: &str) -> Option<f64> {
    cell.split_whitespace().next()?.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite())
}

fn load_seconds(output: &str) -> Option<f64> {
    let at = |message: &str| output.lines().find(|line| line.contains(message)).and_then(second_of_day);
    let seconds = at("Model loaded.")? - at("Loading model for benchmarking")?;
    // Over midnight it is negative.
    Some(if seconds < 0.0 { seconds + 86_400.0 } else { seconds })
}

/// From the time that a log line begins with: `2026-11-23T21:28:35.123456Z`.
fn second_of_day(line: &str) -> Option<f64> {
    let (_, time) = line.split_whitespace().next()?.split_once('T')?;
    let mut parts = time.trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

/// `text` without escape sequences of a terminal.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
\u{1b}[2m2026-11-23T23:59:58.500000Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m mistralrs::commands::bench: Loading model for benchmarking...
2026-11-24T00:00:00.750000Z  INFO mistralrs::commands::bench: Model loaded.

Benchmark Results
=================

┌──────────────────────┬────────────┬────────────────────┐
│ Test                 ┆ T/s        ┆ Latency            │
╞══════════════════════╪════════════╪════════════════════╡
│ Prefill (512 tokens) ┆ 44.5 ± 0.0 ┆ 11505.32 ms (TTFT) │
├╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤
│ Decode (32 tokens)   ┆ 9.8 ± 0.2  ┆ 102.04 ms/T        │
└──────────────────────┴────────────┴────────────────────┘
";

    #[test]
    fn its_table_is_read() {
        let expected = Measurement {
            load_seconds: Some(2.25),
            first_token_seconds: Some(11.50532),
            prefill_tokens_per_second: Some(44.5),
            decode_tokens_per_second: Some(9.8),
            ..Measurement::default()
        };
        assert_eq!(parse(OUTPUT).unwrap(), expected);
    }

    #[test]
    fn other_output_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("Benchmark Results\n").is_err());
        assert_eq!(parse("| Decode (4 tokens) | fast | x |").unwrap(), Measurement::default());
    }
}
