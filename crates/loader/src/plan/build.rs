//! From headers and weight map to a plan.

use super::{
    Fill, FloatPart, LoadOptions, LoadPlan, PlanRow, PlanSource, QuantizedFill,
    names::Names,
    packed::Stored,
    peak::predicted_peak,
    policy::{self, DeviceTraits, DtypePolicy},
    quantize::{self, Choices},
    resolved::{Resolved, slots_by_path},
    ties::{self, Ties},
};
use crate::{
    CheckpointFiles, LoadError, MissingTensor, Problems, ShapeMismatch, UnusableDtype, WeightMapFault,
    dtype::{float_name, float_size},
    problems::suggest_names,
    quantization::{Chosen, quantized_tensor},
    strided::Walk,
};
use automodel_registry::weights::{ParameterSlot, SourcePiece, WeightMap};
use burn::tensor::FloatDType;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

/// Why a parameter without a tensor has its dtype.
const ZEROS: &str = "zero: the checkpoint has none";

/// Burn has no tensors of rank 0; more axes than this are in no model.
pub(crate) const MAX_RANK: usize = 8;

pub(super) fn plan(files: &CheckpointFiles, map: &WeightMap, options: &LoadOptions) -> Result<LoadPlan, LoadError> {
    let device = DeviceTraits::of(&options.device);
    check_request(options, &device)?;
    let checkpoint = Resolved::new(files, map);
    let (map, names): (&WeightMap, _) = (&checkpoint.map, &checkpoint.names);
    let slots = slots_by_path(map);
    let mut builder = Builder {
        files,
        map,
        names,
        options,
        device: &device,
        choices: Choices::new(options.quantization.as_ref(), files, &checkpoint)?,
        problems: Problems::default(),
        read: HashSet::with_capacity(map.parameters.len()),
        may_have_quantized: quantized_tensor(files).is_some() || options.declared.is_some(),
    };

    let ties = &checkpoint.ties;
    builder.check_map(map, &slots, ties);
    let mut rows = Vec::with_capacity(map.parameters.len());
    for slot in &map.parameters {
        rows.extend(builder.row(slot, ties)?);
    }
    let Builder { mut problems, read, choices, .. } = builder;
    files.compare_headers_of_copies(&read)?;
    let warnings = files.warnings().iter().cloned().chain(choices.warnings).collect();
    let (ignored, unexpected) = unread(files, map, names, &read);
    let unread_names: Vec<&str> = unexpected.iter().map(String::as_str).collect();
    suggest_names(&mut problems.missing, &unread_names);
    let missing = if options.allow_missing { std::mem::take(&mut problems.missing) } else { Vec::new() };
    if !problems.is_empty() {
        problems.unexpected = unexpected.len();
        return Err(LoadError::Mismatch { directory: files.directory().to_owned(), problems: Box::new(problems) });
    }

    let rows = ties::fill_shared(rows, map, ties);
    let ties = ties.compared(&rows);
    let mut plan = LoadPlan {
        device: options.device.clone(),
        dtype: options.dtype,
        shards: files.shards().iter().map(|shard| shard.name.clone()).collect(),
        renamed: names.renamed.clone(),
        stored_bytes: stored_bytes(&rows),
        target_bytes: rows.iter().map(|row| row.bytes).sum(),
        mapped_bytes: rows.iter().map(PlanRow::mapped_bytes).sum(),
        peak_bytes: 0,
        rows,
        ties,
        missing,
        ignored,
        unexpected,
        max_bytes_in_flight: options.max_bytes_in_flight,
        check_finite: options.check_finite,
        warnings,
    };
    plan.peak_bytes = predicted_peak(&plan, &device);
    warn(&mut plan, options, &device);
    Ok(plan)
}

fn check_request(options: &LoadOptions, device: &DeviceTraits) -> Result<(), LoadError> {
    match options.dtype {
        DtypePolicy::AtLeast(dtype) | DtypePolicy::Cast(dtype) if !device.supports(dtype) => {
            Err(LoadError::DeviceDtype {
                device: super::table::device_label(&options.device),
                dtype: float_name(dtype),
            })
        }
        _ => Ok(()),
    }
}

