//! Which parameters are quantised while they are read.

use super::{PlanSource, names::Names, ties::Ties};
use crate::{
    CheckpointFiles, Encoding, LoadError, QuantizationConfig, StoredDtype,
    quantization::{
        SkipList,
        parts::{JOINED, QuantizedPlace, SPLIT, check_parts, keeps_nested},
    },
};
use automodel_quant::{Blocksize, format::Companion};
use automodel_registry::weights::{ParameterRole, ParameterSlot, SourcePiece, WeightMap};
use burn::tensor::FloatDType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) const QUANTIZED: &str = "the dtype in the file, which the codes stand for";

/// Which parameters are quantised, and how.
pub(super) struct Encoder<'a> {
    chosen: HashMap<&'a str, Chosen>,
    pub warnings: Vec<String>,
}

/// How a parameter is quantised.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    pub encoding: Encoding,
    /// Its scales are quantised together with those of the other parts of its tensor.
    pub joint_scales: bool,
}

/// What one parameter wishes for, whatever the others do that read its tensors.
struct Wish<'a> {
    slot: &'a ParameterSlot,
    quantized: bool,
}

impl<'a> Encoder<'a> {
    /// Decides on all parameters of `map`.
    ///
    /// # Errors
    /// [`LoadError::SkipModule`].
    pub fn new(
        config: Option<&QuantizationConfig>,
        files: &CheckpointFiles,
        map: &'a WeightMap,
        names: &Names<'_>,
        ties: &Ties,
    ) -> Result<Self, LoadError> {
        let mut encoder = Self { chosen: HashMap::new(), warnings: Vec::new() };
        let Some(config) = config else { return Ok(encoder) };
        let skip = SkipList::parse(&config.skip_modules)?;
        let is_state = |name: &&String| matches!(Companion::parse(name), Some((_, Companion::State(_))));
        if let Some(state) = files.tensors().keys().find(is_state) {
            encoder.warnings.push(format!(
                "the checkpoint is quantised already, as tensor `{state}` shows: it is loaded as it is, and quantising to {} \
                 was not done",
                config.quant_type.name()
            ));
            return Ok(encoder);
        }
        let mut used = BTreeSet::new();
        let wish = |slot| wish(slot, config, &skip, names, ties, &mut used);
        let wishes: Vec<Wish<'a>> = map.parameters.iter().map(wish).collect();
        encoder.choose(&wishes, config, names);
        encoder.warn(config, &used);
        Ok(encoder)
    }

    /// How to quantise a parameter; `None` if it stays dense.
    pub fn encoding(&self, slot: &ParameterSlot) -> Option<Chosen> {
        self.chosen.get(slot.path.as_str()).copied()
    }

    fn choose(&mut self, wishes: &[Wish<'a>], config: &QuantizationConfig, names: &Names<'_>) {
        let tensors = Tensors::new(wishes, config.blocksize, names);
        let mut apart: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for Wish { slot, .. } in wishes.iter().filter(|wish| wish.quantized) {
            match tensors.chosen(slot, config) {
                Ok(chosen) => {
                    self.chosen.insert(&slot.path, chosen);
                }
                Err(reason) => apart.entry(reason).or_insert((0, &slot.path)).0 += 1,
            }
        }
        self.warnings.extend(apart.into_iter().map(|(reason, (count, first))| {
            format!(
                "{count} parameter(s) stay dense, `{first}` first, because the tensor that they are read from cannot be \
                 quantised as a whole: {reason}"
            )
        }));
    }

    fn warn(&mut self, config: &QuantizationConfig, used: &BTreeSet<usize>) {
        if self.chosen.is_empty() {
            self.warnings.push(format!("no parameter is quantised to {}: all stay dense", config.quant_type.name()));
        }
        let unused = config.skip_modules.iter().enumerate().filter(|(number, _)| !used.contains(number));
        self.warnings.extend(unused.map(|(_, pattern)| format!("skip_modules: {pattern:?} matches no module")));
    }
}

fn wish<'a>(
    slot: &'a ParameterSlot,
    config: &QuantizationConfig,
    skip: &SkipList,
    names: &Names<'_>,
    ties: &Ties,
    used: &mut BTreeSet<usize>,
) -> Wish<'a> {
    let stored = slot.pieces.iter().flat_map(|piece| [Some(piece.tensor.as_str()), name_in(names, piece)]).flatten();
    let modules: BTreeSet<&str> = std::iter::once(slot.path.as_str()).chain(stored).map(module_of).collect();
    let skipped: Vec<usize> = modules.iter().flat_map(|name| skip.matching(name)).collect();
    used.extend(&skipped);
    let projection = match slot.role {
        ParameterRole::Projection | ParameterRole::ExpertProjection => true,
        ParameterRole::OutputHead => config.quantize_head,
        _ => false,
    };
    let possible = projection && slot.shape.len() == 2 && !slot.shape.contains(&0);
    Wish { slot, quantized: possible && !slot.keep_float32 && !ties.involves(&slot.path) && skipped.is_empty() }
}

