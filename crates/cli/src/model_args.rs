//! The model and the options of its load.

use crate::{error::CliError, failure, hub_args::HubArgs, progress::Bar, quantize_args::QuantizeArgs, values};
use automodel::attention::SdpaBackend;
use automodel::config::Overrides;
use automodel::generation::TextTokenizer;
use automodel::loader::{LoadReport, Progress};
use automodel::quant::Precision;
use automodel::{AutoModel, AutoModelError, AutoModelForCausalLM, DEMO, DeviceName, Dtype, FromPretrained};
use std::path::Path;
use std::sync::Once;
use std::time::Instant;

/// The model and the options of its load.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// Directory, repo id of the Hugging Face Hub, or `demo`, which is part of the program
    pub model: String,
    /// Options of resolving a repo.
    #[command(flatten)]
    pub hub: HubArgs,
    /// Dtype of weights: auto, float32, float16, bfloat16
    #[arg(long, default_value = "auto", help_heading = "Model")]
    pub dtype: Dtype,
    /// Change a value of the config: KEY or KEY.SUBKEY; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = values::config_override, help_heading = "Model")]
    pub overrides: Vec<Overrides>,
    /// Backends in order: flash_attention,efficient_attention,math
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Model")]
    pub attention: Vec<SdpaBackend>,
    /// Use the generic decoder even where a custom one fits
    #[arg(long, help_heading = "Model")]
    pub force_generic: bool,
    /// Compute the model as this model type, a guess, marked in each report
    #[arg(long, value_name = "MODEL_TYPE", help_heading = "Model")]
    pub assume: Option<String>,
    /// Allow an unread key of the config; may be repeated
    #[arg(long, value_name = "KEY", help_heading = "Model")]
    pub allow_unread_key: Vec<String>,
    /// Check all weights for NaN and infinity
    #[arg(long, help_heading = "Model")]
    pub check_finite: bool,
    /// Copy weights instead of mapping files that may be edited
    #[arg(long, help_heading = "Model")]
    pub no_mmap: bool,
    /// Assumed memory instead of the available: 16GiB
    #[arg(long, value_name = "SIZE", value_parser = values::byte_size, help_heading = "Model")]
    pub memory: Option<u64>,
    /// Load a model even if it does not fit into memory
    #[arg(long, help_heading = "Model")]
    pub ignore_memory: bool,
    /// Device: cpu, or in builds with it cuda[:N], wgpu
    #[arg(long, default_value = "cpu", value_parser = values::device, help_heading = "Model")]
    pub device: DeviceName,
    /// Round activations to 15 bits in products with 4-bit weights
    #[arg(long, help_heading = "Quantisation")]
    fast_products: bool,
    /// Quantisation of projections.
    #[command(flatten)]
    pub quantization: QuantizeArgs,
}

/// A loaded model with its warnings.
pub struct Loaded {
    /// The model.
    pub model: AutoModel,
    /// Load time in seconds.
    pub seconds: f64,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl ModelArgs {
    /// The builder of the model.
    pub fn builder(&self, json: bool) -> Result<FromPretrained, CliError> {
        self.warn_of_a_directory_called_demo(json);
        let device = self.device.open().map_err(AutoModelError::from)?;
        let overrides = self.overrides.iter().fold(Overrides::new(), |all, one| all.merged_with(one));
        let mut builder = AutoModelForCausalLM::from_pretrained(&self.model)
            .device(device)
            .hub_options(self.hub.options(json)?)
            .dtype(self.dtype)
            .config_overrides(&overrides)
            .force_generic(self.force_generic)
            .check_finite(self.check_finite)
            .zero_copy(!self.no_mmap)
            .check_memory(!self.ignore_memory);
        if !self.attention.is_empty() {
            builder = builder.attention(self.attention.iter().copied());
        }
        if let Some(model_type) = &self.assume {
            builder = builder.assume_model_type(model_type);
        }
        if let Some(bytes) = self.memory {
            builder = builder.assume_memory(bytes);
        }
        if self.fast_products {
            builder = builder.precision(Precision::Fast);
        }
        if let Some(config) = self.quantization.config() {
            builder = builder.quantize(config);
        }
        Ok(self.allow_unread_key.iter().fold(builder, |builder, key| builder.allow_unread_key(key)))
    }

    fn warn_of_a_directory_called_demo(&self, quiet: bool) {
        static ONCE: Once = Once::new();
        if !quiet && self.model == DEMO && Path::new(DEMO).is_dir() {
            ONCE.call_once(|| failure::warn("this is the built-in model; the directory of that name is ./demo"));
        }
    }

    /// Loads the model with a progress bar on a terminal; prints warnings unless results are JSON, which contain them.
    pub fn load(&self, json: bool) -> Result<Loaded, CliError> {
        load(self.builder(json)?, json)
    }
}

/// Loads the model of `builder`; prints warnings unless `quiet`.
pub fn load(builder: FromPretrained, quiet: bool) -> Result<Loaded, CliError> {
    let bar = Bar::alone("loading [{bar:30}] {bytes}/{total_bytes} {wide_msg}");
    let shown = bar.clone();
    let start = Instant::now();
    let model = builder.progress(move |progress| show(&shown, progress)).load();
    let seconds = start.elapsed().as_secs_f64();
    bar.clear();
    let model = model?;
    let warnings = warnings(&model);
    if !quiet {
        warnings.iter().for_each(|warning| failure::warn(warning));
    }
    log_load(&model, seconds);
    Ok(Loaded { model, seconds, warnings })
}

fn show(bar: &Bar, progress: Progress<'_>) {
    bar.set_length(progress.bytes_total);
    bar.set_position(progress.bytes_done);
    bar.set_message(progress.parameter);
}

fn warnings(model: &AutoModel) -> Vec<String> {
    let mut warnings: Vec<String> = model.prepared().config.warnings().iter().map(ToString::to_string).collect();
    if let Some(report) = model.report() {
        warnings.extend(report.warnings.iter().cloned());
        warnings.extend(non_finite(report));
    }
    warnings.extend(model.tokenizer().into_iter().flat_map(TextTokenizer::warnings).cloned());
    warnings
}

/// One warning for all parameters with NaN or infinity.
pub fn non_finite(report: &LoadReport) -> Option<String> {
    let first = report.non_finite.first()?;
    let others = report.non_finite.len() - 1;
    let more = if others == 0 { String::new() } else { format!(", and so have {others} more parameter(s)") };
    let overflowed: u64 = report.non_finite.iter().map(|found| found.overflowed).sum();
    let cause = match overflowed {
        0 => "the checkpoint may be damaged".to_owned(),
        some => format!(
            "{some} in all are finite in the file and overflow the dtype they were loaded in: use bfloat16 or float32"
        ),
    };
    Some(format!(
        "parameter `{}` has {} value(s) that are NaN or infinite, the first at index {}{more}: {cause}",
        first.parameter, first.count, first.first_index
    ))
}

fn log_load(model: &AutoModel, seconds: f64) {
    let Some(report) = model.report() else { return };
    tracing::info!(
        "loaded in {}: {} copied or converted, {} left in the mapped files",
        crate::units::seconds(seconds),
        crate::units::bytes(report.copied_bytes),
        crate::units::bytes(report.mapped_bytes),
    );
    tracing::debug!("{}", model.prepared().resolution.reason);
    tracing::debug!("attention: {}", model.prepared().attention.reason);
}