pub(super) struct Builder<'a> {
    pub files: &'a CheckpointFiles,
    pub map: &'a WeightMap,
    pub names: &'a Names<'a>,
    pub options: &'a LoadOptions,
    pub device: &'a DeviceTraits,
    pub choices: Choices,
    pub problems: Problems,
    /// Names in the files of all tensors that are read.
    pub read: HashSet<&'a str>,
    /// Whether the files may have quantised parameters.
    pub may_have_quantized: bool,
}

impl<'a> Builder<'a> {
    /// Looks for contradictions between slots.
    fn check_map(&mut self, map: &WeightMap, slots: &HashMap<&str, &ParameterSlot>, ties: &Ties) {
        if slots.len() < map.parameters.len() {
            let mut seen = HashSet::new();
            for slot in map.parameters.iter().filter(|slot| !seen.insert(&slot.path)) {
                self.fault::<()>(slot, "it is listed twice".into());
            }
        }
        let tied = map.parameters.iter().filter(|_| !ties.shared.is_empty());
        for (slot, to) in tied.filter_map(|slot| Some((slot, ties.shared.get(&slot.path)?))) {
            if slots.get(to.as_str()).is_some_and(|other| other.shape != slot.shape) {
                self.fault::<()>(slot, format!("it is tied to `{to}`, which has another shape"));
            }
        }
    }

    /// The row of one parameter; `None` if something is wrong with it, which is then among the problems, or if it will
    /// share another parameter's storage.
    fn row(&mut self, slot: &ParameterSlot, ties: &Ties) -> Result<Option<PlanRow>, LoadError> {
        if ties.shared.contains_key(&slot.path) {
            return Ok(None);
        }
        Ok(match self.stored(slot)? {
            Stored::Floats => self.float_row(slot, ties),
            Stored::Quantized(piece, stored) => self.packed_row(slot, piece, *stored),
            Stored::Refused => None,
        })
    }

    /// The row of a parameter that is stored in floats.
    fn float_row(&mut self, slot: &ParameterSlot, ties: &Ties) -> Option<PlanRow> {
        if self.is_zero(slot) {
            return self.zeros(slot);
        }
        // Of the right size from the start: room for more in each row would be most of a large plan.
        let mut parts = Vec::with_capacity(slot.pieces.len());
        parts.extend(slot.pieces.iter().filter_map(|piece| self.part(slot, piece, ties)));
        if parts.len() < slot.pieces.len() {
            return None;
        }
        let elements = self.check_elements(slot, parts.iter().map(FloatPart::numel))?;
        let (fill, bytes, reason) = match self.choices.of(slot) {
            None => self.dense(slot, parts, elements)?,
            Some(_) if let Some(reason) = self.map.wrong_way_round(slot) => return self.fault(slot, reason),
            Some(Chosen { shape, scheme, joint }) => {
                let (dtype, joint) = (quantize::quantized_dtype(&parts), joint.clone());
                let fill = Fill::Quantized(QuantizedFill { parts, shape: *shape, dtype, scheme: *scheme, joint });
                (fill, scheme.bytes(*shape), quantize::QUANTIZED)
            }
        };
        let Some(bytes) = bytes else {
            return self.fault(slot, format!("its size in bytes overflows for shape {:?}", slot.shape));
        };
        Some(PlanRow::new(slot, fill, bytes, reason))
    }

    /// Whether the parameter is zero because the files have no tensor for it.
    fn is_zero(&self, slot: &ParameterSlot) -> bool {
        let may_be = self.map.zeros.iter().any(|end| slot.path.ends_with(end.as_str()));
        may_be && slot.pieces.iter().all(|piece| self.names.resolve(&piece.tensor).is_none())
    }

