//! Parameters in, one after another; a checkpoint out.

use super::{
    SaveFiles, SaveOptions, SaveReport,
    beside::{check_carried, write_files},
    layout::{Layout, ParameterPlace, TensorPiece, TensorPlace},
    packed::{Part, PendingQuantized, WrittenQuantized, tensors},
    pending::Pending,
    place::Place,
    shards::{Shards, Written},
    target::Target,
};
use crate::{
    LoadError, Overflow, StoredDtype,
    dtype::{float_name, float_size},
    problems::nearest_names,
    quantization::EXPERT,
    windows::{FromAnyFloat, NonFiniteCount, convert_bytes, with_float},
};
use automodel_quant::{QuantWeight, WeightDtype};
use automodel_registry::weights::{ParameterRole, Tie, WeightMap};
use burn::tensor::{DType, FloatDType, TensorData};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    io::{self, Read, Write},
    path::Path,
};

/// Bytes that are converted at a time; a multiple of every element size.
const BLOCK_BYTES: usize = 1 << 20;

/// Writes a checkpoint parameter by parameter. Until [`CheckpointWriter::finish`] nothing is visible under its name, and a
/// writer that is dropped removes its files.
pub struct CheckpointWriter {
    place: Place,
    shards: Shards,
    layout: Layout,
    ties: Vec<Tie>,
    dtype: Option<FloatDType>,
    given: HashSet<String>,
    /// Tied parameters that came before the one they follow.
    held: HashMap<String, TensorData>,
    /// Tensors that several parameters fill, by number.
    pending: HashMap<usize, Pending>,
    /// The same for quantised parameters.
    pending_quantized: HashMap<usize, PendingQuantized>,
    written_quantized: WrittenQuantized,
    report: SaveReport,
}

impl CheckpointWriter {
    /// Prepares to write the parameters of `map` to `directory`.
    ///
    /// # Errors
    /// [`LoadError::OutputExists`] if something is in the way; [`LoadError::Placement`] if the map contradicts itself.
    pub fn new(directory: &Path, map: &WeightMap, options: &SaveOptions) -> Result<Self, LoadError> {
        let layout = Layout::new(map)?;
        let place = Place::fresh(Target::new(directory, options.overwrite)?)?;
        let tensors = layout.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
        let shards = Shards::new(place.staging(), options.max_shard_bytes, options.quantized, tensors);
        Ok(Self {
            place,
            shards,
            ties: map.ties.iter().filter(|tie| tie.requested).cloned().collect(),
            layout,
            dtype: options.dtype,
            given: HashSet::new(),
            held: HashMap::new(),
            pending: HashMap::new(),
            pending_quantized: HashMap::new(),
            written_quantized: WrittenQuantized::default(),
            report: SaveReport::default(),
        })
    }

    /// Writes the values of the parameter at `path`. A parameter that is tied and equal to the one it follows is not
    /// written; one that is tied and differs is, with a warning.
    ///
    /// # Errors
    /// [`LoadError::UnknownParameter`], [`LoadError::RepeatedParameter`], [`LoadError::ParameterShape`],
    /// [`LoadError::ParameterDtype`], [`LoadError::Placement`] and [`LoadError::ConflictingParameters`] by what is wrong
    /// with it; [`LoadError::Io`] if it cannot be written.
    pub fn write(&mut self, path: &str, values: &TensorData) -> Result<(), LoadError> {
        self.check(path, values.shape())?;
        match values.dtype() {
            DType::F64 | DType::F32 | DType::Flex32 | DType::F16 | DType::BF16 => {}
            other => return Err(LoadError::ParameterDtype { parameter: path.to_owned(), dtype: other.name() }),
        }
        let followed = self.ties.iter().find(|tie| tie.parameter == path).map(|tie| tie.to.clone());
        match followed {
            Some(to) if !self.given.contains(&to) => {
                self.held.insert(path.to_owned(), values.clone());
            }
            Some(to) => self.write_tied(path, values, &to)?,
            None => self.place(path, values)?,
        }
        self.given.insert(path.to_owned());
        let followers: Vec<String> =
            self.ties.iter().filter(|tie| tie.to == path).map(|tie| tie.parameter.clone()).collect();
        for follower in followers {
            if let Some(values) = self.held.remove(&follower) {
                self.write_tied(&follower, &values, path)?;
            }
        }
        Ok(())
    }

