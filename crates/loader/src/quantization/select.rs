//! The one decision on which weights are quantised, and why the others are not, for loading and for writing files.
//!
//! bitsandbytes quantises the modules of transformers, so a fused projection as a whole. A tensor that several parameters read,
//! or one in part, is therefore quantised if all of them can be and are whole blocks of it, and stays dense otherwise.
//! Experts differ: transformers joins them into parameters that bitsandbytes cannot hold. In a model each is quantised by
//! itself; in files they stay dense.

use super::{
    QuantizationConfig, SkipList,
    cuts::{JOINED, NO_MATRIX, QuantizedPlace, SPLIT, UNCLEAR, check_parts, orientation},
};
use crate::{
    LoadError, TensorInfo,
    plan::{JointPart, Resolved},
};
use automodel_quant::Scheme;
use automodel_registry::weights::{ParameterRole, ParameterSlot, SourcePiece};
use std::collections::{BTreeSet, HashMap, HashSet};

pub(crate) const TIED: &str = "it is tied or can be";
const KEPT_FLOAT32: &str = "the model keeps it in float32";
const SKIPPED: &str = "its module is skipped";
const UNREAD: &str = "no parameter of the model reads it";
const OTHER_PART: &str = "another part of it stays dense";
/// Why an expert cannot be quantised in files.
pub(crate) const EXPERT: &str =
    "an expert: transformers joins experts into one parameter of three axes, which bitsandbytes cannot hold";

/// The destination of the quantised weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Model,
    Files,
}

/// A parameter and one of the pieces that it is made of.
pub(crate) struct Reader<'a> {
    pub slot: &'a ParameterSlot,
    pub piece: &'a SourcePiece,
}

/// How a parameter of a model is quantised.
#[derive(Clone)]
pub(crate) struct Chosen {
    /// `[out, in]`
    pub shape: [usize; 2],
    pub scheme: Scheme,
    /// Set if it is quantised together with the other parts of its tensor.
    pub joint: Option<JointPart>,
}

/// How a tensor of a file is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    /// `[out, in]`
    pub shape: [usize; 2],
    /// The tensor is stored `[in, out]`.
    pub transposed: bool,
}

/// Why a parameter stays dense.
pub(crate) enum Dense {
    /// Because of its role, shape, tie, or the config.
    Parameter,
    /// The tensor that it is a part of cannot be quantised as a whole.
    Tensor(&'static str),
}

/// Decides on every parameter and every tensor of a checkpoint.
pub(crate) struct Selector<'a> {
    config: &'a QuantizationConfig,
    /// Parameters that a tie makes one with others, or may.
    tied: HashSet<&'a str>,
    skipped: HashSet<&'a str>,
    /// By the tensor's name in the files.
    readers: HashMap<&'a str, Vec<Reader<'a>>>,
    /// Whether tensors can be quantised as one that are not just one parameter.
    wholes: HashMap<&'a str, Result<(), &'static str>>,
    unused: Vec<&'a str>,
}

impl<'a> Selector<'a> {
    /// # Errors
    /// [`LoadError::SkipModule`].
    pub fn new(config: &'a QuantizationConfig, checkpoint: &'a Resolved<'a>) -> Result<Self, LoadError> {
        let skip = SkipList::parse(&config.skip_modules)?;
        let Resolved { map, names, ties } = checkpoint;
        let mut selector = Self {
            config,
            tied: ties.planned.iter().flat_map(|tie| [tie.parameter.as_str(), tie.to.as_str()]).collect(),
            skipped: HashSet::new(),
            readers: HashMap::new(),
            wholes: HashMap::new(),
            unused: Vec::new(),
        };
        let mut used: HashSet<usize> = names.all().flat_map(|tensor| skip.matching(module_of(tensor))).collect();
        for slot in &map.parameters {
            let mut modules = BTreeSet::from([module_of(&slot.path)]);
            for piece in &slot.pieces {
                modules.insert(module_of(&piece.tensor));
                if let Some((name, _)) = names.resolve(&piece.tensor) {
                    modules.insert(module_of(name));
                    selector.readers.entry(name).or_default().push(Reader { slot, piece });
                }
            }
            let matching: Vec<usize> = modules.iter().flat_map(|module| skip.matching(module)).collect();
            if !matching.is_empty() {
                selector.skipped.insert(&slot.path);
            }
            used.extend(matching);
        }
        let unused = config.skip_modules.iter().enumerate().filter(|(number, _)| !used.contains(number));
        selector.unused = unused.map(|(_, pattern)| pattern.as_str()).collect();
        let whole = |(name, readers): (&&'a str, &Vec<Reader<'a>>)| {
            let (_, info) = names.exact(name)?;
            Some((*name, selector.whole(readers, info)?))
        };
        selector.wholes = selector.readers.iter().filter_map(whole).collect();
        Ok(selector)
    }

