//! What a family computes, in words, without a checkpoint.

use crate::{AutoModelError, LayerSummary, describe, summary};
use automodel_config::{ClassDefaults, DefaultValue, Overrides, RawConfig};
use automodel_registry::spec::{EmbeddingSpec, HeadSpec, ModelSpec, NormSpec};
use automodel_registry::{Lowered, Registry, RegistryError, ResolveOptions};
use serde::Serialize;
use serde_json::{Value, json};

/// Sizes for families whose configuration class leaves them open, so that its defaults alone make no model.
const OPEN_SIZES: &[(&str, u64)] =
    &[("head_dim", 128), ("n_routed_experts", 64), ("num_experts_per_tok", 6), ("n_shared_experts", 2)];

/// What a family computes for a config that says no more than its type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FamilySummary {
    /// `model_type` of its configs.
    pub model_type: String,
    /// `architectures` that its checkpoints name.
    pub architectures: Vec<String>,
    /// Keys and values that were added, because the defaults of its class alone make no model.
    pub added: Vec<String>,
    /// From token ids to the residual stream.
    pub embedding: String,
    /// The layers; runs of equal layers are one row.
    pub layers: Vec<LayerSummary>,
    /// Norm after the last layer.
    pub final_norm: String,
    /// From hidden states to logits.
    pub head: String,
}

impl FamilySummary {
    /// The family of a model type, or of an architecture such as `LlamaForCausalLM`.
    ///
    /// ```
    /// let llama = automodel::FamilySummary::of(&automodel::registry::Registry::builtin(), "llama")?;
    /// assert_eq!(llama.layers[0].mlp, "gated MLP of 11008, SiLU");
    /// # Ok::<(), automodel::AutoModelError>(())
    /// ```
    ///
    /// # Errors
    /// [`RegistryError::UnsupportedArchitecture`] for a name that no family has, and a family whose class has no defaults that make a model.
    pub fn of(registry: &Registry, name: &str) -> Result<Self, AutoModelError> {
        let is_named =
            |family: &&automodel_registry::Family| family.model_type == name || family.architectures.contains(&name);
        // Of several with one architecture, that of the shortest name is the class's own: gpt2, not gpt-sw3.
        let family = registry.families().filter(is_named).min_by_key(|family| family.model_type.len());
        if let Some(family) = family.filter(|family| registry.remark(family.model_type).is_some()) {
            return Err(AutoModelError::NoDefaults { model_type: family.model_type.to_owned() });
        }
        let model_type = family.map_or(name, |family| family.model_type);
        let plain = json!({ "model_type": model_type });
        let (lowered, added) = match lower(registry, plain.clone()) {
            Ok(lowered) => (lowered, Vec::new()),
            Err(error @ RegistryError::UnsupportedArchitecture { .. }) => return Err(error.into()),
            Err(_) => lower_with_sizes(registry, family.map(|family| family.defaults), plain)?,
        };
        let spec = lowered.spec.ok_or(AutoModelError::NoSpec)?;
        let architectures = family.map_or(&[][..], |family| family.architectures);
        Ok(Self {
            model_type: model_type.to_owned(),
            architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
            added,
            embedding: embedding(&spec),
            layers: summary::layers(&spec),
            final_norm: spec.backbone.final_norm.map_or("none".to_owned(), norm),
            head: spec.head().map_or("none: hidden states are the result".to_owned(), head),
        })
    }
}

fn lower(registry: &Registry, config: Value) -> Result<Lowered, RegistryError> {
    let unreadable = |source| RegistryError::Config { model_type: String::new(), source: Box::new(source) };
    let raw = RawConfig::from_value(config).map_err(unreadable)?;
    let (config, resolution) = registry.resolve_config(&raw, &Overrides::new(), &ResolveOptions::default())?;
    registry.lower(&config, &resolution)
}

/// With the sizes that the class has no default for; the width of heads only where they do not suffice.
fn lower_with_sizes(
    registry: &Registry,
    defaults: Option<&ClassDefaults>,
    config: Value,
) -> Result<(Lowered, Vec<String>), RegistryError> {
    let has_default = |key: &str| {
        let mut values = defaults.into_iter().flat_map(|defaults| defaults.values);
        values.any(|(name, value)| *name == key && !matches!(value, DefaultValue::Null))
    };
    let with = |sizes: &[(&str, u64)]| {
        let (mut config, mut added) = (config.clone(), Vec::new());
        for (key, size) in sizes.iter().filter(|(key, _)| !has_default(key)) {
            config[*key] = json!(size);
            added.push(format!("{key} {size}"));
        }
        Ok((lower(registry, config)?, added))
    };
    with(&OPEN_SIZES[1..]).or_else(|_: RegistryError| with(OPEN_SIZES))
}

