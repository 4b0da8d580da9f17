//! `automodel architectures`: the supported architectures.

use crate::{error::CliError, output};
use automodel::config::{ClassDefaults, DefaultValue};
use automodel::registry::{BUILTIN_RULES, CompatibilityRule, CustomImplementation, Family, Registry};
use automodel::{FamilySummary, LayerSummary};
use serde_json::{Map, Value, json};

/// List the supported architectures, or show what one computes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: automodel architectures gemma2")]
pub struct Args {
    /// Model type or architecture: what it computes, with the defaults of its configuration class
    name: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<(), CliError> {
    let registry = Registry::builtin();
    if let Some(name) = &args.name {
        let summary = FamilySummary::of(&registry, name)?;
        return if json { output::print_json(&summary) } else { output::print(&one_as_text(&summary)) };
    }
    if json { output::print_json(&as_json(&registry)) } else { output::print(&as_text(&registry)) }
}

fn one_as_text(summary: &FamilySummary) -> String {
    let sizes = match summary.added.as_slice() {
        [] => "defaults of its configuration class".to_owned(),
        added => format!("defaults of its configuration class, which leave open: {}", added.join(", ")),
    };
    let rows = [
        ("model type", &summary.model_type),
        ("architectures", &summary.architectures.join(", ")),
        ("sizes", &sizes),
        ("embedding", &summary.embedding),
        ("final norm", &summary.final_norm),
        ("head", &summary.head),
    ];
    let mut text = output::table(&rows.map(|(name, value)| vec![name.to_owned(), value.clone()]), &[]);
    text.push_str("\nLayers\n");
    text.push_str(&output::table(&kinds(&summary.layers), &[]));
    text
}

/// A row for each kind of layer, with the layers that are of it.
fn kinds(runs: &[LayerSummary]) -> Vec<Vec<String>> {
    const SHOWN: usize = 3;
    let mut kinds: Vec<(Vec<&LayerSummary>, [&String; 3])> = Vec::new();
    for run in runs {
        let words = [&run.mixer, &run.mlp, &run.norms];
        match kinds.iter_mut().find(|(_, known)| *known == words) {
            Some((of_kind, _)) => of_kind.push(run),
            None => kinds.push((vec![run], words)),
        }
    }
    let row = |(runs, words): (Vec<&LayerSummary>, [&String; 3])| {
        let range = |run: &&LayerSummary| {
            if run.first == run.last { run.first.to_string() } else { format!("{}-{}", run.first, run.last) }
        };
        let mut which = runs.iter().take(SHOWN).map(range).collect::<Vec<_>>().join(", ");
        if runs.len() > SHOWN {
            let count: usize = runs.iter().map(|run| run.last - run.first + 1).sum();
            which.push_str(&format!(", ... ({count} layers)"));
        }
        std::iter::once(which).chain(words.map(Clone::clone)).collect()
    };
    kinds.into_iter().map(row).collect()
}

fn as_json(registry: &Registry) -> Value {
    json!({
        "families": registry.families().map(family).collect::<Vec<_>>(),
        "custom_implementations": registry.custom_implementations().map(custom).collect::<Vec<_>>(),
        "rules": BUILTIN_RULES.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn family(family: &Family) -> Value {
    json!({
        "model_type": family.model_type,
        "architectures": family.architectures,
        "defaults": defaults(family.defaults),
        "aliases": family.defaults.aliases,
    })
}

fn custom(implementation: &CustomImplementation) -> Value {
    json!({
        "name": implementation.name,
        "architecture": implementation.architecture,
        "model_type": implementation.model_type,
        "options": implementation.options.names(),
        "tags": implementation.tags,
    })
}

fn rule(rule: &CompatibilityRule) -> Value {
    json!({ "architecture": rule.architecture, "any_of": rule.any_of, "reason": rule.reason })
}

fn defaults(defaults: &ClassDefaults) -> Map<String, Value> {
    let value = |value: DefaultValue| match value {
        DefaultValue::Null => Value::Null,
        DefaultValue::Bool(value) => json!(value),
        DefaultValue::Int(value) => json!(value),
        DefaultValue::Float(value) => json!(value),
        DefaultValue::Str(value) => json!(value),
        DefaultValue::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    };
    defaults.values.iter().map(|&(key, default)| (key.to_owned(), value(default))).collect()
}

fn as_text(registry: &Registry) -> String {
    let header = ["model_type", "architectures", "class defaults"].map(str::to_owned).to_vec();
    let families = registry
        .families()
        .map(|family| vec![family.model_type.to_owned(), family.architectures.join(", "), summary(family.defaults)]);
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(families).collect();
    let mut text = output::table(&rows, &[]);

    text.push_str("\nCustom implementations, which take precedence over the generic decoder:\n");
    let mut none = true;
    for implementation in registry.custom_implementations() {
        none = false;
        text.push_str(&format!("  {}: {}\n", implementation.name, implementation.architecture));
    }
    if none {
        text.push_str("  none built in; programs can register their own\n");
    }

    text.push_str("\nConfigs that fit a custom implementation:\n");
    for rule in BUILTIN_RULES {
        text.push_str(&format!("  {}: with {}\n    {}\n", rule.architecture, rule.any_of.join(" or "), rule.reason));
    }
    text
}

/// The sizes of a model whose config has only its type.
fn summary(defaults: &ClassDefaults) -> String {
    let size = |key: &str| match defaults.values.iter().find(|(name, _)| *name == key) {
        Some((_, DefaultValue::Int(size))) => Some(size.to_string()),
        _ => None,
    };
    let parts = [
        ("layers", "num_hidden_layers"),
        ("hidden", "hidden_size"),
        ("heads", "num_attention_heads"),
        ("vocabulary", "vocab_size"),
    ];
    let parts = parts.iter().filter_map(|(word, key)| Some(format!("{word} {}", size(key)?)));
    parts.collect::<Vec<_>>().join(", ")
}