    /// Entries of the skip list that match no module.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unused.iter().map(|pattern| format!("skip_modules: {pattern:?} matches no module"))
    }

    /// The parameters that read a tensor, which goes by its name in the files.
    pub fn readers(&self, tensor: &str) -> &[Reader<'a>] {
        self.readers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// How a parameter of a model is quantised.
    ///
    /// # Errors
    /// Why not.
    pub fn in_model(&self, checkpoint: &Resolved<'_>, slot: &ParameterSlot) -> Result<Chosen, Dense> {
        let scheme = self.config.scheme;
        if self.reason([slot], Holder::Model).is_some() {
            return Err(Dense::Parameter);
        }
        let shape = <[usize; 2]>::try_from(slot.shape.as_slice()).map_err(|_| Dense::Parameter)?;
        let by_itself = Ok(Chosen { shape, scheme, joint: None });
        if slot.role == ParameterRole::ExpertProjection {
            return by_itself;
        }
        let whole = |piece: &SourcePiece| self.wholes.get(checkpoint.names.resolve(&piece.tensor)?.0);
        let Some((piece, whole)) = slot.pieces.iter().find_map(|piece| Some((piece, whole(piece)?))) else {
            return by_itself;
        };
        (*whole).map_err(Dense::Tensor)?;
        let place = QuantizedPlace::of(piece).ok_or(Dense::Tensor(UNCLEAR))?;
        let cut = place.cut(scheme).map_err(|_| Dense::Tensor(SPLIT))?;
        let of_part = cut.scheme();
        let joint = scheme.is_joint().then_some(JointPart { cut, whole: scheme });
        Ok(Chosen { shape, scheme: of_part, joint })
    }

    /// How a tensor of the files is quantised.
    ///
    /// # Errors
    /// Why not.
    pub fn in_files(&self, tensor: &str, info: &TensorInfo) -> Result<Matrix, &'static str> {
        let readers = self.readers(tensor);
        let Some(Reader { piece, .. }) = readers.first() else { return Err(UNREAD) };
        if let Some(reason) = self.reason(readers.iter().map(|reader| reader.slot), Holder::Files) {
            return Err(reason);
        }
        // bitsandbytes names the parts of a weight after a parameter called so.
        if !tensor.ends_with(".weight") || info.shape.len() != 2 || info.shape.contains(&0) {
            return Err(NO_MATRIX);
        }
        if readers.iter().any(|reader| reader.slot.pieces.len() > 1) {
            return Err(JOINED);
        }
        self.wholes.get(tensor).copied().unwrap_or(Ok(()))?;
        let place = QuantizedPlace::of(piece).ok_or(UNCLEAR)?;
        Ok(Matrix { shape: place.shape, transposed: orientation(&piece.ops).ok_or(UNCLEAR)? })
    }

    /// Whether a tensor can be quantised as one; `None` if the question does not arise: it is one parameter, or none of it is
    /// quantised, or it is not a matrix, so that its parts are matrices by themselves.
    fn whole(&self, readers: &[Reader<'a>], info: &TensorInfo) -> Option<Result<(), &'static str>> {
        let readers: Vec<_> =
            readers.iter().filter(|reader| reader.slot.role != ParameterRole::ExpertProjection).collect();
        let quantized = |reader: &&Reader<'a>| self.reason([reader.slot], Holder::Model).is_none();
        // Shapes of the map are trusted only where the file has them too.
        let trusted = readers.first().is_some_and(|reader| reader.piece.tensor_shape == info.shape);
        if !trusted || info.shape.len() != 2 || !readers.iter().any(quantized) {
            return None;
        }
        if matches!(readers[..], [Reader { piece, .. }] if covers_all(piece)) {
            return None;
        }
        if !readers.iter().all(quantized) {
            return Some(Err(OTHER_PART));
        }
        if readers.iter().any(|reader| reader.slot.pieces.len() > 1) {
            return Some(Err(JOINED));
        }
        let pieces: Vec<SourcePiece> = readers.iter().map(|reader| reader.piece.clone()).collect();
        Some(check_parts(&pieces, self.config.scheme))
    }

    /// Why parameters that are to be quantised as one stay dense, whatever their tensors are: the first reason of any of them.
    fn reason<'s>(&self, slots: impl IntoIterator<Item = &'s ParameterSlot>, holder: Holder) -> Option<&'static str> {
        let reasons: Vec<[Option<&str>; 5]> = slots.into_iter().map(|slot| self.reasons(slot, holder)).collect();
        (0..5).find_map(|rank| reasons.iter().find_map(|of_slot| of_slot[rank]))
    }

    /// The reasons why a parameter stays dense, in the order of their rank.
    fn reasons(&self, slot: &ParameterSlot, holder: Holder) -> [Option<&'static str>; 5] {
        [
            reason_of_role(slot.role, self.config.quantize_head, holder),
            self.tied.contains(slot.path.as_str()).then_some(TIED),
            slot.keep_float32.then_some(KEPT_FLOAT32),
            (slot.shape.len() != 2 || slot.shape.contains(&0)).then_some(NO_MATRIX),
            self.skipped.contains(slot.path.as_str()).then_some(SKIPPED),
        ]
    }
}

fn reason_of_role(role: ParameterRole, quantize_head: bool, holder: Holder) -> Option<&'static str> {
    match role {
        ParameterRole::Projection => None,
        ParameterRole::ExpertProjection => (holder == Holder::Files).then_some(EXPERT),
        ParameterRole::OutputHead if quantize_head => None,
        ParameterRole::Embedding | ParameterRole::PositionEmbedding => Some("an embedding"),
        ParameterRole::Router => Some("a router"),
        ParameterRole::OutputHead => Some("the output head"),
        _ => Some("not a projection"),
    }
}

/// Whether a piece is a whole tensor, perhaps transposed.
fn covers_all(piece: &SourcePiece) -> bool {
    piece.ops.is_empty() || QuantizedPlace::of(piece).is_some_and(|place| place.is_whole())
}

/// `model.norm` of `model.norm.weight`.
pub(crate) fn module_of(parameter: &str) -> &str {
    [".weight", ".bias"].into_iter().find_map(|field| parameter.strip_suffix(field)).unwrap_or(parameter)
}
