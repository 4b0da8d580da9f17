//! Times and memory of one contender: parsed from its JSON, and medians over rounds.

use serde_json::{Value, json};

/// Figures of one round, or medians over rounds. A figure that was not measured is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    pub load_seconds: Option<f64>,
    /// From a loaded model to the answer to a prompt of one token.
    pub first_token_seconds: Option<f64>,
    pub prefill_tokens_per_second: Option<f64>,
    pub decode_tokens_per_second: Option<f64>,
    pub peak_resident_bytes: Option<f64>,
    pub weight_bytes_per_token: Option<f64>,
}

impl Measurement {
    /// From the output of `automodel bench --json`, or of a peer's script with the same keys. Other keys are ignored; a figure
    /// that is there must be a number above zero.
    pub fn parse(output: &str) -> Result<Self, String> {
        // Libraries may have written lines of their own before.
        let start = output.find('{').ok_or("it printed no JSON")?;
        let json: Value =
            serde_json::from_str(&output[start..]).map_err(|error| format!("its JSON cannot be read: {error}"))?;
        let figure = |key: &str| match &json[key] {
            Value::Null => Ok(None),
            value => match value.as_f64() {
                Some(figure) if figure > 0.0 && figure.is_finite() => Ok(Some(figure)),
                _ => Err(format!("{key} is {value}: expected a number above zero")),
            },
        };
        Ok(Self {
            load_seconds: figure("load_seconds")?,
            first_token_seconds: figure("first_token_seconds")?,
            prefill_tokens_per_second: figure("prefill_tokens_per_second")?,
            decode_tokens_per_second: figure("decode_tokens_per_second")?,
            peak_resident_bytes: figure("peak_resident_bytes")?,
            weight_bytes_per_token: figure("weight_bytes_per_token")?,
        })
    }

    /// Each figure's median over the rounds in which it was measured.
    pub fn median(rounds: &[Self]) -> Self {
        let over = |figure: fn(&Self) -> Option<f64>| median(&rounds.iter().filter_map(figure).collect::<Vec<_>>());
        Self {
            load_seconds: over(|round| round.load_seconds),
            first_token_seconds: over(|round| round.first_token_seconds),
            prefill_tokens_per_second: over(|round| round.prefill_tokens_per_second),
            decode_tokens_per_second: over(|round| round.decode_tokens_per_second),
            peak_resident_bytes: over(|round| round.peak_resident_bytes),
            weight_bytes_per_token: over(|round| round.weight_bytes_per_token),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "load_seconds": self.load_seconds,
            "first_token_seconds": self.first_token_seconds,
            "prefill_tokens_per_second": self.prefill_tokens_per_second,
            "decode_tokens_per_second": self.decode_tokens_per_second,
            "peak_resident_bytes": self.peak_resident_bytes,
            "weight_bytes_per_token": self.weight_bytes_per_token,
        })
    }
}

/// The middle value, of two middle ones their mean; `None` if there is none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_the_command_line_is_read() {
        let output = "warning: something\n{\n  \"load_seconds\": 0.5,\n  \"first_token_seconds\": 2,\n  \"tokens\": [1, 2],\n  \
                      \"peak_resident_bytes\": 14598144,\n  \"decode_tokens_per_second\": null\n}\n";
        let parsed = Measurement::parse(output).unwrap();
        let expected = Measurement {
            load_seconds: Some(0.5),
            first_token_seconds: Some(2.0),
            peak_resident_bytes: Some(14_598_144.0),
            ..Measurement::default()
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn other_output_is_refused() {
        for wrong in ["", "no figures", "{\"load_seconds\": ", "{\"load_seconds\": \"1\"}", "{\"load_seconds\": -1}"] {
            assert!(Measurement::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn medians_are_taken_of_each_figure() {
        let round = |load: f64, decode: Option<f64>| Measurement {
            load_seconds: Some(load),
            decode_tokens_per_second: decode,
            ..Measurement::default()
        };
        let median = Measurement::median(&[round(3.0, Some(10.0)), round(1.0, None), round(2.0, Some(20.0))]);
        assert_eq!(median, round(2.0, Some(15.0)));
        assert_eq!(Measurement::median(&[]), Measurement::default());
    }
}
