//! `automodel inspect`: config, implementation and load plan of a model.

use crate::{error::CliError, escape, model_args::ModelArgs, output, units};
use automodel::config::{Origin, ResolvedConfig};
use automodel::registry::Implementation;
use automodel::{DEMO, Device, Summary};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Lengths of context for which the size of the KV cache is shown.
const CONTEXTS: [(&str, usize); 3] = [("4k", 4 << 10), ("32k", 32 << 10), ("128k", 128 << 10)];

/// Show the config, implementation and load plan of a model.
#[derive(Debug, clap::Args)]
#[command(after_help = "Reads config and headers, no weights.\n\nExample: automodel inspect demo --config")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Show each value of the config with its origin
    #[arg(long)]
    config: bool,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let mut summary = args.model.builder(json)?.inspect()?;
    let shown = show(args, &summary, json);
    // The process ends after this: freeing the rows of a large plan one by one would take a tenth of its time.
    std::mem::forget(std::mem::take(&mut summary.plan.rows));
    shown
}

fn show(args: &Args, summary: &Summary, json: bool) -> Result<(), CliError> {
    if json {
        return output::print_json(&as_json(summary, args.config)?);
    }
    let mut text = as_text(&args.model.model, summary);
    if args.config {
        text.push_str("\nConfig\n");
        text.push_str(&indented(&config_table(&summary.prepared.config)));
    }
    output::print(&text)
}

/// The KV cache of models with windowed layers.
struct Windows {
    /// The lengths of the windows.
    lengths: BTreeSet<usize>,
    /// Bytes per token within all windows.
    token_bytes: u64,
}

impl Windows {
    fn of(summary: &Summary) -> Option<Self> {
        let spec = summary.prepared.lowered.spec.as_ref()?;
        let mixers = spec.backbone.layers.iter().flat_map(|layer| layer.mixers());
        let lengths: BTreeSet<usize> =
            mixers.filter_map(|mixer| mixer.cache(spec.backbone.hidden_size).window).collect();
        (!lengths.is_empty()).then_some(Self { lengths, token_bytes: summary.cache_bytes(1)? })
    }

    /// `window of 4,096`.
    fn name(&self) -> String {
        let lengths: Vec<String> = self.lengths.iter().map(|&length| units::grouped(length as u64)).collect();
        let plural = if lengths.len() == 1 { "" } else { "s" };
        format!("window{plural} of {}", lengths.join(" and "))
    }
}

/// Memory of the weights.
struct Memory {
    float32: u64,
    bfloat16: u64,
    on_device: u64,
}

impl Memory {
    fn of(summary: &Summary) -> Self {
        Self {
            float32: summary.parameters.saturating_mul(4),
            bfloat16: summary.parameters.saturating_mul(2),
            on_device: summary.target_bytes.values().copied().fold(0, u64::saturating_add),
        }
    }
}

fn as_json(summary: &Summary, with_config: bool) -> Result<Value, CliError> {
    let mut value = serde_json::to_value(summary).map_err(|source| CliError::Json { source })?;
    let memory = Memory::of(summary);
    let cache: Map<String, Value> =
        CONTEXTS.iter().map(|(name, positions)| ((*name).to_owned(), json!(summary.cache_bytes(*positions)))).collect();
    if let Some(object) = value.as_object_mut() {
        let memory = json!({
            "weights_float32_bytes": memory.float32,
            "weights_bfloat16_bytes": memory.bfloat16,
            "weights_on_device_bytes": memory.on_device,
            "load_peak_bytes": summary.peak_bytes,
            "cache_bytes_per_token": summary.cache_bytes_per_token,
            "cache_bytes_per_token_within_windows": summary.cache_bytes(1),
            "cache_bytes_at_most": summary.cache_bytes_at_most,
            "cache_bytes": cache,
        });
        object.insert("memory".to_owned(), memory);
        if with_config {
            object.insert("config".to_owned(), config_json(&summary.prepared.config));
        }
    }
    Ok(value)
}

fn config_json(config: &ResolvedConfig) -> Value {
    let rows = config.describe().into_iter();
    rows.map(|(key, value, origin)| json!({ "key": key, "value": value, "origin": origin.to_string() })).collect()
}

fn as_text(model: &str, summary: &Summary) -> String {
    let mut text = output::table(&facts(model, summary), &[]);
    text.push_str("\nMemory\n");
    text.push_str(&indented(&output::table(&memory_rows(summary), &[1])));
    text.push_str("\nLayers\n");
    text.push_str(&indented(&layer_table(summary)));
    if !summary.warnings.is_empty() {
        text.push_str("\nWarnings\n");
        summary.warnings.iter().for_each(|warning| text.push_str(&format!("  {}\n", escape::line(warning))));
    }
    text
}