    fn zeros(&mut self, slot: &ParameterSlot) -> Option<PlanRow> {
        let size = self.check_elements(slot, slot.pieces.iter().map(|piece| piece.tensor_shape.iter().product()))?;
        let dtype = policy::target(self.options.dtype, false, slot, FloatDType::F32, self.device).0;
        match size.checked_mul(float_size(dtype)).and_then(|bytes| u64::try_from(bytes).ok()) {
            Some(bytes) => Some(PlanRow::new(slot, Fill::Zeros { dtype }, bytes, ZEROS)),
            None => self.fault(slot, format!("its size in bytes overflows for shape {:?}", slot.shape)),
        }
    }

    /// The sources of a dense parameter, its bytes on the device (`None` on overflow) and why it has its dtype.
    fn dense(
        &self,
        slot: &ParameterSlot,
        mut parts: Vec<FloatPart>,
        elements: usize,
    ) -> Option<(Fill, Option<u64>, &'static str)> {
        let stored = policy::widest(parts.iter().map(|part| part.source.stored))?.float()?;
        let (dtype, reason) = policy::target(self.options.dtype, self.options.half_products, slot, stored, self.device);
        let bytes = elements.checked_mul(float_size(dtype)).and_then(|bytes| u64::try_from(bytes).ok());
        let in_place = self.options.zero_copy && self.device.cpu;
        let fill = match range_in_file(&parts, dtype).filter(|_| in_place) {
            Some(elements) => Fill::Mapped { part: parts.pop()?, elements },
            None => Fill::Copied { parts, dtype },
        };
        Some((fill, bytes, reason))
    }

    fn part(&mut self, slot: &ParameterSlot, piece: &SourcePiece, ties: &Ties) -> Option<FloatPart> {
        let parameter = || slot.path.clone();
        let Some((name, info)) = self.names.resolve(&piece.tensor) else {
            let (tensor, note) =
                (piece.tensor.clone(), ties.note(&slot.path).or_else(|| self.note_of_index(&piece.tensor)));
            self.problems.missing.push(MissingTensor { tensor, parameter: parameter(), nearest: Vec::new(), note });
            return None;
        };
        let first_use = self.read.insert(name);
        let tensor = name.to_owned();
        if info.shape != piece.tensor_shape {
            if first_use {
                let (expected, found) = (piece.tensor_shape.clone(), info.shape.clone());
                self.problems.shapes.push(ShapeMismatch { tensor, parameter: parameter(), expected, found });
            }
            return None;
        }
        if info.dtype.float().is_none() {
            if first_use {
                self.problems.dtypes.push(UnusableDtype { tensor, parameter: parameter(), found: info.dtype });
            }
            return None;
        }
        // The shape is that of the file and was checked against overflow there.
        let view = match piece.strided() {
            Ok(view) => view,
            Err(error) => return self.fault(slot, error.to_string()),
        };
        FloatPart::new(PlanSource {
            tensor,
            shard: info.shard,
            range: info.range.clone(),
            stored: info.dtype,
            ops: piece.ops.clone(),
            walk: Walk::new(&view),
        })
    }

    /// The index's entry for a tensor that no shard has.
    fn note_of_index(&self, tensor: &str) -> Option<String> {
        let known = self.names.known_here_as(tensor);
        let shard = known.iter().find_map(|name| self.files.unheld().get(name))?;
        Some(format!(
            "the index says that it is in {shard}, but index and shards are not of one checkpoint: download both again"
        ))
    }

    /// Number of elements of the parameter, if its pieces add up to it.
    pub fn check_elements(
        &mut self,
        slot: &ParameterSlot,
        mut parts: impl ExactSizeIterator<Item = usize>,
    ) -> Option<usize> {
        if slot.shape.is_empty() || slot.shape.len() > MAX_RANK {
            return self.fault(slot, format!("shape {:?} has no axis, or more than {MAX_RANK}", slot.shape));
        }
        let wanted = slot.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let none = parts.len() == 0;
        let given = parts.try_fold(0usize, |sum, elements| sum.checked_add(elements));
        match (wanted, given) {
            (Some(wanted), Some(given)) if wanted == given && !none => Some(wanted),
            _ => {
                let given = given.map_or("too many".into(), |given| given.to_string());
                self.fault(
                    slot,
                    format!("its pieces have {given} elements, its shape {:?} has another number", slot.shape),
                )
            }
        }
    }

