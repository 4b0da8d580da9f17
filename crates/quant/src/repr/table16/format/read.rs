//! A 4-bit weight from the tensors of a file, which may be wrong in any way.

use safetensors::Dtype;

use super::super::{Absmax, NestedAbsmax, QuantType, Quantized4bit, dynamic_map};
use super::{Companion, QuantState, StoredTensor, TensorHeader};
use crate::QuantError;

/// Reads a quantised parameter; `tensor` finds the tensors of its file by name. The codes are shared with the file's bytes.
///
/// # Errors
/// [`QuantError::MissingTensor`], [`QuantError::ConflictingStates`], what [`QuantState::parse`] refuses,
/// [`QuantError::InvalidTensor`] for a tensor of another dtype, shape or length than the state asks for, or with another code
/// table than bitsandbytes has, [`QuantError::RepackedAbsmax`] for a file that bitsandbytes spoilt, and
/// [`QuantError::InvalidScale`].
pub fn read_parameter(
    parameter: &str,
    tensor: impl Fn(&str) -> Option<StoredTensor>,
) -> Result<Quantized4bit, QuantError> {
    let require = |name: String| {
        let missing = || QuantError::MissingTensor { parameter: parameter.to_owned(), tensor: name.clone() };
        tensor(&name).ok_or_else(missing).map(|tensor| (name.clone(), tensor))
    };
    let state = read_state(parameter, &tensor)?;
    for companion in [Companion::NestedAbsmax, Companion::NestedQuantMap] {
        let name = companion.of(parameter);
        if state.nested.is_none() && tensor(&name).is_some() {
            let problem = "is there, but the quantisation state has no double quantisation".to_owned();
            return Err(QuantError::InvalidTensor { tensor: name, problem });
        }
    }
    for header in state.tensors(parameter) {
        let (name, found) = require(header.name.clone())?;
        // The state's own length varies with the spacing of its JSON, and it was read before.
        if !matches!(Companion::parse(&name), Some((_, Companion::State(_)))) {
            check_header(&header, &found)?;
        }
    }
    let part = |companion: Companion| require(companion.of(parameter)).map(|(_, tensor)| tensor);
    check_table(Companion::QuantMap.of(parameter), &floats(&part(Companion::QuantMap)?), state.quant_type.code())?;
    let absmax = part(Companion::Absmax)?;
    let absmax = match state.nested {
        None => Absmax::Plain(floats(&absmax)),
        Some(nested) => {
            let map = floats(&part(Companion::NestedQuantMap)?);
            check_table(Companion::NestedQuantMap.of(parameter), &map, dynamic_map())?;
            let scales = floats(&part(Companion::NestedAbsmax)?);
            Absmax::Nested(NestedAbsmax { codes: absmax.data.to_vec(), absmax: scales, offset: nested.offset })
        }
    };
    let (_, packed) = require(parameter.to_owned())?;
    Quantized4bit::from_parts(state.quant_type, state.blocksize, state.shape, state.dtype, packed.data, absmax)
}

fn read_state(parameter: &str, tensor: impl Fn(&str) -> Option<StoredTensor>) -> Result<QuantState, QuantError> {
    let name = |quant_type| Companion::State(quant_type).of(parameter);
    let (quant_type, found) = match (tensor(&name(QuantType::Nf4)), tensor(&name(QuantType::Fp4))) {
        (Some(nf4), None) => (QuantType::Nf4, nf4),
        (None, Some(fp4)) => (QuantType::Fp4, fp4),
        (Some(_), Some(_)) => return Err(QuantError::ConflictingStates { parameter: parameter.to_owned() }),
        (None, None) => {
            let tensor = format!("{parameter}.quant_state.bitsandbytes__nf4 (or __fp4)");
            return Err(QuantError::MissingTensor { parameter: parameter.to_owned(), tensor });
        }
    };
    let tensor = name(quant_type);
    let header = TensorHeader { name: tensor.clone(), dtype: Dtype::U8, shape: vec![found.data.len()] };
    check_header(&header, &found)?;
    QuantState::parse(&tensor, quant_type, &found.data)
}

fn check_header(expected: &TensorHeader, found: &StoredTensor) -> Result<(), QuantError> {
    if let Some(fault) = expected.fault(found.dtype, &found.shape) {
        return Err(fault);
    }
    let bytes = expected.shape.iter().product::<usize>() * if expected.dtype == Dtype::F32 { 4 } else { 1 };
    if found.data.len() != bytes {
        let problem = format!("has {} bytes, but {bytes} are expected", found.data.len());
        return Err(QuantError::InvalidTensor { tensor: expected.name.clone(), problem });
    }
    Ok(())
}

fn check_table(tensor: String, found: &[f32], expected: &[f32]) -> Result<(), QuantError> {
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(code) => {
            let problem = format!(
                "code {code} stands for {}, but for {} in bitsandbytes: other tables are not supported",
                found[code], expected[code]
            );
            Err(QuantError::InvalidTensor { tensor, problem })
        }
    }
}

fn floats(tensor: &StoredTensor) -> Vec<f32> {
    tensor.data.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
