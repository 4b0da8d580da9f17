//! Bandwidth of the 4-bit kernels on a GPU, beside that of copies in the same run.

#[cfg(feature = "cube")]
mod experts;
#[cfg(feature = "cube")]
mod gemm;
mod kernels;
mod shapes;
mod time;

use automodel::DeviceName;
use clap::Parser;
use kernels::Measured;
use shapes::Model;
use std::{error::Error, path::PathBuf, process::ExitCode};

/// Times quantisation, dequantisation and products at the shapes of Llamas and of a mixture's experts; prints a table.
#[derive(Parser)]
struct Arguments {
    /// The device: cuda, cuda:N, wgpu or cpu.
    #[arg(long, default_value = "cuda")]
    device: DeviceName,
    /// The models whose layers are measured.
    #[arg(long, value_delimiter = ',', default_value = "1b,8b,70b,moe-30b")]
    models: Vec<Model>,
    /// Rows of activations.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    rows: Vec<usize>,
    /// Bytes of 4-bit weights that are read in turn, so that caches do not hold them.
    #[arg(long, default_value_t = 512 << 20)]
    working_set: usize,
    /// Products with codes rounded to the type of activations, and no others.
    #[arg(long)]
    fast: bool,
    #[cfg(feature = "cube")]
    /// Times the ways that Burn's kernels multiply dense matrices instead, for this number of rows.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "64,512,2048")]
    gemm: Option<Vec<usize>>,
    /// Writes the figures to a file as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let device = arguments.device.open()?;
    #[cfg(feature = "cube")]
    if let Some(rows) = &arguments.gemm {
        println!("| out x in | rows | way | µs | TFLOP/s | difference |\n|---|---|---|---|---|---|");
        let layers = arguments.models.iter().flat_map(|model| model.layers());
        for (layer, rows) in layers.flat_map(|layer| rows.iter().map(move |rows| (layer, *rows))) {
            gemm::measure(&device, layer, rows)?;
        }
        return Ok(());
    }
    let copy = kernels::copy_bandwidth(&device, arguments.working_set)?;
    println!("device {}: copies at {:.1} GB/s, read and written bytes together\n", arguments.device, copy / 1e9);
    println!(
        "| model | layer | out x in | what | µs | GB/s | of the copy | launched, µs |\n|---|---|---|---|---|---|---|---|"
    );
    let mut all: Vec<Measured> = Vec::new();
    for model in &arguments.models {
        for layer in model.layers() {
            for measured in kernels::measure(&device, *model, layer, arguments)? {
                println!("{}", measured.row(copy));
                all.push(measured);
            }
        }
        #[cfg(feature = "cube")]
        if let Some(experts) = model.experts().filter(|_| !arguments.fast) {
            for measured in experts::measure(&device, *model, experts, &arguments.rows)? {
                println!("{}", measured.row(copy));
                all.push(measured);
            }
        }
    }
    if let Some(path) = &arguments.json {
        let report = serde_json::json!({ "copy_bytes_per_second": copy, "measured": all });
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}
