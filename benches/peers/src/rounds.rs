//! The measurements themselves: interleaved rounds, two processes each.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::{Value, json};

use super::{
    Arguments, Setup, bandwidth, checkpoint,
    contenders::{Contender, Program},
    measurement::{Measurement, median},
    mistral,
    peers::{Ready, Skipped, Tokens},
    process,
};
use crate::Result;

/// The work of every contender.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub tokens: Tokens,
    pub rounds: u32,
}

/// A contender that ran to the end.
#[derive(Debug)]
pub struct Measured {
    pub contender: &'static Contender,
    pub version: String,
    pub rounds: Vec<Measurement>,
    pub median: Measurement,
}

/// The results of all rounds.
pub struct Outcome {
    pub measured: Vec<Measured>,
    pub failed: Vec<Skipped>,
    /// Bytes a second that this machine reads: the median of a measurement before each round.
    pub bandwidth: f64,
}

impl Workload {
    pub fn new(arguments: &Arguments) -> Self {
        let Arguments { prompt_tokens: prompt, new_tokens: new, warmup, rounds, .. } = *arguments;
        Self { tokens: Tokens { prompt, new, warmup }, rounds }
    }

    pub fn json(&self) -> Value {
        let Tokens { prompt, new, warmup } = self.tokens;
        json!({"prompt_tokens": prompt, "new_tokens": new, "warmup": warmup, "rounds": self.rounds})
    }
}

/// Runs all rounds. A contender that fails in one is left out of the next and reported as skipped.
pub fn run(ready: Vec<Ready>, workload: &Workload, setup: &Setup) -> Result<Outcome> {
    let mut running: Vec<(Ready, Vec<Measurement>)> = ready.into_iter().map(|ready| (ready, Vec::new())).collect();
    let (mut failed, mut bandwidths) = (Vec::new(), Vec::new());
    for round in 1..=workload.rounds {
        let bandwidth = bandwidth::measure(setup.threads)?;
        eprintln!("round {round}: reads {:.1} GB/s with {} threads", bandwidth / 1e9, setup.threads);
        bandwidths.push(bandwidth);
        let files: BTreeSet<&PathBuf> = running.iter().flat_map(|(ready, _)| &ready.files).collect();
        checkpoint::warm(&files.into_iter().cloned().collect::<Vec<_>>())?;
        let mut still_running = Vec::new();
        for (ready, mut rounds) in running {
            let name = ready.contender.name;
            eprint!("round {round}: {name} ... ");
            match measure(&ready, round, workload, setup) {
                Ok(measurement) => {
                    eprintln!("decodes {:.2} tokens/s", measurement.decode_tokens_per_second.unwrap_or(f64::NAN));
                    rounds.push(measurement);
                    still_running.push((ready, rounds));
                }
                Err(reason) => {
                    eprintln!("skipped: {reason}");
                    failed.push(Skipped { contender: ready.contender, reason });
                }
            }
        }
        running = still_running;
    }
    let measured = running.into_iter().map(|(ready, rounds)| {
        let median = Measurement::median(&rounds);
        Measured { contender: ready.contender, version: ready.version, rounds, median }
    });
    let bandwidth = median(&bandwidths).ok_or("no round was run")?;
    Ok(Outcome { measured: measured.collect(), failed, bandwidth })
}

/// One process for load and first token, with a prompt of one token; another for the prompt, decoding and memory.
fn measure(ready: &Ready, round: u32, workload: &Workload, setup: &Setup) -> Result<Measurement, String> {
    let start = run_process(ready, Tokens { prompt: 1, new: 1, warmup: 0 }, &format!("{round}-start"), setup)?;
    let whole = run_process(ready, workload.tokens, &format!("{round}-run"), setup)?;
    Ok(Measurement { load_seconds: start.load_seconds, first_token_seconds: start.first_token_seconds, ..whole })
}

fn run_process(ready: &Ready, tokens: Tokens, suffix: &str, setup: &Setup) -> Result<Measurement, String> {
    let log = setup.work.join("logs").join(format!("{}-{suffix}", ready.contender.name));
    let finished = process::run(ready.command(tokens, setup.threads), &log, setup.timeout)?;
    let mut measurement = match ready.contender.program {
        Program::Mistral(_) => mistral::parse(&finished.stdout)?,
        _ => Measurement::parse(&finished.stdout)?,
    };
    // The report of the process is exact; sampling from outside may miss its end.
    measurement.peak_resident_bytes = measurement.peak_resident_bytes.or(finished.peak_resident_bytes);
    Ok(measurement)
}
