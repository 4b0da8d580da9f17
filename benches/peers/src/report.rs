//! The comparison as a table and as JSON.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    contenders::Group,
    machine::Machine,
    measurement::Measurement,
    peers::Skipped,
    rounds::{Measured, Workload},
    sizes::Sizes,
    table,
};

const HEAD: [&str; 7] =
    ["", "load s", "first token s", "prefill tokens/s", "decode tokens/s", "of the ceiling", "peak resident MiB"];

pub struct Report {
    pub machine: Machine,
    pub workload: Workload,
    pub weights: Sizes,
    /// Bytes a second.
    pub bandwidth: f64,
    pub measured: Vec<Measured>,
    pub skipped: Vec<Skipped>,
}

impl Report {
    pub fn markdown(&self) -> String {
        let rows: Vec<Vec<String>> = self.measured.iter().map(|measured| self.row(measured)).collect();
        let mut text = self.introduction() + &table::markdown(&HEAD, &rows);
        let versions: BTreeSet<&str> = self.measured.iter().map(|measured| measured.version.as_str()).collect();
        if !versions.is_empty() {
            text += &format!("\nVersions: {}.\n", versions.into_iter().collect::<Vec<_>>().join("; "));
        }
        for Skipped { contender, reason } in &self.skipped {
            text += &format!("\nSkipped: {} ({}).\n", contender.name, reason.replace('|', "/"));
        }
        text
    }

    fn introduction(&self) -> String {
        let Self { machine, weights, .. } = self;
        let tokens = self.workload.tokens;
        format!(
            "{machine}. Warm page cache, one process after the other, medians of {} interleaved round(s), {} prompt tokens, {} new \
             ones, {} warm-up(s). {} parameters in {} tensors. In brackets: divided by ours (`{}`, for 4 bits `{}`); less is better \
             for seconds and MiB, more for tokens/s. First token: from the loaded model, prompt of one token. Peak: the whole \
             process with its libraries. Ceiling of decoding: the measured read bandwidth, {:.1} GB/s, over the bytes of \
             weights that a token reads.\n\n",
            self.workload.rounds,
            tokens.prompt,
            tokens.new,
            tokens.warmup,
            weights.parameters(),
            weights.tensors,
            Group::Dense.ours(),
            Group::FourBit.ours(),
            self.bandwidth / 1e9,
        )
    }

    fn row(&self, measured: &Measured) -> Vec<String> {
        let contender = measured.contender;
        let is_other = |ours: &&Measured| ours.contender.name == contender.group.ours() && ours.contender != contender;
        let ours = self.measured.iter().find(is_other).map(|ours| &ours.median);
        let cell = |figure: fn(&Measurement) -> Option<f64>| {
            table::with_ratio(figure(&measured.median), ours.and_then(figure))
        };
        vec![
            contender.label.to_owned(),
            cell(|figures| figures.load_seconds),
            cell(|figures| figures.first_token_seconds),
            cell(|figures| figures.prefill_tokens_per_second),
            cell(|figures| figures.decode_tokens_per_second),
            table::share(measured.median.decode_tokens_per_second, self.ceiling(measured)),
            cell(|figures| figures.peak_resident_bytes.map(|bytes| bytes / f64::from(1 << 20))),
        ]
    }

    /// Tokens a second if nothing but reading the weights took time.
    fn ceiling(&self, measured: &Measured) -> Option<f64> {
        Some(self.bandwidth / self.bytes_per_token(measured)?)
    }

    fn bytes_per_token(&self, measured: &Measured) -> Option<f64> {
        measured.median.weight_bytes_per_token.or_else(|| self.weights.bytes_per_token(measured.contender.storage))
    }

    pub fn json(&self) -> Value {
        let contender = |measured: &Measured| {
            json!({
                "name": measured.contender.name,
                "version": measured.version,
                "median": measured.median.json(),
                "rounds": measured.rounds.iter().map(Measurement::json).collect::<Vec<_>>(),
                "weight_bytes_per_token": self.bytes_per_token(measured),
                "decode_ceiling_tokens_per_second": self.ceiling(measured),
            })
        };
        let skipped = |skipped: &Skipped| json!({"name": skipped.contender.name, "reason": skipped.reason});
        json!({
            "machine": self.machine.json(),
            "workload": self.workload.json(),
            "parameters": self.weights.parameters(),
            "read_bytes_per_second": self.bandwidth,
            "contenders": self.measured.iter().map(contender).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(skipped).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests;
