//! `llm_int8_skip_modules`: what transformers must be told of dense modules.

use super::selection::{Selection, module};
use crate::{LoadError, QuantizationConfig, quantization::SkipList};
use automodel_registry::weights::{ParameterRole, WeightMap};
use std::collections::BTreeSet;

/// The list to write: `None` if only what transformers leaves dense by itself is dense.
///
/// It begins with the patterns of `config`, which transformers reads as we do. The modules of quantised tensors match none of
/// its entries.
///
/// # Errors
/// [`LoadError::SkipModule`].
pub(super) fn skip_list(
    map: &WeightMap,
    config: &QuantizationConfig,
    selection: &Selection<'_>,
) -> Result<Option<Vec<String>>, LoadError> {
    if selection.dense_linears.is_empty() && config.skip_modules.is_empty() {
        return Ok(None);
    }
    let mut list = config.skip_modules.clone();
    list.extend(unmatched(&list, output_heads(map))?);
    let quantized: Vec<String> = selection.quantized.keys().map(|name| selection.canonical(name)).collect();
    // One short entry for the modules of all layers, where that means no other module.
    let open = unmatched(&list, selection.dense_linears.iter().cloned())?;
    for entry in open.iter().map(|name| within_layer(name)).collect::<BTreeSet<_>>() {
        let own = [entry.to_owned()];
        let skip = SkipList::parse(&own)?;
        if !quantized.iter().any(|module| skip.matching(module).next().is_some()) {
            list.extend(own);
        }
    }
    list.extend(unmatched(&list, open)?);
    Ok(Some(list))
}

/// The modules that no entry of the list matches.
fn unmatched(list: &[String], modules: impl IntoIterator<Item = String>) -> Result<Vec<String>, LoadError> {
    let skip = SkipList::parse(list)?;
    Ok(modules.into_iter().filter(|module| skip.matching(module).next().is_none()).collect())
}

/// Modules of output heads. A list replaces transformers' own rule about them.
fn output_heads(map: &WeightMap) -> BTreeSet<String> {
    let heads = map.parameters.iter().filter(|slot| slot.role == ParameterRole::OutputHead);
    heads.flat_map(|slot| &slot.pieces).map(|piece| module(&piece.tensor).to_owned()).collect()
}

/// What follows the number of the layer in a module's path.
fn within_layer(path: &str) -> &str {
    let mut rest = path;
    while let Some((part, behind)) = rest.split_once('.') {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            return behind;
        }
        rest = behind;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::within_layer;

    #[test]
    fn paths_within_layers() {
        assert_eq!(within_layer("model.layers.12.mlp.shared_expert_gate"), "mlp.shared_expert_gate");
        assert_eq!(within_layer("transformer.h.0.attn.c_attn"), "attn.c_attn");
        assert_eq!(within_layer("visual.merger"), "visual.merger");
    }
}
