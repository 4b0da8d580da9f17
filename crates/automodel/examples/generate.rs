//! Continues a prompt, printing text as it comes.
//!
//! `cargo run --release -p automodel --example generate -- demo "27+48="`

use automodel::AutoModelForCausalLM;
use automodel::generation::GenerationOptions;
use std::io::Write;
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| automodel::DEMO.to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "27+48=".to_owned());

    let model = AutoModelForCausalLM::from_pretrained(name).load()?;
    let report = model.generate(&[prompt.into()], &GenerationOptions::default(), &mut |event| {
        print!("{}", event.text);
        match std::io::stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    println!();
    eprintln!("first token after {:.3} s", report.timings.first_token_seconds);
    Ok(())
}
