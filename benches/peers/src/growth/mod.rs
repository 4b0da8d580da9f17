//! `--growth`: how ours grows with the context and with the number of tensors. Nothing is compared and nothing is checked.

mod contexts;
mod tensors;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::{Arguments, Setup, build, checkpoint, machine::Machine, process};
use crate::Result;

pub struct Growth {
    contexts: Vec<contexts::Row>,
    tensors: Vec<tensors::Row>,
    new_tokens: u32,
    rounds: u32,
}

pub fn measure(arguments: &Arguments, setup: &Setup) -> Result<Growth> {
    let ours = Ours { program: build::automodel(setup)?, setup };
    checkpoint::warm(std::slice::from_ref(&ours.program))?;
    let tensors = arguments.tensors.iter().map(|&count| tensors::measure(&ours, count)).collect::<Result<Vec<_>>>()?;
    let model = checkpoint::ensure(arguments.model.as_deref(), &setup.work)?;
    checkpoint::warm(&checkpoint::shards(&model)?)?;
    let row = |&context: &u32| contexts::measure(&ours, &model, context, arguments.new_tokens);
    let contexts = arguments.contexts.iter().map(row).collect();
    Ok(Growth { contexts, tensors, new_tokens: arguments.new_tokens, rounds: setup.rounds })
}

impl Growth {
    pub fn markdown(&self, machine: &Machine) -> String {
        let Self { new_tokens, rounds, .. } = self;
        format!(
            "{machine}. Warm page cache, medians of {rounds} round(s).\n\nBy context: a prompt of that length, then {new_tokens} new \
             tokens; one run each.\n\n{}\nBy number of tensors: tiny random checkpoints. `inspect` and `plan` are the whole process, \
             load is the model alone.\n\n{}",
            contexts::markdown(&self.contexts),
            tensors::markdown(&self.tensors),
        )
    }

    pub fn json(&self, machine: &Machine) -> Value {
        json!({
            "machine": machine.json(),
            "contexts": self.contexts.iter().map(contexts::Row::json).collect::<Vec<_>>(),
            "tensors": self.tensors.iter().map(tensors::Row::json).collect::<Vec<_>>(),
        })
    }
}

/// Our command.
struct Ours<'a> {
    program: PathBuf,
    setup: &'a Setup,
}

impl Ours<'_> {
    /// Runs `automodel COMMAND MODEL --json OPTIONS`.
    fn run(&self, command: &str, model: &Path, options: &[&str]) -> Result<process::Finished, String> {
        let mut process = Command::new(&self.program);
        process.arg(command).arg(model).arg("--json").args(options);
        process.env("RAYON_NUM_THREADS", self.setup.threads.to_string());
        process::run(process, &self.setup.work.join(format!("logs/growth-{command}")), self.setup.timeout)
    }
}