    pub fn fault<T>(&mut self, slot: &ParameterSlot, reason: String) -> Option<T> {
        self.problems.map.push(WeightMapFault { parameter: slot.path.clone(), reason });
        None
    }
}

/// The elements of its only tensor that a parameter is, if they can be used in place: contiguous, of the target dtype, aligned.
/// Mappings start at a page, so the position in the file decides the alignment.
fn range_in_file(parts: &[FloatPart], target: FloatDType) -> Option<Range<usize>> {
    let [part] = parts else { return None };
    let elements = part.contiguous().filter(|elements| !elements.is_empty() && part.dtype == target)?;
    let size = part.element_size() as u64;
    let start = (elements.start as u64).checked_mul(size)?.checked_add(part.source.range.start)?;
    start.is_multiple_of(size).then_some(elements)
}

/// Tensors of the files that no parameter reads: those that are ignored, with the reason, and the others.
fn unread(
    files: &CheckpointFiles,
    map: &WeightMap,
    names: &Names<'_>,
    read: &HashSet<&str>,
) -> (Vec<(String, String)>, Vec<String>) {
    let (mut ignored, mut unexpected) = (Vec::new(), Vec::new());
    if read.len() == files.tensors().len() {
        return (ignored, unexpected);
    }
    for tensor in files.tensors().keys().filter(|tensor| !read.contains(tensor.as_str())) {
        let aliases = names.known_as(tensor);
        match map.ignored.iter().find(|rule| aliases.iter().any(|alias| rule.matches(alias))) {
            Some(rule) => ignored.push((tensor.clone(), rule.reason.clone())),
            None => unexpected.push(tensor.clone()),
        }
    }
    (ignored, unexpected)
}

/// Bytes of all tensors that are read, each counted once.
fn stored_bytes(rows: &[PlanRow]) -> u64 {
    let mut ranges: Vec<(usize, u64, u64)> =
        rows.iter().flat_map(PlanRow::tensors).map(|s| (s.shard, s.range.start, s.range.end)).collect();
    ranges.sort();
    ranges.dedup();
    ranges.iter().map(|(_, start, end)| end - start).sum()
}

fn warn(plan: &mut LoadPlan, options: &LoadOptions, device: &DeviceTraits) {
    let mut by_target: BTreeMap<FloatDType, (usize, u64)> = BTreeMap::new();
    let widened = |row: &PlanRow| {
        let automatic = options.half_products && options.dtype == DtypePolicy::Auto;
        automatic && row.stored().bits() == 16 && row.target() == FloatDType::F32
    };
    let own = |row: &&PlanRow| matches!(row.fill, Fill::Mapped { .. } | Fill::Copied { .. }) && !widened(row);
    for row in plan.rows.iter().filter(own) {
        let entry = by_target.entry(row.target()).or_default();
        *entry = (entry.0 + 1, entry.1 + row.bytes);
    }
    if device.cpu && !options.half_products && by_target.contains_key(&FloatDType::BF16) {
        plan.warnings.push(
            "bfloat16 on the CPU: Burn converts both operands of every product, some 100 times slower than float32"
                .into(),
        );
    }
    if by_target.len() > 1 {
        let parts = by_target
            .iter()
            .map(|(dtype, (count, bytes))| format!("{count} parameter(s), {bytes} bytes, in {}", float_name(*dtype)));
        plan.warnings.push(format!("parameters of several dtypes: {}", parts.collect::<Vec<_>>().join("; ")));
    }
    if let Some(first) = plan.unexpected.first() {
        let count = plan.unexpected.len();
        plan.warnings.push(format!("{count} tensor(s) of the checkpoint are read by nothing, `{first}` first"));
    }
}
