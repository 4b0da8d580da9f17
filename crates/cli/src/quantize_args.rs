//! Options of 4-bit quantisation.

use automodel::loader::QuantizationConfig;
use automodel::quant::{Scheme, table16::Blocksize};

/// Options of 4-bit quantisation.
#[derive(Clone, Debug, clap::Args)]
pub struct QuantizeArgs {
    /// Quantise projections to 4 bits: nf4 or fp4
    #[arg(long, value_name = "TYPE", value_parser = scheme, help_heading = "Quantisation")]
    pub quantize: Option<Scheme>,
    /// Quantise the scales too, to 8 bits
    #[arg(long, requires = "quantize", help_heading = "Quantisation")]
    pub double_quant: bool,
    /// Elements that share a scale: 32, 64, .. 4096
    #[arg(long, value_name = "N", requires = "quantize", value_parser = blocksize, help_heading = "Quantisation")]
    pub block_size: Option<Blocksize>,
    /// Quantise the output head too, where it is not tied to the embedding
    #[arg(long, requires = "quantize", help_heading = "Quantisation")]
    pub quantize_head: bool,
    /// Modules that stay dense: prefixes or suffixes of paths
    #[arg(long, value_name = "LIST", requires = "quantize", value_delimiter = ',', help_heading = "Quantisation")]
    pub skip_modules: Vec<String>,
}

impl QuantizeArgs {
    /// The requested quantisation, if any.
    pub fn config(&self) -> Option<QuantizationConfig> {
        let mut config = QuantizationConfig::new(self.quantize?).with_double_quant(self.double_quant);
        config.quantize_head = self.quantize_head;
        config.skip_modules.clone_from(&self.skip_modules);
        if let Some(blocksize) = self.block_size {
            config = config.with_blocksize(blocksize);
        }
        Some(config)
    }
}

fn scheme(name: &str) -> Result<Scheme, String> {
    Scheme::from_name(&name.to_ascii_lowercase()).ok_or_else(|| "nf4 or fp4 is expected".to_owned())
}

fn blocksize(text: &str) -> Result<Blocksize, String> {
    let number: usize = text.parse().map_err(|_| "a number is expected".to_owned())?;
    Blocksize::new(number).map_err(|error| error.to_string())
}