fn norm(norm: NormSpec) -> String {
    format!("{}, epsilon {:e}", describe::norm(norm.kind), norm.eps)
}

// Both name every field, so that a new one is told.
fn embedding(spec: &ModelSpec) -> String {
    let EmbeddingSpec { scale, learned_positions, norm: on_sum, by_layer, projected_from, sinusoids } =
        &spec.backbone.embedding;
    let parts = [
        Some(format!("{} tokens to {}", spec.backbone.vocab_size, spec.backbone.hidden_size)),
        projected_from.map(|width| format!("projected from {width}")),
        scale.map(|scale| format!("scaled by {scale}")),
        learned_positions.as_ref().map(|positions| format!("{} learned positions", positions.positions())),
        sinusoids.map(|_| "sinusoidal positions".to_owned()),
        on_sum.map(|of| format!("{} on the sum", norm(of))),
        by_layer.as_ref().map(|by_layer| format!("embeddings of {} for each layer", by_layer.width)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn head(head: &HeadSpec) -> String {
    let HeadSpec { transform, tied, bias, unit_rows, logit_scale, logit_softcap } = head;
    let parts = [
        transform.as_ref().map(|transform| format!("projection to {} before it", transform.width)),
        Some(if *tied { "shares the weight of the embedding" } else { "own weight" }.to_owned()),
        unit_rows.then(|| "rows of length one".to_owned()),
        bias.then(|| "bias".to_owned()),
        logit_scale.map(|scale| format!("logits scaled by {scale}")),
        logit_softcap.map(|cap| format!("logits soft-capped at {cap}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> FamilySummary {
        FamilySummary::of(&Registry::builtin(), name).unwrap()
    }

    #[test]
    fn what_distinguishes_families_is_said() {
        let gemma = of("gemma2");
        assert_eq!(gemma.embedding, "256000 tokens to 2304, scaled by 48");
        assert_eq!(gemma.final_norm, "RMSNorm (1 + weight), epsilon 1e-6");
        assert_eq!(gemma.head, "shares the weight of the embedding, logits soft-capped at 30");
        assert!(gemma.layers[0].mixer.contains("softcap 50"), "{:?}", gemma.layers[0]);
        assert_eq!(gemma.layers[0].norms, "RMSNorm (1 + weight), before and after each block");
        let gpt2 = of("GPT2LMHeadModel");
        assert_eq!(
            (gpt2.model_type.as_str(), gpt2.embedding.as_str()),
            ("gpt2", "50257 tokens to 768, 1024 learned positions")
        );
        assert!(gpt2.layers[0].mixer.ends_with("no rope") && gpt2.final_norm.starts_with("LayerNorm, "));
        assert!(of("xglm").embedding.ends_with("sinusoidal positions"), "{}", of("xglm").embedding);
        let gemma4 = of("gemma4_text").embedding;
        assert!(gemma4.ends_with("embeddings of 256 for each layer"), "{gemma4}");
        assert!(of("modernbert-decoder").head.starts_with("projection to 768 before it"));
        assert!(of("mixtral").layers[0].mlp.starts_with("mixture, 2 of 8 experts"));
    }

    #[test]
    fn every_family_is_told_and_what_was_added_is_said() {
        let registry = Registry::builtin();
        for family in registry.families() {
            if registry.remark(family.model_type).is_some() {
                let said = FamilySummary::of(&registry, family.model_type).unwrap_err().to_string();
                assert!(said.contains("no default sizes"), "{said}");
                continue;
            }
            let summary = of(family.model_type);
            assert!(!summary.layers.is_empty() && summary.architectures == family.architectures, "{summary:?}");
        }
        assert!(of("llama").added.is_empty());
        assert_eq!(of("glm4_moe").added, ["head_dim 128"]);
    }

    #[test]
    fn unknown_names_are_refused_with_a_reason() {
        let said = |name| FamilySummary::of(&Registry::builtin(), name).unwrap_err().to_string();
        assert!(said("whisper").contains("it is an encoder"), "{}", said("whisper"));
        assert!(said("lama").contains("misspelling of llama"), "{}", said("lama"));
        assert!(said("no such").contains("not supported"), "{}", said("no such"));
    }
}
