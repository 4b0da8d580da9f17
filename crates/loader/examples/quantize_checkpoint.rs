//! Quantises a checkpoint to 4 bits, from files to files: `quantize_checkpoint SOURCE TARGET nf4|fp4 [--double-quant] [--skip MODULE]...`.
//!
//! Without arguments it shows this on a small checkpoint that it makes itself.

use automodel_config::{Overrides, RawConfig};
use automodel_loader::{CheckpointFiles, QuantizationConfig, RequantizeOptions, SaveFiles, quantize_checkpoint};
use automodel_registry::{Registry, ResolveOptions};
use safetensors::{Dtype, tensor::TensorView};
use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scratch = tempfile::tempdir()?;
    let (source, target, options) = match arguments.as_slice() {
        [] => {
            small_checkpoint(scratch.path())?;
            (scratch.path().to_owned(), scratch.path().join("quantized"), vec!["nf4".to_owned()])
        }
        [source, target, options @ ..] => (source.into(), target.into(), options.to_vec()),
        _ => return Err("give SOURCE and TARGET".into()),
    };
    let mut config = match options.first().map(String::as_str) {
        Some("fp4") => QuantizationConfig::fp4(),
        _ => QuantizationConfig::nf4(),
    };
    config = config.with_double_quant(options.iter().any(|option| option == "--double-quant"));
    let skipped = options.windows(2).filter(|pair| pair[0] == "--skip").map(|pair| pair[1].clone());
    config.skip_modules = skipped.collect();

    // What the model's parameters are and which tensors they come from.
    let registry = Registry::builtin();
    let raw = RawConfig::from_str(&fs::read_to_string(source.join("config.json"))?)?;
    let model = raw.clone().resolve(registry.class_defaults(&raw)?, &Overrides::new())?;
    let resolution = registry.resolve(&model, &ResolveOptions::default())?;
    let map = registry.lower(&model, &resolution)?.weights;

    let files = CheckpointFiles::open(&source)?;
    let report = quantize_checkpoint(
        &files,
        &map,
        &config,
        &target,
        &RequantizeOptions::default(),
        &SaveFiles::default(),
        &mut |progress| println!("{:>12} of {} bytes  {}", progress.bytes_done, progress.bytes_total, progress.tensor),
    )?;
    println!(
        "{} of {} tensors quantised, {} bytes became {}",
        report.quantized.len(),
        files.tensors().len(),
        report.source_bytes,
        report.total_bytes
    );
    for dense in &report.dense {
        println!("dense: {} ({})", dense.tensor, dense.reason);
    }
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

/// A Llama of one layer.
fn small_checkpoint(directory: &Path) -> Result<(), Box<dyn Error>> {
    let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_size": 64,
        "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 16}"#;
    fs::write(directory.join("config.json"), config)?;
    let shapes: [(&str, &[usize]); 12] = [
        ("model.embed_tokens.weight", &[16, 64]),
        ("model.layers.0.input_layernorm.weight", &[64]),
        ("model.layers.0.self_attn.q_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.k_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.v_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.o_proj.weight", &[64, 64]),
        ("model.layers.0.post_attention_layernorm.weight", &[64]),
        ("model.layers.0.mlp.gate_proj.weight", &[128, 64]),
        ("model.layers.0.mlp.up_proj.weight", &[128, 64]),
        ("model.layers.0.mlp.down_proj.weight", &[64, 128]),
        ("model.norm.weight", &[64]),
        ("lm_head.weight", &[16, 64]),
    ];
    let values: Vec<u8> = (0..128 * 64).flat_map(|at| (at as f32).sin().to_le_bytes()).collect();
    let view =
        |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &values[..shape.iter().product::<usize>() * 4]);
    let tensors =
        shapes.iter().map(|(name, shape)| Ok((*name, view(shape)?))).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    safetensors::serialize_to_file(tensors, None, &directory.join("model.safetensors"))?;
    Ok(())
}
