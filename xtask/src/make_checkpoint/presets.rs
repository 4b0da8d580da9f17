//! The presets: config.json files under `xtask/presets`, by name.

use crate::Result;
use serde_json::Value;

const PRESETS: [(&str, &str); 6] = [
    ("llama-tiny", include_str!("../../presets/llama-tiny.json")),
    ("llama-1b", include_str!("../../presets/llama-1b.json")),
    ("llama-8b", include_str!("../../presets/llama-8b.json")),
    ("qwen3-tiny", include_str!("../../presets/qwen3-tiny.json")),
    ("qwen3-moe-tiny", include_str!("../../presets/qwen3-moe-tiny.json")),
    ("qwen3-moe-30b", include_str!("../../presets/qwen3-moe-30b.json")),
];

pub fn names() -> [&'static str; PRESETS.len()] {
    PRESETS.map(|(name, _)| name)
}

/// The config.json of a preset.
pub fn config(name: &str) -> Result<Value> {
    let preset = PRESETS.iter().find(|(known, _)| *known == name);
    let (_, text) = preset.ok_or_else(|| format!("no preset is called {name}: there are {}", names().join(", ")))?;
    Ok(serde_json::from_str(text)?)
}
