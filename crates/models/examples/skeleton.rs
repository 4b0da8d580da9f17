//! Builds the skeleton of a 70B Llama, which allocates no weights, and lists its first parameters.
//!
//! `cargo run -p automodel-models --example skeleton`

use automodel_attention::SdpaBackend;
use automodel_config::{Overrides, RawConfig};
use automodel_models::{Decoder, Model, ModelOptions};
use automodel_registry::{Registry, ResolveOptions};
use burn::tensor::Device;

const LLAMA_70B: &str = r#"{
    "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let raw = RawConfig::from_str(LLAMA_70B)?;
    let registry = Registry::builtin();
    let config = raw.clone().resolve(registry.class_defaults(&raw)?, &Overrides::new())?;
    let lowered = registry.lower(&config, &registry.resolve(&config, &ResolveOptions::default())?)?;
    let spec = lowered.spec.ok_or("families have a spec")?;

    let model = Decoder::new(&spec, ModelOptions::new(SdpaBackend::EfficientAttention), &Device::flex())?;
    let (mut listed, mut parameters) = (0, 0_u64);
    model.visit_parameters(&mut |path, shape| {
        if listed < 12 {
            println!("{path} {shape:?}");
        }
        listed += 1;
        parameters += shape.iter().map(|&size| size as u64).product::<u64>();
    });
    println!("... {listed} tensors, {:.1} billion parameters, none of them allocated", parameters as f64 / 1e9);
    Ok(())
}