    /// Writes the quantised parameter at `path`, weights with 4-bit tables in the format of bitsandbytes. Parameters that are parts of one tensor (`q_proj` of
    /// `qkv_proj`) are joined if their blocks are blocks of that tensor and they were quantised alike. Scales in 8 bits
    /// that cannot be joined become float32 scales of the same values, with a warning. Experts of a mixture are refused:
    /// transformers joins them into one parameter of three axes, which bitsandbytes cannot hold.
    ///
    /// [`SaveOptions::quantized`] should be set. The config that [`CheckpointWriter::finish`] writes needs its
    /// `quantization_config`, which [`CheckpointWriter::quantization_config`] makes.
    ///
    /// # Errors
    /// [`LoadError::UnknownParameter`], [`LoadError::RepeatedParameter`] and [`LoadError::ParameterShape`] by what is wrong with
    /// it; [`LoadError::QuantizedPart`] if transformers could not read it there; [`LoadError::Io`] if it cannot be written.
    pub fn write_quantized(&mut self, path: &str, weight: &QuantWeight) -> Result<(), LoadError> {
        self.check(path, &weight.shape())?;
        let Some(place) = self.layout.parameters.get(path) else { return Ok(()) };
        for piece in &place.pieces {
            let tensor = &self.layout.tensors[piece.tensor];
            let part = Part { parameter: path, tensor, piece, weight };
            if place.role == ParameterRole::ExpertProjection {
                return Err(part.refused(EXPERT.to_owned()));
            }
            if self.pending.contains_key(&piece.tensor) {
                return Err(part.refused("an earlier part of it is dense".into()));
            }
            if let Some(whole) = part.whole() {
                self.shards.append_together(weight.scheme(), whole)?;
                self.written_quantized.insert(piece.tensor, weight);
                continue;
            }
            let mut pending = match self.pending_quantized.remove(&piece.tensor) {
                Some(pending) => pending,
                None => PendingQuantized::new(&part)?,
            };
            pending.add(&part)?;
            if !pending.is_complete() {
                self.pending_quantized.insert(piece.tensor, pending);
                continue;
            }
            let (weight, as_they_came) = pending.finish(tensor)?;
            if !as_they_came {
                self.report.warnings.push(format!(
                    "the 8-bit scales of the parts of tensor `{}` cannot be joined: it has float32 scales of the same values",
                    tensor.name
                ));
            }
            self.shards.append_together(weight.scheme(), tensors(&tensor.name, &weight))?;
            self.written_quantized.insert(piece.tensor, &weight);
        }
        self.given.insert(path.to_owned());
        Ok(())
    }

    /// The `quantization_config` for config.json once all parameters were written; `None` if none of them was quantised.
    ///
    /// It is what [`crate::quantize_checkpoint`] writes of the same tensors: its skip list is `null` if only what transformers
    /// leaves dense by itself is dense, and otherwise names the linear modules that are. `compute_dtype` is the dtype in which
    /// transformers is to multiply.
    ///
    /// # Errors
    /// [`LoadError::SkipModule`] for a dense module whose name is not a regular expression.
    pub fn quantization_config(&self, compute_dtype: WeightDtype) -> Result<Option<Value>, LoadError> {
        self.written_quantized.config(&self.layout, compute_dtype)
    }

    /// Writes index, config and the other files, and lets the directory appear.
    ///
    /// # Errors
    /// [`LoadError::UncoveredTensor`] if parameters are missing; [`LoadError::CarriedFile`] for a file that cannot be
    /// carried; [`LoadError::Io`] if something cannot be written.
    pub fn finish(self, files: &SaveFiles) -> Result<SaveReport, LoadError> {
        self.finish_if(files, || Ok(()))
    }

    /// As [`CheckpointWriter::finish`], if `check` finds nothing wrong when everything has been written and nothing is visible
    /// yet: that files from which parameters are mapped were not changed meanwhile, for instance.
    ///
    /// # Errors
    /// Those of `check` and of [`CheckpointWriter::finish`].
    pub fn finish_if(
        mut self,
        files: &SaveFiles,
        check: impl FnOnce() -> Result<(), LoadError>,
    ) -> Result<SaveReport, LoadError> {
        check_carried(files)?;
        let held: Vec<(String, TensorData)> = self.held.drain().collect();
        for (path, values) in held {
            self.place(&path, &values)?;
        }
        for (number, tensor) in self.layout.tensors.iter().enumerate() {
            append_pending(&mut self.pending, &mut self.shards, number, tensor)?;
        }
        self.check_complete()?;
        let Self { place, shards, mut report, .. } = self;
        (report.shards, report.total_bytes, report.tensors) = shards.finish()?;
        write_files(place.staging(), files)?;
        report.warnings.extend(overflow_warning(&report.overflowed));
        check()?;
        place.commit()?;
        Ok(report)
    }

