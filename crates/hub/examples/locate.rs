//! Where a model is on this machine: `cargo run -p automodel-hub --example locate -- MODEL [REVISION]`.
//!
//! Without arguments it makes a small checkpoint in a temporary directory and locates that.

use automodel_hub::{HubOptions, resolve};
use std::{env, error::Error, fs, process::ExitCode};

fn main() -> ExitCode {
    match locate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("locate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn locate() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let directory = tempfile::tempdir()?;
    let model = match arguments.next() {
        Some(model) => model,
        None => {
            fs::write(directory.path().join("config.json"), "{\"model_type\": \"llama\"}")?;
            directory.path().display().to_string()
        }
    };

    let options = HubOptions { revision: arguments.next(), ..HubOptions::default() };
    let checkpoint = resolve(&model, &options)?;

    println!("{} is in {}", checkpoint.source, checkpoint.dir.display());
    println!("commit: {}", checkpoint.commit.as_deref().unwrap_or("none, it is a directory"));
    for file in checkpoint.list()? {
        println!("{:>14} bytes  {}", file.bytes, file.name);
    }
    Ok(())
}