fn name_in<'f>(names: &Names<'f>, piece: &SourcePiece) -> Option<&'f str> {
    names.resolve(&piece.tensor).map(|(name, _)| name)
}

const OTHER_PART: &str = "another part of it stays dense";

/// What is known of the tensors that are quantised as one: those that several parameters read, or one in part. Experts are not
/// among them: bitsandbytes cannot hold the parameters into which transformers joins them, so each is quantised by itself.
struct Tensors<'a> {
    blocksize: Blocksize,
    parts: HashMap<&'a str, Result<(), &'static str>>,
}

impl<'a> Tensors<'a> {
    fn new(wishes: &[Wish<'a>], blocksize: Blocksize, names: &Names<'_>) -> Self {
        let mut readers: HashMap<&str, Vec<(&Wish<'a>, &'a SourcePiece)>> = HashMap::new();
        for wish in wishes.iter().filter(|wish| wish.slot.role != ParameterRole::ExpertProjection) {
            for piece in &wish.slot.pieces {
                readers.entry(&piece.tensor).or_default().push((wish, piece));
            }
        }
        let check = |(tensor, readers): (&'a str, Vec<(&Wish<'a>, &SourcePiece)>)| {
            // Shapes of the map are believed only where the file has them too.
            let (_, info) = names.resolve(tensor).filter(|(_, info)| readers[0].1.tensor_shape == info.shape)?;
            let whole = matches!(readers[..], [(_, piece)] if covers_all(piece));
            if whole || info.shape.len() != 2 || !readers.iter().any(|(wish, _)| wish.quantized) {
                return None;
            }
            if !readers.iter().all(|(wish, _)| wish.quantized) {
                return Some((tensor, Err(OTHER_PART)));
            }
            if readers.iter().any(|(wish, _)| wish.slot.pieces.len() > 1) {
                return Some((tensor, Err(JOINED)));
            }
            let pieces: Vec<SourcePiece> = readers.iter().map(|(_, piece)| (*piece).clone()).collect();
            Some((tensor, check_parts(&pieces, blocksize)))
        };
        Self { blocksize, parts: readers.into_iter().filter_map(check).collect() }
    }

    fn chosen(&self, slot: &ParameterSlot, config: &QuantizationConfig) -> Result<Chosen, &'static str> {
        let &QuantizationConfig { quant_type, blocksize, double_quant, .. } = config;
        let encoding = Encoding { quant_type, blocksize, double_quant, prequantized: false };
        let by_itself = Ok(Chosen { encoding, joint_scales: false });
        if slot.role == ParameterRole::ExpertProjection {
            return by_itself;
        }
        let mut parts = slot.pieces.iter().filter_map(|piece| Some((piece, self.parts.get(piece.tensor.as_str())?)));
        let Some((piece, checked)) = parts.next() else { return by_itself };
        (*checked)?;
        let blocks = QuantizedPlace::of(piece).and_then(|place| place.blocks(self.blocksize)).ok_or(SPLIT)?;
        let encoding = Encoding { double_quant: double_quant && keeps_nested(&blocks), ..encoding };
        Ok(Chosen { encoding, joint_scales: double_quant })
    }
}

/// Whether a piece is a whole tensor, perhaps transposed.
fn covers_all(piece: &SourcePiece) -> bool {
    piece.ops.is_empty() || QuantizedPlace::of(piece).is_some_and(|place| place.is_whole())
}

/// The float type that a quantised weight stands for: that of its sources, float32 for wider ones and for mixed ones.
pub(super) fn quantized_dtype(sources: &[PlanSource], widest: StoredDtype) -> FloatDType {
    let uniform = sources.iter().all(|source| source.stored == widest);
    match widest.float() {
        Some(half @ (FloatDType::BF16 | FloatDType::F16)) if uniform => half,
        _ => FloatDType::F32,
    }
}

/// `model.norm` of `model.norm.weight`.
fn module_of(parameter: &str) -> &str {
    [".weight", ".bias"].into_iter().find_map(|field| parameter.strip_suffix(field)).unwrap_or(parameter)
}
