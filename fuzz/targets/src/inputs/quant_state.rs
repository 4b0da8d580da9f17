//! The tensors of one 4-bit parameter: a JSON object of names with dtype, shape and data.
//!
//! Data are a text, a number (this byte all over), a list of floats, an object (its JSON), or `{"table": "nf4"}` and the like for
//! the tables of bitsandbytes.

use automodel::quant::{
    QuantError,
    table16::{QuantType, dynamic_map, format},
};
use bytes::Bytes;
use safetensors::Dtype;
use serde_json::Value;

use super::{MIB, Target, say};

/// Data that a number stands for are no longer than this.
const LONGEST: usize = 1 << 20;
const PARAMETER: &str = "w";

pub const TARGET: Target = Target {
    name: "quant_state",
    run,
    // Data of a megabyte can stand for half as many codes as their number in floats, twice.
    fixed_bytes: 64 * MIB,
    bytes_per_byte: 256,
    words: &[
        "\"nf4\"",
        "\"fp4\"",
        "\"U8\"",
        "\"F32\"",
        "nested_",
        "\"blocksize\"",
        "\"bfloat16\"",
        "\"float16\"",
        "\"shape\"",
    ],
};

fn run(input: &[u8]) {
    // Whatever the bytes are, they may be those of the state.
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        match format::QuantState::parse("w.quant_state", quant_type, input) {
            Ok(state) => drop((state.to_json(), state.tensors(PARAMETER))),
            Err(error) => say(&error),
        }
    }
    let Ok(Value::Object(tensors)) = serde_json::from_slice(input) else { return };
    if let Err(error) = read(|name| stored(tensors.get(name)?)) {
        say(&error);
    }
}

/// What is read can be used, and comes back from what is written of it.
fn read(find: impl Fn(&str) -> Option<format::StoredTensor>) -> Result<(), QuantError> {
    let weight = format::read_parameter(PARAMETER, find)?;
    weight.dequantize::<f32>();
    automodel::quant::QuantWeight::from(&weight).dequantize_to_original();
    let written = format::write_parameter(PARAMETER, &weight);
    let again = |name: &str| written.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.clone());
    assert_eq!(format::read_parameter(PARAMETER, again)?, weight, "what was read is written as something else");
    Ok(())
}

fn stored(tensor: &Value) -> Option<format::StoredTensor> {
    let dtype: Dtype = serde_json::from_value(tensor.get("dtype")?.clone()).ok()?;
    let sizes = tensor.get("shape")?.as_array()?.iter();
    let shape: Vec<usize> = sizes.map(|size| usize::try_from(size.as_u64()?).ok()).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let length = elements.and_then(|elements| elements.checked_mul(dtype.bitsize().div_ceil(8))).unwrap_or(LONGEST);
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let data = match tensor.get("data")? {
        Value::String(text) => text.clone().into_bytes(),
        Value::Number(byte) => vec![byte.as_u64()? as u8; length.min(LONGEST)],
        Value::Array(list) => floats(&list.iter().filter_map(|value| Some(value.as_f64()? as f32)).collect::<Vec<_>>()),
        Value::Object(object) => match object.get("table").and_then(Value::as_str) {
            Some("nf4") => floats(QuantType::Nf4.code()),
            Some("fp4") => floats(QuantType::Fp4.code()),
            Some("dynamic") => floats(dynamic_map()),
            _ => serde_json::to_vec(object).ok()?,
        },
        _ => Vec::new(),
    };
    Some(format::StoredTensor { dtype, shape, data: Bytes::from(data) })
}
