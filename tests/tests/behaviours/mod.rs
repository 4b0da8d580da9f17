//! Behaviours that people who come from NeMo AutoModel rely on, and that no crate can show alone.

mod assumed;
mod choice;
mod config;
mod registry;
mod skeleton;
mod weights;

use crate::support::checkpoint;
use automodel::{AutoModel, AutoModelForCausalLM, FromPretrained};

/// A builder for a checkpoint fixture.
fn fixture(name: &str) -> FromPretrained {
    AutoModelForCausalLM::from_pretrained(checkpoint(name).to_str().unwrap())
}

const TOKENS: [u32; 5] = [5, 17, 3, 42, 8];

fn logits(model: &AutoModel) -> Vec<f32> {
    model.logits(&TOKENS).unwrap().into_data().try_into_vec().unwrap()
}
