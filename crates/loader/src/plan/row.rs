//! One parameter of a plan.

use crate::{Encoding, StoredDtype, dtype::float_size, strided::Walk};
use automodel_quant::{Cut, Scheme, WeightDtype, files::StoredWeight};
use automodel_registry::weights::{ParameterRole, ParameterSlot, ViewOp};
use burn::tensor::FloatDType;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use std::ops::Range;

/// How one parameter gets its values. Rows are made by [`LoadPlan::new`](crate::LoadPlan::new) alone, which checks them, so that
/// executing one cannot meet a contradiction.
#[derive(Clone, Debug)]
pub struct PlanRow {
    pub(super) parameter: String,
    pub(super) shape: Vec<usize>,
    pub(super) role: ParameterRole,
    pub(super) reason: &'static str,
    pub(super) bytes: u64,
    pub(crate) fill: Fill,
}

/// Where a parameter's values come from and what becomes of them.
#[derive(Clone, Debug)]
pub(crate) enum Fill {
    /// These elements of a file are the parameter, and stay there.
    Mapped { part: FloatPart, elements: Range<usize> },
    /// The parts one after another, converted to one dtype.
    Copied { parts: Vec<FloatPart>, dtype: FloatDType },
    /// The parts one after another, quantised.
    Quantized(QuantizedFill),
    /// Stored quantised.
    Packed(Box<PackedFill>),
    /// Zeros: the files have no tensor for it.
    Zeros { dtype: FloatDType },
    /// The storage of another parameter, whose dtypes these are.
    Shared { to: String, stored: StoredDtype, dtype: FloatDType },
}

/// A weight that is quantised while it is read.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedFill {
    pub parts: Vec<FloatPart>,
    /// `[out, in]`
    pub shape: [usize; 2],
    /// The dtype that it is quantised from.
    pub dtype: WeightDtype,
    pub scheme: Scheme,
    /// Set if it is quantised together with the other parts of its tensor.
    pub joint: Option<JointPart>,
}

/// Which part of a tensor a parameter is that is quantised as a whole.
#[derive(Clone, Debug)]
pub(crate) struct JointPart {
    pub cut: Cut,
    /// The scheme of the tensor.
    pub whole: Scheme,
}

/// A weight that is stored quantised.
#[derive(Clone, Debug)]
pub(crate) struct PackedFill {
    pub stored: StoredWeight,
    /// The part of it that the parameter is.
    pub cut: Cut,
    /// The scheme of that part.
    pub scheme: Scheme,
    /// `[out, in]` of the parameter.
    pub shape: [usize; 2],
    /// The codes, seen through their operations as if they were decoded.
    pub codes: PlanSource,
    /// The other tensors of the stored weight.
    pub companions: Vec<PlanSource>,
    /// Whether the codes stay in the mapped file.
    pub mapped: bool,
}

/// A part of a parameter.
#[derive(Clone, Debug, Serialize)]
pub struct PlanSource {
    /// The tensor, as the files call it.
    pub tensor: String,
    /// Number of its shard in [`LoadPlan::shards`](crate::LoadPlan::shards).
    pub shard: usize,
    /// Bytes of the whole tensor in that file, counted from its start.
    pub range: Range<u64>,
    /// Its dtype.
    pub stored: StoredDtype,
    /// Operations on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<ViewOp>,
    /// The elements that are read, in order. They are elements of the tensor.
    #[serde(skip)]
    pub(crate) walk: Walk,
}

/// A part in floats.
#[derive(Clone, Debug)]
pub(crate) struct FloatPart {
    pub source: PlanSource,
    /// The same dtype as `source.stored`.
    pub dtype: FloatDType,
}

impl FloatPart {
    /// `None` if the elements are not floats of 16 bits or more.
    pub fn new(source: PlanSource) -> Option<Self> {
        Some(Self { dtype: source.stored.float()?, source })
    }

    /// If the elements lie one after another: their range.
    pub fn contiguous(&self) -> Option<Range<usize>> {
        self.source.walk.contiguous()
    }

    pub fn numel(&self) -> usize {
        self.source.walk.numel()
    }

    pub fn element_size(&self) -> usize {
        float_size(self.dtype)
    }
}

impl PlanRow {
    pub(super) fn new(slot: &ParameterSlot, fill: Fill, bytes: u64, reason: &'static str) -> Self {
        let (parameter, shape) = (slot.path.clone(), slot.shape.clone());
        Self { parameter, shape, role: slot.role, reason, bytes, fill }
    }

    /// Path in the module.
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// Shape in the module.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What it is for.
    pub fn role(&self) -> ParameterRole {
        self.role
    }

    /// Tensors that fill it one after another; none if it shares another parameter's storage. Of a parameter that is stored
    /// quantised, the tensor of codes.
    pub fn sources(&self) -> impl Iterator<Item = &PlanSource> {
        let (parts, codes): (&[FloatPart], Option<&PlanSource>) = match &self.fill {
            Fill::Mapped { part, .. } => (std::slice::from_ref(part), None),
            Fill::Copied { parts, .. } | Fill::Quantized(QuantizedFill { parts, .. }) => (parts, None),
            Fill::Packed(packed) => (&[], Some(&packed.codes)),
            Fill::Zeros { .. } | Fill::Shared { .. } => (&[], None),
        };
        parts.iter().map(|part| &part.source).chain(codes)
    }

