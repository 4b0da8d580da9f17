//! Which tensors a weight has, from names, headers and its state.

use safetensors::Dtype;

use super::super::{QuantType, Table16};
use super::{Companion, NestedState, QuantState, TensorHeader, state::MOST_BYTES};
use crate::{
    QuantError, WeightDtype,
    files::{DescribeError, Format, PlannedTensor, StoredWeight, TensorFiles},
};

/// Digits, sign and exponent that a decimal number may have more than `0.0`.
const NUMBER_BYTES: usize = 32;

/// The weight that the files have as `parameter`, if that has a quantisation state.
pub(crate) fn describe<F: TensorFiles>(
    parameter: &str,
    files: &F,
) -> Result<Option<StoredWeight>, DescribeError<F::Error>> {
    let header = |companion: Companion| files.header(&companion.of(parameter));
    let with_state = |quant_type: &QuantType| header(Companion::State(*quant_type)).is_some();
    let Some(quant_type) = [QuantType::Nf4, QuantType::Fp4].into_iter().find(with_state) else { return Ok(None) };
    let state = read_state(parameter, quant_type, files)?;
    if quant_type == QuantType::Nf4 && with_state(&QuantType::Fp4) {
        return Err(QuantError::ConflictingStates { parameter: parameter.to_owned() }.into());
    }
    for stray in [Companion::NestedAbsmax, Companion::NestedQuantMap] {
        if state.nested.is_none() && header(stray).is_some() {
            let problem = "is there, but the quantisation state has no double quantisation".to_owned();
            return Err(QuantError::InvalidTensor { tensor: stray.of(parameter), problem }.into());
        }
    }
    let tensors = state.tensors(parameter).into_iter();
    let tensors = tensors.map(|expected| found(parameter, expected, files)).collect::<Result<Vec<_>, QuantError>>()?;
    Ok(Some(StoredWeight {
        parameter: parameter.to_owned(),
        scheme: state.scheme().into(),
        shape: state.shape,
        dtype: state.dtype,
        tensors,
        format: Format::BitsAndBytes,
    }))
}

fn read_state<F: TensorFiles>(
    parameter: &str,
    quant_type: QuantType,
    files: &F,
) -> Result<QuantState, DescribeError<F::Error>> {
    let tensor = Companion::State(quant_type).of(parameter);
    match files.header(&tensor) {
        Some((Dtype::U8, shape)) if shape.len() == 1 => {}
        found => {
            let (dtype, shape) = found.map_or(("none".to_owned(), vec![]), |(dtype, shape)| (dtype.to_string(), shape));
            let problem =
                format!("has dtype {dtype} and shape {shape:?}, but a quantisation state is a row of bytes (U8)");
            return Err(QuantError::InvalidTensor { tensor, problem }.into());
        }
    }
    let json = files.read(&tensor, MOST_BYTES as u64).map_err(DescribeError::Files)?;
    Ok(QuantState::parse(&tensor, quant_type, &json)?)
}

/// The header in the files, if it is the one that the state requires.
fn found<F: TensorFiles>(parameter: &str, expected: TensorHeader, files: &F) -> Result<TensorHeader, QuantError> {
    let Some((dtype, shape)) = files.header(&expected.name) else {
        return Err(QuantError::MissingTensor { parameter: parameter.to_owned(), tensor: expected.name });
    };
    // The state's own length varies with the spacing of its JSON, and it was read before.
    let is_state = matches!(Companion::parse(&expected.name), Some((_, Companion::State(_))));
    match expected.fault(dtype, &shape).filter(|_| !is_state) {
        Some(fault) => Err(fault),
        None => Ok(TensorHeader { name: expected.name, dtype, shape }),
    }
}

/// The tensors of a weight that is yet to be quantised.
pub(crate) fn planned(parameter: &str, scheme: Table16, shape: [usize; 2], dtype: WeightDtype) -> Vec<PlannedTensor> {
    let nested = scheme.double_quant.then_some(NestedState { offset: 0.0 });
    let state = QuantState { quant_type: scheme.quant_type, blocksize: scheme.blocksize, dtype, shape, nested };
    let spare = |header: &TensorHeader| match Companion::parse(&header.name) {
        Some((_, Companion::State(_))) => NUMBER_BYTES,
        _ => 0,
    };
    let tensors = state.tensors(parameter).into_iter();
    tensors.map(|header| PlannedTensor { spare: spare(&header), header }).collect()
}