    fn check(&self, path: &str, shape: &[usize]) -> Result<(), LoadError> {
        let parameter = path.to_owned();
        let Some(place) = self.layout.parameters.get(path) else {
            let known: Vec<&str> = self.layout.parameters.keys().map(String::as_str).collect();
            return Err(LoadError::UnknownParameter { parameter, nearest: nearest_names(path, &known) });
        };
        if self.given.contains(path) {
            return Err(LoadError::RepeatedParameter { parameter });
        }
        if shape != place.shape {
            let (expected, found) = (place.shape.clone(), shape.to_vec());
            return Err(LoadError::ParameterShape { parameter, expected, found });
        }
        Ok(())
    }

    /// Dtype of the values and dtype in the file.
    fn dtypes(&self, place: &ParameterPlace, values: &TensorData) -> (FloatDType, FloatDType) {
        let from = FloatDType::from(values.dtype());
        let to = self.dtype.unwrap_or(from);
        let narrowed = float_size(to) < float_size(FloatDType::F32) && float_size(from) >= float_size(FloatDType::F32);
        (from, if place.keep_float32 && narrowed { FloatDType::F32 } else { to })
    }

    fn place(&mut self, path: &str, values: &TensorData) -> Result<(), LoadError> {
        let Some(place) = self.layout.parameters.get(path) else { return Ok(()) };
        let (from, to) = self.dtypes(place, values);
        let bytes: &[u8] = values.bytes();
        let mut found = NonFiniteCount::default();
        for piece in &place.pieces {
            let part = &bytes[piece.start * float_size(from)..(piece.start + piece.walk.numel()) * float_size(from)];
            let tensor = &self.layout.tensors[piece.tensor];
            if self.layout.is_whole(piece) {
                let length = (tensor.elements * float_size(to)) as u64;
                self.shards.append(&tensor.name, to.into(), &tensor.shape, length, |file| {
                    found = found.and(for_each_block(part, from, to, piece.start, |block| file.write_all(block))?);
                    Ok(())
                })?;
            } else if self.pending_quantized.contains_key(&piece.tensor) {
                let (parameter, tensor) = (path.to_owned(), tensor.name.clone());
                let reason = "earlier parts of it are quantised, and this one is dense".to_owned();
                return Err(LoadError::QuantizedPart { parameter, tensor, reason });
            } else {
                found = found.and(scatter(&mut self.pending, path, piece, tensor, part, from, to)?);
                if self.pending.get(&piece.tensor).is_some_and(|pending| pending.pieces == tensor.pieces) {
                    append_pending(&mut self.pending, &mut self.shards, piece.tensor, tensor)?;
                }
            }
        }
        if let NonFiniteCount { overflowed: count, first_overflowed: Some(first_index), .. } = found {
            self.report.overflowed.push(Overflow { parameter: path.to_owned(), count, first_index });
        }
        Ok(())
    }

    /// Writes a tied parameter only if it differs from what was written for the one it follows.
    fn write_tied(&mut self, path: &str, values: &TensorData, to: &str) -> Result<(), LoadError> {
        if let Some(written) = self.whole_tensor_of(to)
            && self.equals(path, values, written)?
        {
            self.report.tied.push((path.to_owned(), to.to_owned()));
            return Ok(());
        }
        self.report.warnings.push(format!(
            "`{path}` is tied to `{to}` but has other values: both are written, and readers will not tie them"
        ));
        self.place(path, values)
    }

    /// Where the tensor was written that a parameter is, if it is one as it is.
    fn whole_tensor_of(&self, path: &str) -> Option<Written> {
        let place = self.layout.parameters.get(path)?;
        let [piece] = place.pieces.as_slice() else { return None };
        if !self.layout.is_whole(piece) {
            return None;
        }
        self.shards.written(&self.layout.tensors[piece.tensor].name)
    }

    fn equals(&mut self, path: &str, values: &TensorData, written: Written) -> Result<bool, LoadError> {
        let Some(place) = self.layout.parameters.get(path) else { return Ok(false) };
        let (from, to) = self.dtypes(place, values);
        if StoredDtype::from(to) != written.dtype {
            return Ok(false);
        }
        let mut saved = self.shards.read_back(written)?;
        let (mut other, mut equal) = (Vec::new(), true);
        let compared = for_each_block(values.bytes(), from, to, 0, |block| {
            other.resize(block.len(), 0);
            saved.read_exact(&mut other)?;
            equal &= block == other.as_slice();
            Ok(())
        });
        match compared {
            // Fewer bytes were written than the parameter has.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(LoadError::io("read", self.place.staging(), source)),
            Ok(_) => Ok(equal && saved.read(&mut [0; 1]).is_ok_and(|more| more == 0)),
        }
    }

