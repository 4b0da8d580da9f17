//! Loads a checkpoint with its projections in 4 bits, and prints what that took.
//!
//! `cargo run --release -p automodel-loader --example load_4bit -- DIRECTORY [--fp4] [--double-quant] [--times N]`. Every
//! matrix whose name ends in `_proj.weight` counts as a projection. Without a directory it writes a small checkpoint of its own.

use automodel_loader::{
    CheckpointFiles, LoadOptions, LoadPlan, QuantizationConfig, SaveFiles, SaveOptions, execute, identity_map,
    save_pretrained,
};
use automodel_registry::weights::{ParameterRole, WeightMap};
use burn::tensor::{Device, TensorData};
use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut directory, mut config, mut times) = (None, QuantizationConfig::nf4(), 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--fp4" => config.scheme = QuantizationConfig::fp4().scheme,
            "--double-quant" => config = config.with_double_quant(true),
            "--times" => times = arguments.next().unwrap_or_default().parse()?,
            _ => directory = Some(argument),
        }
    }
    match directory {
        Some(directory) => load(Path::new(&directory), &config, times),
        None => {
            let scratch = tempfile::tempdir()?;
            let directory = scratch.path().join("small");
            write_small(&directory)?;
            load(&directory, &config, times)
        }
    }
}

fn load(directory: &Path, config: &QuantizationConfig, times: usize) -> Result<(), Box<dyn Error>> {
    let files = CheckpointFiles::open(directory)?;
    let device = Device::flex();
    let plan =
        LoadPlan::new(&files, &projections(&files), &LoadOptions::new(&device).with_quantization(config.clone()))?;
    println!(
        "{} parameters, {} bytes, {} of them quantised",
        plan.rows.len(),
        plan.target_bytes,
        plan.quantized_bytes()
    );
    for _ in 0..times {
        let (mut parameters, report) = execute(&plan, &files, &device, &mut |_| {})?;
        for entry in &report.encodings {
            println!("{} parameters in {}: {} bytes", entry.parameters, entry.encoding, entry.bytes);
        }
        let path = parameters.quantized_paths().next().map(str::to_owned).unwrap_or_default();
        let shape = parameters.take_quantized(&path).map(|weight| weight.shape());
        let (planned, measured) = (report.planned_peak_bytes, report.measured_peak_bytes);
        println!("{:.3} s, peak {measured:?} of {planned} planned bytes, {path} is {shape:?}", report.seconds);
    }
    Ok(())
}

/// A weight map that tells projections from other parameters, by their names alone.
fn projections(files: &CheckpointFiles) -> WeightMap {
    let mut map = identity_map(files);
    for slot in map.parameters.iter_mut().filter(|slot| slot.path.ends_with("_proj.weight")) {
        slot.role = ParameterRole::Projection;
    }
    map
}

fn write_small(directory: &Path) -> Result<(), Box<dyn Error>> {
    let shapes = [("model.layers.0.mlp.up_proj.weight", vec![64, 32]), ("model.norm.weight", vec![32])];
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|element: usize| (element as f32).sin()).collect();
        (name.to_owned(), TensorData::new(values, shape))
    });
    let tensors: Vec<_> = tensors.collect();
    let mut map = WeightMap::default();
    for (name, values) in &tensors {
        let shape = values.shape().to_vec();
        map.parameters.push(automodel_registry::weights::ParameterSlot {
            path: name.clone(),
            role: ParameterRole::Other,
            keep_float32: false,
            pieces: vec![automodel_registry::weights::SourcePiece::whole(name, &shape)],
            shape,
        });
    }
    save_pretrained(directory, tensors, &map, &SaveOptions::default(), &SaveFiles::default())?;
    Ok(())
}
