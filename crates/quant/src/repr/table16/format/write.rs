//! A 4-bit weight as the tensors of a file.

use bytes::Bytes;

use super::super::{Absmax, Quantized4bit, dynamic_map};
use super::{Companion, QuantState, StoredTensor};

/// The tensors of a parameter by name, codes first; the codes are shared with `weight`.
///
/// ```
/// use automodel_quant::{Elements, table16::{Blocksize, QuantType, Quantized4bit, format}};
///
/// let weight = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), [2, 64], Elements::F32(&[0.5; 128]))?;
/// let tensors = format::write_parameter("q_proj.weight", &weight);
/// let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names[..3], ["q_proj.weight", "q_proj.weight.absmax", "q_proj.weight.quant_map"]);
///
/// let find = |name: &str| tensors.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor.clone());
/// assert_eq!(format::read_parameter("q_proj.weight", find)?, weight);
/// # Ok::<(), automodel_quant::QuantError>(())
/// ```
pub fn write_parameter(parameter: &str, weight: &Quantized4bit) -> Vec<(String, StoredTensor)> {
    let state = QuantState::of(weight);
    let data = |name: &str| match Companion::parse(name.strip_prefix(parameter).unwrap_or(name)).map(|(_, part)| part) {
        None => weight.packed().clone(),
        Some(Companion::QuantMap) => bytes_of(weight.quant_type().code()),
        Some(Companion::NestedQuantMap) => bytes_of(dynamic_map()),
        Some(Companion::State(_)) => Bytes::from(state.to_json()),
        Some(Companion::Absmax) => match weight.absmax() {
            Absmax::Plain(scales) => bytes_of(scales),
            Absmax::Nested(nested) => Bytes::copy_from_slice(&nested.codes),
        },
        Some(Companion::NestedAbsmax) => match weight.absmax() {
            Absmax::Plain(_) => Bytes::new(),
            Absmax::Nested(nested) => bytes_of(&nested.absmax),
        },
    };
    let tensors = state.tensors(parameter).into_iter();
    tensors
        .map(|header| {
            let tensor = StoredTensor { dtype: header.dtype, shape: header.shape, data: data(&header.name) };
            (header.name, tensor)
        })
        .collect()
}

fn bytes_of(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
