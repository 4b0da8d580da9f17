//! Parameters that the files have in 4 bits, as bitsandbytes stores them.

use super::{Fill, PackedFill, PlanRow, PlanSource, build::Builder};
use crate::{Encoding, LoadError, Problems, QuantizationFault, ShapeMismatch, StoredDtype, TensorInfo, strided::Walk};
use automodel_quant::{
    QuantError, QuantType,
    format::{Companion, QuantState, TensorHeader},
};
use automodel_registry::weights::{ParameterSlot, SourcePiece, ViewOp};

const STORED_4BIT: &str = "the dtype before quantisation, which the codes stand for";

/// More bytes than a quantisation state has.
const MOST_STATE_BYTES: u64 = 1 << 16;

/// A tensor of codes: its name in the files, and the table of its state.
pub(super) struct Packed<'a> {
    piece: &'a SourcePiece,
    name: String,
    quant_type: QuantType,
}

impl Builder<'_> {
    /// The codes that a parameter is read from, if it is stored in 4 bits.
    pub fn stored_packed<'s>(&self, slot: &'s ParameterSlot) -> Option<Packed<'s>> {
        if !self.has_quantized {
            return None;
        }
        slot.pieces.iter().find_map(|piece| {
            let (name, _) = self.names.resolve(&piece.tensor)?;
            let has_state =
                |quant_type: &QuantType| self.names.exact(&Companion::State(*quant_type).of(name)).is_some();
            let quant_type = [QuantType::Nf4, QuantType::Fp4].into_iter().find(has_state)?;
            Some(Packed { piece, name: name.to_owned(), quant_type })
        })
    }

    /// The row of a parameter that is stored in 4 bits; `None` if something is wrong with it, which is then among the problems.
    ///
    /// # Errors
    /// [`LoadError::Io`] if its state cannot be read.
    pub fn packed_row(&mut self, slot: &ParameterSlot, packed: Packed<'_>) -> Result<Option<PlanRow>, LoadError> {
        let state_name = Companion::State(packed.quant_type).of(&packed.name);
        let Some((_, info)) = self.names.exact(&state_name) else { return Ok(None) };
        if info.dtype != StoredDtype::U8 || info.shape.len() != 1 {
            self.mark_read(&packed.name);
            let (dtype, shape) = (info.dtype, &info.shape);
            let problem =
                format!("has dtype {dtype} and shape {shape:?}, but a quantisation state is a row of bytes (U8)");
            return Ok(self.refuse(slot, described(&QuantError::InvalidTensor { tensor: state_name, problem })));
        }
        let json = self.files.read_tensor(info, MOST_STATE_BYTES)?;
        let state = match QuantState::parse(&state_name, packed.quant_type, &json) {
            Ok(state) => state,
            Err(error) => {
                self.mark_read(&packed.name);
                return Ok(self.refuse(slot, described(&error)));
            }
        };
        Ok(self.row_of_state(slot, &packed, &state))
    }

    fn row_of_state(&mut self, slot: &ParameterSlot, packed: &Packed<'_>, state: &QuantState) -> Option<PlanRow> {
        self.mark_read(&packed.name);
        if slot.pieces.len() != 1 || slot.shape.len() != 2 {
            let reason = format!("it is made of `{}` and others, but 4-bit tensors cannot be joined", packed.name);
            return self.refuse(slot, reason);
        }
        if let Some(reason) = self.map.wrong_way_round(slot) {
            return self.fault(slot, reason);
        }
        let (tensor_shape, ops) = decoded_piece(packed.piece);
        if tensor_shape != state.shape {
            let (tensor, parameter) = (packed.name.clone(), slot.path.clone());
            let found = state.shape.to_vec();
            self.problems.shapes.push(ShapeMismatch { tensor, parameter, expected: tensor_shape, found });
            return None;
        }
        if let Some(error) = self.stray_companion(packed, state) {
            return self.refuse(slot, described(&error));
        }
        let companions = self.companions(slot, packed, state)?;
        let view = match SourcePiece::view(&packed.name, &tensor_shape, ops.clone()).strided() {
            Ok(view) => view,
            Err(error) => return self.fault(slot, error.to_string()),
        };
        let walk = Walk::new(&view);
        let (_, info) = self.names.exact(&packed.name)?;
        let (shard, range) = (info.shard, info.range.clone());
        let source = PlanSource { tensor: packed.name.clone(), shard, range, stored: info.dtype, ops, walk };
        let elements = self.check_elements(slot, [source.walk.numel()].into_iter())?;
        let shape = <[usize; 2]>::try_from(slot.shape.as_slice()).ok()?;
        if let Some(reason) = unaligned(&source, state) {
            return self.refuse(slot, reason);
        }
        let encoding = encoding_of(&source.walk, state);
        let bytes = encoding.bytes(elements)?;
        let mapped = self.options.zero_copy && self.device.cpu && source.walk.contiguous().is_some();
        let fill = PackedFill { codes: source, companions, shape, dtype: state.dtype, encoding, mapped };
        Some(PlanRow::new(slot, Fill::Packed(fill), bytes, STORED_4BIT))
    }

    /// A tensor that contradicts the state by being there.
    fn stray_companion(&self, packed: &Packed<'_>, state: &QuantState) -> Option<QuantError> {
        let there = |companion: Companion| self.names.exact(&companion.of(&packed.name)).is_some();
        if [QuantType::Nf4, QuantType::Fp4].into_iter().all(|quant_type| there(Companion::State(quant_type))) {
            return Some(QuantError::ConflictingStates { parameter: packed.name.clone() });
        }
        let nested = [Companion::NestedAbsmax, Companion::NestedQuantMap];
        let stray = nested.into_iter().find(|&companion| state.nested.is_none() && there(companion))?;
        let problem = "is there, but the quantisation state has no double quantisation".to_owned();
        Some(QuantError::InvalidTensor { tensor: stray.of(&packed.name), problem })
    }

    /// The other tensors of a parameter, if their headers are what the state asks for.
    fn companions(&mut self, slot: &ParameterSlot, packed: &Packed<'_>, state: &QuantState) -> Option<Vec<PlanSource>> {
        let mut companions = Vec::new();
        for header in state.tensors(&packed.name) {
            let Some((_, info)) = self.names.exact(&header.name) else {
                let (parameter, tensor) = (packed.name.clone(), header.name);
                return self.refuse(slot, described(&QuantError::MissingTensor { parameter, tensor }));
            };
            if let Some(error) = header_fault(&header, info) {
                return self.refuse(slot, described(&error));
            }
            if header.name != packed.name {
                let (shard, range, stored) = (info.shard, info.range.clone(), info.dtype);
                let walk = Walk::new(&SourcePiece::whole("", &info.shape).strided().ok()?);
                companions.push(PlanSource { tensor: header.name, shard, range, stored, ops: Vec::new(), walk });
            }
        }
        Some(companions)
    }

    /// Counts codes and everything that belongs to them as read, also what should not be there.
    fn mark_read(&mut self, packed: &str) {
        let names = self.names.beginning(packed);
        let belongs = |name: &&str| {
            *name == packed || matches!(Companion::parse(name), Some((parameter, _)) if parameter == packed)
        };
        self.read.extend(names.filter(belongs));
    }

    fn refuse<T>(&mut self, slot: &ParameterSlot, reason: String) -> Option<T> {
        let Problems { quantization, .. } = &mut self.problems;
        quantization.push(QuantizationFault { parameter: slot.path.clone(), reason });
        None
    }
}