    /// Of a parameter that is stored quantised, the tensors beside its codes: scales, code tables, state.
    pub fn companions(&self) -> &[PlanSource] {
        match &self.fill {
            Fill::Packed(packed) => &packed.companions,
            _ => &[],
        }
    }

    /// All tensors that are read for it.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &PlanSource> {
        self.sources().chain(self.companions())
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut PlanSource> {
        let (parts, codes, companions): (&mut [FloatPart], Option<&mut PlanSource>, &mut [PlanSource]) =
            match &mut self.fill {
                Fill::Mapped { part, .. } => (std::slice::from_mut(part), None, &mut []),
                Fill::Copied { parts, .. } | Fill::Quantized(QuantizedFill { parts, .. }) => (parts, None, &mut []),
                Fill::Packed(packed) => {
                    let PackedFill { codes, companions, .. } = &mut **packed;
                    (&mut [], Some(codes), companions)
                }
                Fill::Zeros { .. } | Fill::Shared { .. } => (&mut [], None, &mut []),
            };
        parts.iter_mut().map(|part| &mut part.source).chain(codes).chain(companions)
    }

    /// Dtype in the files, the widest of the sources; of a parameter that shares another's storage, that one's; of zeros float32.
    pub fn stored(&self) -> StoredDtype {
        match &self.fill {
            Fill::Mapped { part, .. } => part.source.stored,
            Fill::Copied { parts, .. } | Fill::Quantized(QuantizedFill { parts, .. }) => {
                super::policy::widest(parts.iter().map(|part| part.source.stored)).unwrap_or(StoredDtype::F32)
            }
            Fill::Packed(packed) => packed.codes.stored,
            Fill::Zeros { .. } => StoredDtype::F32,
            Fill::Shared { stored, .. } => *stored,
        }
    }

    /// Dtype on the device; of a quantised parameter the dtype that its codes stand for.
    pub fn target(&self) -> FloatDType {
        match &self.fill {
            Fill::Mapped { part, .. } => part.dtype,
            Fill::Copied { dtype, .. } | Fill::Zeros { dtype } | Fill::Shared { dtype, .. } => *dtype,
            Fill::Quantized(fill) => fill.dtype.float(),
            Fill::Packed(packed) => packed.stored.dtype.float(),
        }
    }

    /// Why it has that dtype.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// How it is quantised; `None` if it is dense, or shares the storage of another parameter.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.fill {
            Fill::Quantized(fill) => Some(Encoding { scheme: fill.scheme, prequantized: false }),
            Fill::Packed(packed) => Some(Encoding { scheme: packed.scheme, prequantized: true }),
            Fill::Mapped { .. } | Fill::Copied { .. } | Fill::Zeros { .. } | Fill::Shared { .. } => None,
        }
    }

    /// Whether it is quantised together with the other parts of its tensor. Double quantisation is that of the whole tensor then:
    /// the scales are those of the tensor, in 8 bits if the encoding says so, and otherwise decoded to float32.
    pub fn has_joint_scales(&self) -> bool {
        matches!(&self.fill, Fill::Quantized(QuantizedFill { joint: Some(_), .. }))
    }

    /// Bytes on the device, of a quantised parameter codes and scales; 0 if it shares another parameter's storage.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it stays in the mapped file; of a parameter that is stored quantised, the codes.
    pub fn is_mapped(&self) -> bool {
        match &self.fill {
            Fill::Mapped { .. } => true,
            Fill::Packed(packed) => packed.mapped,
            Fill::Copied { .. } | Fill::Quantized(_) | Fill::Zeros { .. } | Fill::Shared { .. } => false,
        }
    }

    /// The parameter whose storage it shares.
    pub fn tied_to(&self) -> Option<&str> {
        match &self.fill {
            Fill::Shared { to, .. } => Some(to),
            _ => None,
        }
    }

    /// Bytes that stay in the mapped file.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        match &self.fill {
            Fill::Mapped { .. } => self.bytes,
            Fill::Packed(packed) if packed.mapped => packed.scheme.code_bytes(packed.shape).unwrap_or(self.bytes),
            _ => 0,
        }
    }
}

/// One flat object, with absent fields left out, whatever the kind of row.
impl Serialize for PlanRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_struct("PlanRow", 13)?;
        row.serialize_field("parameter", &self.parameter)?;
        row.serialize_field("shape", &self.shape)?;
        row.serialize_field("role", &self.role)?;
        row.serialize_field("sources", &self.sources().collect::<Vec<_>>())?;
        row.serialize_field("stored", &self.stored())?;
        row.serialize_field("target", &self.target())?;
        row.serialize_field("reason", self.reason)?;
        if let Some(encoding) = self.encoding() {
            row.serialize_field("encoding", &encoding)?;
        }
        if self.has_joint_scales() {
            row.serialize_field("joint_scales", &true)?;
        }
        if !self.companions().is_empty() {
            row.serialize_field("companions", self.companions())?;
        }
        row.serialize_field("bytes", &self.bytes)?;
        row.serialize_field("mapped", &self.is_mapped())?;
        if let Some(to) = self.tied_to() {
            row.serialize_field("tied_to", to)?;
        }
        row.end()
    }
}
