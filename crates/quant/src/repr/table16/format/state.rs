//! The quantisation state: JSON in a tensor of bytes.

use safetensors::Dtype;
use serde_json::{Map, Value};

use super::super::{Absmax, Blocksize, QuantType, Quantized4bit, Table16, elements_of};
use super::{Companion, TensorHeader};
use crate::{QuantError, WeightDtype};

/// The description of a parameter in the file: all but codes and scales.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantState {
    /// The code table.
    pub quant_type: QuantType,
    /// Elements that share a scale.
    pub blocksize: Blocksize,
    /// The dtype before quantisation.
    pub dtype: WeightDtype,
    /// `[out, in]`
    pub shape: [usize; 2],
    /// Double quantisation.
    pub nested: Option<NestedState>,
}

/// Double quantisation of the scales, 256 at a time in float32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NestedState {
    /// The mean of the scales.
    pub offset: f32,
}

const NESTED_BLOCKSIZE: usize = super::super::NESTED_BLOCKSIZE;

/// A state is short; what is longer is none.
pub(super) const MOST_BYTES: usize = 1 << 16;

impl QuantState {
    /// The state of a quantised weight.
    pub fn of(weight: &Quantized4bit) -> Self {
        let nested = match weight.absmax() {
            Absmax::Plain(_) => None,
            Absmax::Nested(nested) => Some(NestedState { offset: nested.offset }),
        };
        let (quant_type, blocksize) = (weight.quant_type(), weight.blocksize());
        Self { quant_type, blocksize, dtype: weight.dtype(), shape: weight.shape(), nested }
    }

    /// Reads the bytes of the state tensor `tensor`, whose name says `quant_type`.
    ///
    /// # Errors
    /// [`QuantError::StateNotJson`], or [`QuantError::InvalidTensor`] for a value that is missing, out of range or contradicts
    /// the name; [`QuantError::InvalidBlocksize`] and [`QuantError::InvalidShape`].
    ///
    /// ```
    /// use automodel_quant::table16::{QuantType, format::QuantState};
    /// let json = br#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [512, 1408]}"#;
    /// let state = QuantState::parse("q_proj.weight.quant_state.bitsandbytes__nf4", QuantType::Nf4, json)?;
    /// assert_eq!(state.shape, [512, 1408]);
    /// assert_eq!(state.to_json().as_bytes(), json);
    /// # Ok::<(), automodel_quant::QuantError>(())
    /// ```
    pub fn parse(tensor: &str, quant_type: QuantType, json: &[u8]) -> Result<Self, QuantError> {
        let invalid = |problem: String| QuantError::InvalidTensor { tensor: tensor.to_owned(), problem };
        if json.len() > MOST_BYTES {
            return Err(invalid(format!("{} bytes are too many for a quantisation state", json.len())));
        }
        let object: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|source| QuantError::StateNotJson { tensor: tensor.to_owned(), source: Box::new(source) })?;
        let value = |key: &str| object.get(key).ok_or_else(|| invalid(format!("`{key}` is missing")));
        let expect = |key: &str, what: &str| -> Result<QuantError, QuantError> {
            Ok(invalid(format!("`{key}` is {}, but {what} is expected", value(key)?)))
        };
        if value("quant_type")? != quant_type.name() {
            return Err(expect("quant_type", &format!("\"{}\" as in the name", quant_type.name()))?);
        }
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        let Some(blocksize) = size(value("blocksize")?) else { return Err(expect("blocksize", "a positive integer")?) };
        let Some(dtype) = value("dtype")?.as_str().and_then(WeightDtype::from_name) else {
            return Err(expect("dtype", "\"float32\", \"float16\" or \"bfloat16\"")?);
        };
        let sizes = value("shape")?.as_array().map(|sizes| sizes.iter().map(size).collect::<Option<Vec<_>>>());
        let Some(shape) = sizes.flatten().and_then(|sizes| <[usize; 2]>::try_from(sizes).ok()) else {
            return Err(expect("shape", "a list of two sizes")?);
        };
        elements_of(shape)?;
        let blocksize = Blocksize::new(blocksize)?;
        let nested = match object.keys().any(|key| key.starts_with("nested_")) {
            false => None,
            true => {
                if size(value("nested_blocksize")?) != Some(NESTED_BLOCKSIZE) {
                    return Err(expect("nested_blocksize", "256")?);
                }
                if value("nested_dtype")? != "float32" {
                    return Err(expect("nested_dtype", "\"float32\"")?);
                }
                let offset = value("nested_offset")?.as_f64().map(|offset| offset as f32);
                let Some(offset) = offset.filter(|offset| offset.is_finite()) else {
                    return Err(expect("nested_offset", "a finite number")?);
                };
                Some(NestedState { offset })
            }
        };
        Ok(Self { quant_type, blocksize, dtype, shape, nested })
    }

    /// How the weight is coded.
    pub fn scheme(&self) -> Table16 {
        Table16 { quant_type: self.quant_type, blocksize: self.blocksize, double_quant: self.nested.is_some() }
    }

    /// The JSON as Python's `json.dumps` spaces it.
    pub fn to_json(&self) -> String {
        let [rows, columns] = self.shape;
        let nested = self.nested.map_or(String::new(), |nested| {
            // The offset is a double in Python, so its digits are those of one.
            let offset = Value::from(f64::from(nested.offset));
            format!(
                ", \"nested_blocksize\": {NESTED_BLOCKSIZE}, \"nested_dtype\": \"float32\", \"nested_offset\": {offset}"
            )
        });
        format!(
            "{{\"quant_type\": \"{}\", \"blocksize\": {}, \"dtype\": \"{}\", \"shape\": [{rows}, {columns}]{nested}}}",
            self.quant_type.name(),
            self.blocksize.get(),
            self.dtype,
        )
    }

    /// The tensors of a parameter with this state, codes first: what a file must hold, and what to plan for.
    pub fn tensors(&self, parameter: &str) -> Vec<TensorHeader> {
        let elements = self.shape[0] * self.shape[1];
        let blocks = self.blocksize.blocks(elements);
        let header = |name: String, dtype: Dtype, shape: &[usize]| TensorHeader { name, dtype, shape: shape.to_vec() };
        let companion = |companion: Companion, dtype, len| header(companion.of(parameter), dtype, &[len]);
        let absmax = if self.nested.is_some() { Dtype::U8 } else { Dtype::F32 };
        let mut tensors = vec![
            header(parameter.to_owned(), Dtype::U8, &[elements.div_ceil(2), 1]),
            companion(Companion::Absmax, absmax, blocks),
            companion(Companion::QuantMap, Dtype::F32, 16),
        ];
        if self.nested.is_some() {
            tensors.push(companion(Companion::NestedAbsmax, Dtype::F32, blocks.div_ceil(NESTED_BLOCKSIZE)));
            tensors.push(companion(Companion::NestedQuantMap, Dtype::F32, 256));
        }
        tensors.push(companion(Companion::State(self.quant_type), Dtype::U8, self.to_json().len()));
        tensors
    }
}
