//! `quantization_config` of a saved checkpoint, and its `llm_int8_skip_modules`, the linear modules that stay dense.

use super::{SkipList, module_of};
use crate::LoadError;
use automodel_quant::{Scheme, WeightDtype, declared::bitsandbytes_config};
use automodel_registry::weights::{ParameterRole, WeightMap};
use serde_json::Value;
use std::collections::BTreeSet;

/// Modules of a checkpoint, by their names in transformers.
pub(crate) struct Modules {
    /// Those of quantised weights.
    pub quantized: Vec<String>,
    /// Dense ones that could be linear modules to transformers, beside the output heads.
    pub dense_linears: Vec<String>,
    /// Output heads.
    pub heads: BTreeSet<String>,
}

impl Modules {
    /// The list to write: `None` if the only dense modules are those that transformers leaves dense by default.
    ///
    /// It begins with `patterns`, which transformers reads as we do. The modules of quantised tensors match none of its entries.
    ///
    /// # Errors
    /// [`LoadError::SkipModule`].
    pub fn skip_list(&self, patterns: &[String]) -> Result<Option<Vec<String>>, LoadError> {
        let (quantized_heads, heads): (Vec<&String>, Vec<&String>) =
            self.heads.iter().partition(|head| self.quantized.contains(head));
        if self.dense_linears.is_empty() && patterns.is_empty() && quantized_heads.is_empty() {
            return Ok(None);
        }
        let mut list = patterns.to_vec();
        list.extend(unmatched(&list, heads.into_iter().cloned())?);
        // One short entry for the modules of all layers, where that means no other module.
        let open = unmatched(&list, self.dense_linears.iter().cloned())?;
        for entry in open.iter().map(|name| within_layer(name)).collect::<BTreeSet<_>>() {
            let own = [entry.to_owned()];
            let skip = SkipList::parse(&own)?;
            if !self.quantized.iter().any(|module| skip.matching(module).next().is_some()) {
                list.extend(own);
            }
        }
        list.extend(unmatched(&list, open)?);
        Ok(Some(list))
    }
}

/// The `quantization_config` of config.json for weights in `scheme`. `dense_modules` is `None` if the only dense modules are those
/// that transformers leaves dense by default.
///
/// # Errors
/// [`LoadError::UnsavableScheme`].
pub(crate) fn declaration(
    scheme: Scheme,
    compute_dtype: WeightDtype,
    dense_modules: Option<&[String]>,
) -> Result<Value, LoadError> {
    bitsandbytes_config(scheme, compute_dtype, dense_modules)
        .ok_or_else(|| LoadError::UnsavableScheme { scheme: scheme.to_string() })
}

/// The modules that no entry of the list matches.
fn unmatched(list: &[String], modules: impl IntoIterator<Item = String>) -> Result<Vec<String>, LoadError> {
    let skip = SkipList::parse(list)?;
    Ok(modules.into_iter().filter(|module| skip.matching(module).next().is_none()).collect())
}

/// Whether transformers may have a linear module for a dense matrix of this role and has to be told that it is dense.
pub(crate) fn may_be_linear(role: ParameterRole) -> bool {
    !matches!(
        role,
        ParameterRole::Embedding
            | ParameterRole::PositionEmbedding
            | ParameterRole::Norm
            | ParameterRole::OutputHead
            | ParameterRole::ExpertProjection
    )
}

/// Modules of output heads. A list replaces transformers' own rule about them.
pub(crate) fn output_heads(map: &WeightMap) -> BTreeSet<String> {
    let heads = map.parameters.iter().filter(|slot| slot.role == ParameterRole::OutputHead);
    heads.flat_map(|slot| &slot.pieces).map(|piece| module_of(&piece.tensor).to_owned()).collect()
}

/// A module's path within its layer.
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
