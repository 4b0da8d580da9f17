//! From headers and weight map to a plan.

use super::{
    LoadOptions, LoadPlan, PlanRow, PlanSource,
    encode::{self, Encoder},
    names::Names,
    peak::predicted_peak,
    policy::{self, DeviceTraits, DtypePolicy},
    stacked,
    ties::{self, Ties},
};
use crate::{
    CheckpointFiles, Encoding, LoadError, MissingTensor, Problems, ShapeMismatch, UnusableDtype, WeightMapFault,
    dtype::{float_name, float_size},
    problems::suggest_names,
    strided::Walk,
};
use automodel_quant::format::Companion;
use automodel_registry::weights::{ParameterSlot, SourcePiece, WeightMap};
use burn::tensor::FloatDType;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Burn has no tensors of rank 0; more axes than this are in no model.
pub(crate) const MAX_RANK: usize = 8;

pub(super) fn plan(files: &CheckpointFiles, map: &WeightMap, options: &LoadOptions) -> Result<LoadPlan, LoadError> {
    let device = DeviceTraits::of(&options.device);
    check_request(options, &device)?;
    let names = Names::new(files.tensors(), map);
    let adapted = stacked::as_in_files(map, &names);
    let map: &WeightMap = &adapted;
    let slots: HashMap<&str, &ParameterSlot> = map.parameters.iter().map(|slot| (slot.path.as_str(), slot)).collect();
    let mut ties = Ties::decide(map, &slots, &names);
    let mut builder = Builder {
        files,
        map,
        names: &names,
        options,
        device: &device,
        encoder: Encoder::new(options.quantization.as_ref(), files, map, &names, &ties)?,
        problems: Problems::default(),
        read: HashSet::with_capacity(map.parameters.len()),
        has_states: files.tensors().keys().any(|name| matches!(Companion::parse(name), Some((_, Companion::State(_))))),
    };

    builder.check_map(map, &slots, &ties);
    let mut rows = Vec::with_capacity(map.parameters.len());
    for slot in &map.parameters {
        rows.extend(builder.row(slot, &ties)?);
    }
    let Builder { mut problems, read, encoder, .. } = builder;
    files.compare_headers_of_copies(&read)?;
    let warnings = files.warnings().iter().cloned().chain(encoder.warnings).collect();
    let (ignored, unexpected) = unread(files, map, &names, &read);
    let unread_names: Vec<&str> = unexpected.iter().map(String::as_str).collect();
    suggest_names(&mut problems.missing, &unread_names);
    let missing = if options.allow_missing { std::mem::take(&mut problems.missing) } else { Vec::new() };
    if !problems.is_empty() {
        problems.unexpected = unexpected.len();
        return Err(LoadError::Mismatch { directory: files.directory().to_owned(), problems: Box::new(problems) });
    }

    let rows = ties::fill_shared(rows, map, &ties);
    ties.compare_rows(&rows);
    let mut plan = LoadPlan {
        device: options.device.clone(),
        dtype: options.dtype,
        shards: files.shards().iter().map(|shard| shard.name.clone()).collect(),
        renamed: names.renamed,
        stored_bytes: stored_bytes(&rows),
        target_bytes: rows.iter().map(|row| row.bytes).sum(),
        mapped_bytes: rows.iter().map(PlanRow::mapped_bytes).sum(),
        peak_bytes: 0,
        rows,
        ties: ties.planned,
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
    pub encoder: Encoder<'a>,
    pub problems: Problems,
    /// Names in the files of all tensors that are read.
    pub read: HashSet<&'a str>,
    /// Whether the files have parameters in 4 bits, which their states tell.
    pub has_states: bool,
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
        match self.stored_in_4bit(slot) {
            Some(packed) => self.prequantized_row(slot, packed),
            None => Ok(self.float_row(slot, ties)),
        }
    }

    /// The row of a parameter that is stored in floats.
    fn float_row(&mut self, slot: &ParameterSlot, ties: &Ties) -> Option<PlanRow> {
        // Of the right size from the start: room for more in each row would be most of a large plan.
        let mut sources = Vec::with_capacity(slot.pieces.len());
        sources.extend(slot.pieces.iter().filter_map(|piece| self.source(slot, piece, ties)));
        if sources.len() < slot.pieces.len() {
            return None;
        }
        let elements = self.check_elements(slot, &sources)?;
        let stored = policy::widest(sources.iter().map(|source| source.stored))?;
        let chosen = self.encoder.encoding(slot);
        if let Some(reason) = chosen.and_then(|_| self.map.wrong_way_round(slot)) {
            return self.fault(slot, reason);
        }
        let encoding = chosen.map(|chosen| chosen.encoding);
        let (target, reason) = match encoding {
            Some(_) => (encode::quantized_dtype(&sources, stored), encode::QUANTIZED),
            None => policy::target(self.options.dtype, self.options.half_products, slot, stored.float()?, self.device),
        };
        let Some(bytes) = self.bytes(encoding, elements, target) else {
            return self.fault(slot, format!("its size in bytes overflows for shape {:?}", slot.shape));
        };
        let in_place = self.options.zero_copy && self.device.cpu && encoding.is_none();
        let mapped = in_place && stays_in_file(&sources, target);
        Some(PlanRow {
            parameter: slot.path.clone(),
            shape: slot.shape.clone(),
            role: slot.role,
            sources,
            stored,
            target,
            reason,
            encoding,
            joint_scales: chosen.is_some_and(|chosen| chosen.joint_scales),
            companions: Vec::new(),
            bytes,
            mapped,
            tied_to: None,
        })
    }

    fn bytes(&self, encoding: Option<Encoding>, elements: usize, target: FloatDType) -> Option<u64> {
        match encoding {
            Some(encoding) => encoding.bytes(elements),
            None => u64::try_from(elements.checked_mul(float_size(target))?).ok(),
        }
    }

    fn source(&mut self, slot: &ParameterSlot, piece: &SourcePiece, ties: &Ties) -> Option<PlanSource> {
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
        Some(PlanSource {
            tensor,
            shard: info.shard,
            range: info.range.clone(),
            stored: info.dtype,
            ops: piece.ops.clone(),
            walk: Walk::new(&view),
        })
    }

    /// What the index says of a tensor that no shard has.
    fn note_of_index(&self, tensor: &str) -> Option<String> {
        let known = self.names.known_here_as(tensor);
        let shard = known.iter().find_map(|name| self.files.unheld().get(name))?;
        Some(format!(
            "the index says that it is in {shard}, but index and shards are not of one checkpoint: download both again"
        ))
    }

    /// Number of elements of the parameter, if its pieces add up to it.
    pub fn check_elements(&mut self, slot: &ParameterSlot, sources: &[PlanSource]) -> Option<usize> {
        if slot.shape.is_empty() || slot.shape.len() > MAX_RANK {
            return self.fault(slot, format!("shape {:?} has no axis, or more than {MAX_RANK}", slot.shape));
        }
        let wanted = slot.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let given = sources.iter().try_fold(0usize, |sum, source| sum.checked_add(source.walk.numel()));
        match (wanted, given) {
            (Some(wanted), Some(given)) if wanted == given && !sources.is_empty() => Some(wanted),
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

/// Whether a parameter is exactly a range of a file that can be used in place: contiguous, of the target dtype, aligned.
/// Mappings start at a page, so the position in the file decides the alignment.
fn stays_in_file(sources: &[PlanSource], target: FloatDType) -> bool {
    let [source] = sources else { return false };
    let Some(elements) = source.walk.contiguous().filter(|elements| !elements.is_empty()) else { return false };
    let size = float_size(target) as u64;
    let start = (elements.start as u64).checked_mul(size).and_then(|skipped| source.range.start.checked_add(skipped));
    source.stored.float() == Some(target) && start.is_some_and(|start| start.is_multiple_of(size))
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
    let mut ranges: Vec<(usize, u64, u64)> = rows
        .iter()
        .flat_map(|row| row.sources.iter().chain(&row.companions))
        .map(|s| (s.shard, s.range.start, s.range.end))
        .collect();
    ranges.sort();
    ranges.dedup();
    ranges.iter().map(|(_, start, end)| end - start).sum()
}

fn warn(plan: &mut LoadPlan, options: &LoadOptions, device: &DeviceTraits) {
    let mut by_target: BTreeMap<FloatDType, (usize, u64)> = BTreeMap::new();
    let widened = |row: &PlanRow| {
        let automatic = options.half_products && options.dtype == DtypePolicy::Auto;
        automatic && row.stored.bits() == 16 && row.target == FloatDType::F32
    };
    let own = |row: &&PlanRow| row.tied_to.is_none() && row.encoding.is_none() && !widened(row);
    for row in plan.rows.iter().filter(own) {
        let entry = by_target.entry(row.target).or_default();
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