fn facts(model: &str, summary: &Summary) -> Vec<Vec<String>> {
    let resolution = &summary.resolution;
    let implementation = match &resolution.implementation {
        Implementation::Generic { family } => format!("generic decoder, family {family}"),
        Implementation::Custom { name } => format!("custom, {name}"),
        _ => "unknown to this command".to_owned(),
    };
    let architecture = resolution.architecture.as_deref().unwrap_or("not named");
    let mut rows = vec![
        ("model", model.to_owned()),
        ("directory", directory(model, summary)),
        ("architecture", format!("{architecture}, model type {}", resolution.model_type)),
        ("implementation", implementation),
        ("why", resolution.reason.clone()),
        ("attention", format!("{}: {}", summary.attention, summary.attention_reason)),
        ("parameters", units::count(summary.parameters)),
        ("stored", stored(summary)),
        (
            on_device(summary),
            format!(
                "{}, of which {} stay in the mapped files",
                by_dtype(&summary.target_bytes),
                units::bytes(summary.mapped_bytes)
            ),
        ),
    ];
    if let Some(spec) = &summary.prepared.lowered.spec {
        let backbone = &spec.backbone;
        let positions =
            backbone.max_position_embeddings.map_or("unlimited".to_owned(), |limit| units::grouped(limit as u64));
        let vocabulary = units::grouped(backbone.vocab_size as u64);
        rows.insert(6, ("limits", format!("{positions} positions, vocabulary of {vocabulary}")));
    }
    if let Some(remark) = &resolution.remark {
        rows.insert(5, ("note", remark.clone()));
    }
    rows.extend(summary.dtype_reasons.iter().map(|reason| ("dtype", reason.clone())));
    if let Some(commit) = &summary.commit {
        rows.insert(2, ("commit", commit.clone()));
    }
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn directory(model: &str, summary: &Summary) -> String {
    if model == DEMO {
        return "none: the demo is part of this program".to_owned();
    }
    if summary.headers_only {
        return "none yet: config and headers were read from the server".to_owned();
    }
    summary.directory.display().to_string()
}

fn on_device(summary: &Summary) -> &'static str {
    if summary.plan.device == Device::flex() { "on cpu" } else { "on device" }
}

fn by_dtype(bytes: &BTreeMap<String, u64>) -> String {
    let parts = bytes.iter().map(|(dtype, bytes)| format!("{dtype} {}", units::bytes(*bytes)));
    parts.collect::<Vec<_>>().join(", ")
}

/// The bytes that are read from the files, and unread tensors.
fn stored(summary: &Summary) -> String {
    let read = by_dtype(&summary.stored_bytes);
    match summary.unread_tensors {
        0 => read,
        unread => format!("{read}; {unread} tensors of {} are not read", units::bytes(summary.unread_bytes)),
    }
}

fn memory_rows(summary: &Summary) -> Vec<Vec<String>> {
    let memory = Memory::of(summary);
    let mut rows = vec![
        ("weights in float32".to_owned(), units::bytes(memory.float32)),
        ("weights in bfloat16".to_owned(), units::bytes(memory.bfloat16)),
        (format!("weights {}, as planned", on_device(summary)), units::bytes(memory.on_device)),
        ("peak while loading".to_owned(), units::bytes(summary.peak_bytes)),
    ];
    let windows = Windows::of(summary);
    match (&windows, summary.cache_bytes_per_token) {
        (None, Some(bytes)) => rows.push(("KV cache per token".to_owned(), units::bytes(bytes))),
        (Some(windows), Some(beyond)) => {
            let within = format!("KV cache per token, within the {}", windows.name());
            rows.push((within, units::bytes(windows.token_bytes)));
            let further = if beyond == 0 { "none".to_owned() } else { units::bytes(beyond) };
            rows.push(("KV cache per token, beyond".to_owned(), further));
        }
        (_, None) => {}
    }
    for (name, positions) in CONTEXTS {
        if let Some(bytes) = summary.cache_bytes(positions) {
            rows.push((format!("KV cache, {name} tokens"), units::bytes(bytes)));
        }
    }
    if let Some(bytes) = summary.cache_bytes_at_most {
        rows.push(("KV cache, maximum".to_owned(), units::bytes(bytes)));
    }
    rows.into_iter().map(|(name, value)| vec![name, value]).collect()
}

fn layer_table(summary: &Summary) -> String {
    if summary.layers.is_empty() {
        return "known to the custom implementation alone\n".to_owned();
    }
    let rows = summary.layers.iter().map(|run| {
        let range = if run.first == run.last { run.first.to_string() } else { format!("{}-{}", run.first, run.last) };
        vec![range, run.mixer.clone(), run.mlp.clone(), run.norms.clone()]
    });
    output::table(&rows.collect::<Vec<_>>(), &[])
}

fn config_table(config: &ResolvedConfig) -> String {
    let rows = config.describe().into_iter().map(|(key, value, origin)| {
        let origin = match origin {
            Origin::File => "file".to_owned(),
            Origin::Override => "override".to_owned(),
            Origin::ClassDefault => "class default".to_owned(),
            Origin::Derived(why) => format!("derived: {why}"),
        };
        vec![key, output::shorten(&value.to_string(), 60), origin]
    });
    output::table(&rows.collect::<Vec<_>>(), &[])
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
