//! An architecture of one's own: a made-up bigram model, registered from outside and loaded from a checkpoint like any other.
//!
//! `cargo run -p automodel --example custom_architecture`

use automodel::config::{ClassDefaults, DefaultValue, ResolvedConfig};
use automodel::models::parameters::{self, ParameterTensor};
use automodel::models::{BuildContext, CacheOptions, CausalLm, DecodeCache, LogitsFor, Model, ModelError, TokenBatch};
use automodel::registry::weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap};
use automodel::registry::{AcceptedOptions, CustomImplementation, Registration, Registry, RegistryError};
use automodel::{AutoModelForCausalLM, Device};
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};
use std::{error::Error, fs, path::Path, sync::Arc};

/// Logits of the next token depend on the last one alone: a table `[vocab_size, vocab_size]`.
#[derive(Module, Debug)]
struct Bigram {
    table: Param<Tensor<2>>,
    vocab_size: usize,
    temperature: f64,
}

impl Model for Bigram {
    fn device(&self) -> Device {
        self.table.lazy_device()
    }

    fn visit_parameters(&self, visit: &mut dyn FnMut(&str, &[usize])) {
        parameters::visit(self, visit);
    }

    fn assign_parameters(
        &mut self,
        provide: &mut dyn FnMut(&str) -> Option<ParameterTensor>,
    ) -> Result<(), ModelError> {
        let (filled, outcome) = parameters::assign(self.clone(), provide);
        *self = filled;
        outcome
    }

    fn read_parameters(&self, read: &mut dyn FnMut(&str, ParameterTensor)) {
        parameters::read(self, read);
    }
}

impl CausalLm for Bigram {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn max_position_embeddings(&self) -> Option<usize> {
        None
    }

    fn new_cache(&self, options: &CacheOptions) -> DecodeCache {
        DecodeCache::new(options.batch_size, Vec::new())
    }

    fn forward(&self, batch: &TokenBatch, logits: LogitsFor, cache: &mut DecodeCache) -> Result<Tensor<3>, ModelError> {
        cache.advance(batch)?;
        let (rows, length) = (batch.batch_size(), batch.length());
        let ids: Vec<i64> = batch.ids().iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows * length]), &self.device());
        let scores = self.table.val().select(0, ids) / self.temperature;
        let scores = scores.reshape([rows, length, self.vocab_size]);
        Ok(match logits {
            LogitsFor::All => scores,
            LogitsFor::Last => scores.slice_dim(1, length - 1..length),
        })
    }
}

/// What the config class assumes for absent keys.
static DEFAULTS: ClassDefaults = ClassDefaults { values: &[("vocab_size", DefaultValue::Int(16))], aliases: &[] };

/// Everything the registry has to know.
const BIGRAM: CustomImplementation = CustomImplementation {
    name: "bigram",
    architecture: "BigramForCausalLM",
    model_type: "bigram",
    defaults: &DEFAULTS,
    options: AcceptedOptions::Named(&["temperature"]),
    tags: &[],
    supports: None,
    weight_map,
};

/// The checkpoint's `bigram.weight` is the module's `table`.
fn weight_map(config: &ResolvedConfig) -> Result<WeightMap, RegistryError> {
    let model_type = config.model_type().to_owned();
    let size =
        config.usize("vocab_size").map_err(|source| RegistryError::Config { model_type, source: Box::new(source) })?;
    let shape = vec![size, size];
    Ok(WeightMap {
        parameters: vec![ParameterSlot {
            path: "table".to_owned(),
            pieces: vec![SourcePiece::whole("bigram.weight", &shape)],
            shape,
            role: ParameterRole::Other,
            keep_float32: false,
        }],
        ..WeightMap::default()
    })
}

fn build(context: &BuildContext<'_>) -> Result<Box<dyn CausalLm>, ModelError> {
    let size = context
        .config
        .usize("vocab_size")
        .map_err(|cause| ModelError::UnsupportedSpec { reason: cause.to_string() })?;
    let temperature = context.options.get("temperature").and_then(|value| value.as_f64()).unwrap_or(1.0);
    Ok(Box::new(Bigram { table: parameters::empty([size, size], context.device), vocab_size: size, temperature }))
}

/// A checkpoint in which every token is followed by its double, modulo 5.
fn write_checkpoint(directory: &Path) -> Result<(), Box<dyn Error>> {
    let config = r#"{"architectures": ["BigramForCausalLM"], "model_type": "bigram", "vocab_size": 5}"#;
    fs::write(directory.join("config.json"), config)?;
    let table: Vec<u8> =
        (0..25).flat_map(|index| if index % 5 == index / 5 * 2 % 5 { 1.0_f32 } else { 0.0 }.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![5, 5], &table)?;
    safetensors::serialize_to_file([("bigram.weight", view)], None, &directory.join("model.safetensors"))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    write_checkpoint(directory.path())?;

    let mut registry = Registry::builtin();
    registry.register_custom(BIGRAM, Registration::New)?;
    let model = AutoModelForCausalLM::from_pretrained(directory.path().to_string_lossy())
        .registry(registry)
        .factory("bigram", Arc::new(build))
        .option("temperature", 0.5)
        .load()?;

    println!("{}", model.prepared().resolution.reason);
    let logits = model.logits(&[1, 2, 3])?;
    let next = logits.argmax(1).into_data();
    println!("1, 2, 3 are followed by {next}");
    assert_eq!(next.iter::<i64>().collect::<Vec<_>>(), [2, 4, 1]);
    Ok(())
}

#[test]
fn a_made_up_architecture_loads_and_runs() {
    main().unwrap();
}
