//! Parameters that the files have quantised.

use super::{Fill, PackedFill, PlanRow, PlanSource, build::Builder, names::Names};
use crate::{CheckpointFiles, LoadError, Problems, QuantizationFault, ShapeMismatch, TensorInfo, strided::Walk};
use automodel_quant::{
    Cut, CutError, QuantError,
    files::{self, DescribeError, StoredWeight, TensorFiles},
};
use automodel_registry::weights::{ParameterSlot, SourcePiece, ViewOp};

const STORED_QUANTIZED: &str = "the dtype before quantisation, which the codes stand for";

/// How the files store a parameter.
pub(super) enum Stored<'s> {
    /// In floats, or not at all.
    Floats,
    /// A piece of it is quantised.
    Quantized(&'s SourcePiece, Box<StoredWeight>),
    /// Something is wrong with it, which is among the problems.
    Refused,
}

/// The headers of a checkpoint, as the readers of quantised weights ask for them.
struct Tensors<'a> {
    names: &'a Names<'a>,
    files: &'a CheckpointFiles,
}

impl TensorFiles for Tensors<'_> {
    type Error = LoadError;

    fn header(&self, name: &str) -> Option<(safetensors::Dtype, Vec<usize>)> {
        self.names.exact(name).map(|(_, info)| (info.dtype.as_safetensors(), info.shape.clone()))
    }

    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, LoadError> {
        match self.names.exact(name) {
            Some((_, info)) => self.files.read_tensor(info, most),
            None => Ok(Vec::new()),
        }
    }
}

impl Builder<'_> {
    /// Finds out whether a parameter is stored quantised.
    ///
    /// # Errors
    /// [`LoadError::Io`] if the tensor that describes it cannot be read.
    pub fn stored<'s>(&mut self, slot: &'s ParameterSlot) -> Result<Stored<'s>, LoadError> {
        if !self.may_have_quantized {
            return Ok(Stored::Floats);
        }
        for piece in &slot.pieces {
            let Some((name, _)) = self.names.resolve(&piece.tensor) else { continue };
            let tensors = Tensors { names: self.names, files: self.files };
            match files::describe(name, self.options.declared.as_ref(), &tensors) {
                Ok(None) => {}
                Ok(Some(stored)) => return Ok(Stored::Quantized(piece, Box::new(stored))),
                Err(DescribeError::Files(error)) => return Err(error),
                Err(DescribeError::Weight(error)) => {
                    self.mark_read(name);
                    self.refuse::<()>(slot, described(&error));
                    return Ok(Stored::Refused);
                }
            }
        }
        Ok(Stored::Floats)
    }

    /// The row of a parameter of which a piece is stored quantised; `None` if something is wrong with it, which is then among the
    /// problems.
    pub fn packed_row(&mut self, slot: &ParameterSlot, piece: &SourcePiece, stored: StoredWeight) -> Option<PlanRow> {
        self.mark_read(&stored.parameter);
        let shape = match (slot.pieces.len(), <[usize; 2]>::try_from(slot.shape.as_slice())) {
            (1, Ok(shape)) => shape,
            _ => {
                let reason =
                    format!("it is made of `{}` and others, but quantised tensors cannot be joined", stored.parameter);
                return self.refuse(slot, reason);
            }
        };
        if let Some(reason) = self.map.wrong_way_round(slot) {
            return self.fault(slot, reason);
        }
        let (tensor_shape, ops) = decoded_piece(piece);
        if tensor_shape != stored.shape {
            let (tensor, parameter) = (stored.parameter.clone(), slot.path.clone());
            let found = stored.shape.to_vec();
            self.problems.shapes.push(ShapeMismatch { tensor, parameter, expected: tensor_shape, found });
            return None;
        }
        let view = match SourcePiece::view(&stored.parameter, &tensor_shape, ops.clone()).strided() {
            Ok(view) => view,
            Err(error) => return self.fault(slot, error.to_string()),
        };
        let walk = Walk::new(&view);
        self.check_elements(slot, [walk.numel()].into_iter())?;
        let cut = match Cut::new(stored.scheme, stored.shape, walk.runs()) {
            Ok(cut) => cut,
            Err(error) => return self.refuse(slot, within_a_block(&stored, error)),
        };
        let scheme = cut.scheme();
        let Some(bytes) = scheme.bytes(shape) else {
            return self.fault(slot, format!("its size in bytes overflows for shape {:?}", slot.shape));
        };
        let mut tensors = stored.tensors.iter().filter_map(|header| self.names.exact(&header.name));
        let (name, info) = tensors.next()?;
        let codes = PlanSource { ops, walk, ..whole(name, info)? };
        let companions = tensors.map(|(name, info)| whole(name, info)).collect::<Option<Vec<_>>>()?;
        let mapped = self.options.zero_copy && self.device.cpu && codes.walk.contiguous().is_some();
        let fill = PackedFill { stored, cut, scheme, shape, codes, companions, mapped };
        Some(PlanRow::new(slot, Fill::Packed(Box::new(fill)), bytes, STORED_QUANTIZED))
    }

    /// Counts the codes and all tensors that belong to them as read, superfluous ones included.
    fn mark_read(&mut self, parameter: &str) {
        let belongs = |name: &&str| *name == parameter || files::owner(name) == Some(parameter);
        self.read.extend(self.names.beginning(parameter).filter(belongs));
    }

    fn refuse<T>(&mut self, slot: &ParameterSlot, reason: String) -> Option<T> {
        let Problems { quantization, .. } = &mut self.problems;
        quantization.push(QuantizationFault { parameter: slot.path.clone(), reason });
        None
    }
}

/// A tensor as it is.
fn whole(name: &str, info: &TensorInfo) -> Option<PlanSource> {
    let walk = Walk::new(&SourcePiece::whole("", &info.shape).strided().ok()?);
    let (shard, range, stored) = (info.shard, info.range.clone(), info.dtype);
    Some(PlanSource { tensor: name.to_owned(), shard, range, stored, ops: Vec::new(), walk })
}

/// Why a part of a quantised tensor cannot be used by itself.
fn within_a_block(stored: &StoredWeight, error: CutError) -> String {
    let CutError { at, unit } = error;
    format!(
        "its part of `{}` is cut at element {at}, within a block of {unit} that shares a scale: it cannot be taken out without \
         decoding; quantise the original checkpoint instead",
        stored.parameter
    )
}

/// Shape of the tensor when it is dequantised, and the operations on it then. Matrices that checkpoints have transposed
/// (GPT-2's `Conv1D`) are turned before they are quantised, see `Bnb4bitQuantize` in transformers' integrations/bitsandbytes.py.
fn decoded_piece(piece: &SourcePiece) -> (Vec<usize>, Vec<ViewOp>) {
    match (piece.tensor_shape.as_slice(), piece.ops.split_first()) {
        (&[inputs, outputs], Some((ViewOp::Transpose(0, 1) | ViewOp::Transpose(1, 0), rest))) => {
            (vec![outputs, inputs], rest.to_vec())
        }
        _ => (piece.tensor_shape.clone(), piece.ops.clone()),
    }
}

/// An error with its cause.
fn described(error: &QuantError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