/// Shape of the tensor when it is decoded, and what is then to be done to it. Matrices that checkpoints have transposed
/// (GPT-2's `Conv1D`) are turned before they are quantised, see `Bnb4bitQuantize` in transformers' integrations/bitsandbytes.py.
fn decoded_piece(piece: &SourcePiece) -> (Vec<usize>, Vec<ViewOp>) {
    match (piece.tensor_shape.as_slice(), piece.ops.split_first()) {
        (&[inputs, outputs], Some((ViewOp::Transpose(0, 1) | ViewOp::Transpose(1, 0), rest))) => {
            (vec![outputs, inputs], rest.to_vec())
        }
        _ => (piece.tensor_shape.clone(), piece.ops.clone()),
    }
}

fn header_fault(expected: &TensorHeader, found: &TensorInfo) -> Option<QuantError> {
    // Its length varies with the spacing of the JSON, and it was looked at before.
    if matches!(Companion::parse(&expected.name), Some((_, Companion::State(_)))) {
        return None;
    }
    match found.dtype.of_quantized() {
        Some(dtype) => expected.fault(dtype, &found.shape),
        None => {
            let problem = format!("has dtype {}, which no part of a 4-bit weight has", found.dtype);
            Some(QuantError::InvalidTensor { tensor: expected.name.clone(), problem })
        }
    }
}

/// Why a part of a tensor is no 4-bit tensor itself.
fn unaligned(source: &PlanSource, state: &QuantState) -> Option<String> {
    let apart = |element: usize| {
        let size = state.blocksize.get();
        format!(
            "its part of `{}` is cut at element {element}, within a block of {size} that shares a scale: it cannot be taken \
             out without decoding; quantise the original checkpoint instead",
            source.tensor
        )
    };
    let mut end = None;
    let checked = source.walk.for_each_run(&mut |start, length| {
        let begins = |element: usize| Encoding::begins_block(state.blocksize, element);
        match end.replace(start + length) {
            Some(end) if !begins(end) => Err(end),
            _ if !begins(start) => Err(start),
            _ => Ok(()),
        }
    });
    checked.err().map(apart)
}

fn encoding_of(walk: &Walk, state: &QuantState) -> Encoding {
    // Scales of scales can only be kept if the part begins where one of them does.
    let keeps_nested =
        walk.contiguous().is_some_and(|part| Encoding::begins_nested_block(part.start / state.blocksize.get()));
    Encoding {
        quant_type: state.quant_type,
        blocksize: state.blocksize,
        double_quant: state.nested.is_some() && keeps_nested,
        prequantized: true,
    }
}

/// An error with its cause.
fn described(error: &QuantError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
