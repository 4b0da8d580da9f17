//! Prints how the weights of a checkpoint are stored, from its config.json.
//!
//! `cargo run -p automodel-quant --example declared -- path/to/config.json`

use automodel_quant::Declared;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => r#"{"quantization_config": {"quant_method": "mxfp4"}}"#.to_owned(),
    };
    let config: serde_json::Value = serde_json::from_str(&text)?;
    match Declared::read(config.get("quantization_config"))? {
        None => println!("dense: no quantization_config"),
        Some(declared) => {
            println!("{}", serde_json::to_string_pretty(&declared)?);
            if let Err(refused) = declared.check_readable() {
                println!("{refused}");
            }
        }
    }
    Ok(())
}
