//! Prints how a checkpoint's tensors would be loaded on the CPU, each under its own name. No weight is read.
//!
//! `cargo run -p automodel-loader --example print_plan -- DIRECTORY [--dtype bfloat16]`. Without a directory it writes a
//! small checkpoint of its own, sharded, and prints the plan of that.

use automodel_loader::{
    CheckpointFiles, DtypePolicy, LoadOptions, LoadPlan, SaveFiles, SaveOptions, identity_map, save_pretrained,
};
use automodel_registry::weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap};
use burn::tensor::{Device, FloatDType, TensorData};
use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut directory, mut dtype) = (None, DtypePolicy::Auto);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dtype" => dtype = DtypePolicy::AtLeast(float_type(&arguments.next().unwrap_or_default())?),
            _ => directory = Some(argument),
        }
    }
    match directory {
        Some(directory) => print_plan(Path::new(&directory), dtype),
        None => {
            let scratch = tempfile::tempdir()?;
            let directory = scratch.path().join("small");
            write_small(&directory)?;
            print_plan(&directory, dtype)
        }
    }
}

fn print_plan(directory: &Path, dtype: DtypePolicy) -> Result<(), Box<dyn Error>> {
    let files = CheckpointFiles::open(directory)?;
    let options = LoadOptions::new(&Device::flex()).with_dtype(dtype);
    print!("{}", LoadPlan::new(&files, &identity_map(&files), &options)?);
    Ok(())
}

/// An embedding, a projection in bfloat16 and a norm, in shards of at most 1 KiB.
fn write_small(directory: &Path) -> Result<(), Box<dyn Error>> {
    let shapes: [(&str, &[usize]); 3] = [
        ("model.embed_tokens.weight", &[32, 8]),
        ("model.layers.0.mlp.up_proj.weight", &[16, 8]),
        ("model.norm.weight", &[8]),
    ];
    let slot = |(path, shape): &(&str, &[usize])| ParameterSlot {
        path: path.to_string(),
        shape: shape.to_vec(),
        role: ParameterRole::Other,
        keep_float32: false,
        pieces: vec![SourcePiece::whole(*path, shape)],
    };
    let map = WeightMap { parameters: shapes.iter().map(slot).collect(), ..WeightMap::default() };
    let values = shapes.iter().map(|(path, shape)| {
        let values = TensorData::new(vec![0.5f32; shape.iter().product()], shape.to_vec());
        let values = if path.contains("up_proj") { values.convert::<burn::tensor::bf16>() } else { values };
        (path.to_string(), values)
    });
    let mut options = SaveOptions::default();
    options.max_shard_bytes = 1024;
    save_pretrained(directory, values, &map, &options, &SaveFiles::default())?;
    Ok(())
}

fn float_type(name: &str) -> Result<FloatDType, String> {
    match name {
        "float64" => Ok(FloatDType::F64),
        "float32" => Ok(FloatDType::F32),
        "float16" => Ok(FloatDType::F16),
        "bfloat16" => Ok(FloatDType::BF16),
        other => Err(format!("unknown dtype {other:?}: use float64, float32, float16 or bfloat16")),
    }
}