    /// Every tensor must have been written, except those of tied parameters that were left out.
    fn check_complete(&mut self) -> Result<(), LoadError> {
        let mut left_out: HashSet<usize> = HashSet::new();
        for tie in &self.ties {
            let absent = !self.given.contains(&tie.parameter) && self.given.contains(&tie.to);
            if absent {
                self.report.tied.push((tie.parameter.clone(), tie.to.clone()));
            }
        }
        for (parameter, _) in &self.report.tied {
            left_out.extend(self.layout.parameters.get(parameter).iter().flat_map(|p| &p.pieces).map(|p| p.tensor));
        }
        let open = |number: &usize| self.shards.written(&self.layout.tensors[*number].name).is_none();
        let mut uncovered = (0..self.layout.tensors.len()).filter(|number| open(number) && !left_out.contains(number));
        let Some(first) = uncovered.next() else { return Ok(()) };
        let tensor = &self.layout.tensors[first];
        let quantized = || self.pending_quantized.get(&first).map_or(0, |pending| pending.covered() as u64);
        Err(LoadError::UncoveredTensor {
            tensor: tensor.name.clone(),
            covered: self.pending.get(&first).map_or_else(quantized, |pending| pending.covered),
            elements: tensor.elements as u64,
            others: uncovered.count(),
        })
    }
}

/// Writes a tensor that several parameters fill, if they filled all of it.
fn append_pending(
    pending: &mut HashMap<usize, Pending>,
    shards: &mut Shards,
    number: usize,
    tensor: &TensorPlace,
) -> Result<(), LoadError> {
    if pending.get(&number).is_some_and(|pending| pending.covered < tensor.elements as u64) {
        return Ok(());
    }
    let Some(complete) = pending.remove(&number) else { return Ok(()) };
    let write = |file: &mut dyn Write| file.write_all(&complete.bytes);
    shards.append(&tensor.name, complete.dtype.into(), &tensor.shape, complete.bytes.len() as u64, write)
}

/// Puts one piece of a parameter into the tensor that it shares with others.
fn scatter(
    pending: &mut HashMap<usize, Pending>,
    path: &str,
    piece: &TensorPiece,
    tensor: &TensorPlace,
    part: &[u8],
    from: FloatDType,
    to: FloatDType,
) -> Result<NonFiniteCount, LoadError> {
    let size = float_size(to);
    let entry = pending.entry(piece.tensor).or_insert_with(|| Pending::new(to, tensor.elements, size));
    if entry.dtype != to {
        let reason = format!(
            "it is to be saved in {}, and an earlier parameter of the same tensor in {}; ask for one dtype",
            float_name(to),
            float_name(entry.dtype)
        );
        return Err(LoadError::Placement { parameter: path.to_owned(), tensor: tensor.name.clone(), reason });
    }
    let mut values = Vec::with_capacity(piece.walk.numel() * size);
    // Appending to a vector cannot fail.
    let found = for_each_block(part, from, to, piece.start, |block| {
        values.extend_from_slice(block);
        Ok(())
    });
    entry
        .scatter(&piece.walk, &values, size)
        .map_err(|_| LoadError::ConflictingParameters { parameter: path.to_owned(), tensor: tensor.name.clone() })?;
    Ok(found.unwrap_or_default())
}

fn overflow_warning(overflowed: &[Overflow]) -> Option<String> {
    let Overflow { parameter, count, first_index } = overflowed.first()?;
    let others = match overflowed.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more parameter(s) have such values"),
    };
    Some(format!(
        "{count} value(s) of `{parameter}`, element {first_index} first, are beyond the range of the dtype in which they were \
         saved and became infinite{others}: save in bfloat16 or float32"
    ))
}

/// Converts `bytes` from one dtype to another, block by block, and counts what is not finite. `at` is the position of the first
/// element in the parameter.
fn for_each_block(
    bytes: &[u8],
    from: FloatDType,
    to: FloatDType,
    at: usize,
    mut visit: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<NonFiniteCount> {
    let mut found = NonFiniteCount::default();
    if from == to {
        bytes.chunks(BLOCK_BYTES).try_for_each(visit)?;
        return Ok(found);
    }
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let at = (at + number * BLOCK_BYTES / float_size(from)) as u64;
        with_float!(to, T => {
            let (values, in_block) = converted::<T>(block, from, at);
            found = found.and(in_block);
            visit(bytemuck::cast_slice(&values))?;
        });
    }
    Ok(found)
}

fn converted<T: FromAnyFloat>(bytes: &[u8], from: FloatDType, at: u64) -> (Vec<T>, NonFiniteCount) {
    let mut target = vec![T::ZERO; bytes.len() / float_size(from)];
    let found = with_float!(from, S => convert_bytes::<S, T>(bytes, &mut target, at));
    (target, found)
}
