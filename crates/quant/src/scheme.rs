//! The representations of quantised weights, and what planning needs to know of them.

use std::{fmt, ops::Range};

use serde::Serialize;

use crate::table16::{Blocksize, QuantType, Table16};

/// How a weight `[out, in]` is represented. `Display`: `nf4, blocks of 64, double quantisation`.
///
/// Other crates ask its methods and do not match it: a representation more then changes nothing for them.
///
/// ```
/// use automodel_quant::Scheme;
///
/// let scheme = Scheme::nf4().with_double_quant(true);
/// assert_eq!(scheme.to_string(), "nf4, blocks of 64, double quantisation");
/// // Codes, 8-bit scales, and a scale of 256 of these.
/// assert_eq!(scheme.bytes([32, 64]), Some(1024 + 32 + 4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Scheme {
    /// Four bits an element, looked up in a table, with a scale for each block.
    Table16(Table16),
}

/// A part of a quantised weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The elements.
    Codes,
    /// Scales in float32.
    Scales,
    /// Scales that are codes themselves.
    ScaleCodes,
}

/// The size of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpec {
    /// Which part.
    pub part: Part,
    /// Bytes of an entry.
    pub size: usize,
    /// Entries.
    pub len: usize,
}

impl PartSpec {
    /// Bytes of the part; `None` on overflow.
    pub fn bytes(self) -> Option<u64> {
        u64::try_from(self.len.checked_mul(self.size)?).ok()
    }
}

impl Scheme {
    /// NF4 in blocks of 64 with scales in float32.
    pub fn nf4() -> Self {
        Table16::new(QuantType::Nf4).into()
    }

    /// FP4 in blocks of 64 with scales in float32.
    pub fn fp4() -> Self {
        Table16::new(QuantType::Fp4).into()
    }

    /// The name by which users choose it: `nf4`, `fp4`.
    pub fn name(self) -> &'static str {
        self.representation().name()
    }

    /// The scheme of this [`name`](Self::name), with its usual choices.
    ///
    /// ```
    /// use automodel_quant::Scheme;
    /// assert_eq!(Scheme::from_name("nf4"), Some(Scheme::nf4()));
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::nf4(), Self::fp4()].into_iter().find(|scheme| scheme.name() == name)
    }

    /// With another number of elements that share a scale, where the scheme has such a choice.
    pub fn with_blocksize(self, blocksize: Blocksize) -> Self {
        match self {
            Self::Table16(scheme) => scheme.with_blocksize(blocksize).into(),
        }
    }

    /// With scales that are quantised too, or not, where the scheme has such a choice.
    pub fn with_double_quant(self, double_quant: bool) -> Self {
        match self {
            Self::Table16(scheme) => scheme.with_double_quant(double_quant).into(),
        }
    }

    /// As a scheme with a table.
    pub fn table16(self) -> Option<Table16> {
        match self {
            Self::Table16(scheme) => Some(scheme),
        }
    }

    /// The parts of a weight `[out, in]`, codes first; `None` if their bytes overflow.
    pub fn parts(self, shape: [usize; 2]) -> Option<Vec<PartSpec>> {
        shape[0].checked_mul(shape[1])?;
        Some(self.representation().parts(shape))
    }

    /// A word that identifies the coding, for records: `nf4_64`.
    pub(crate) fn code_name(self) -> String {
        self.representation().code_name()
    }

    /// Whether scales are codes themselves.
    pub(crate) fn has_scale_codes(self) -> bool {
        self.representation().has_scale_codes()
    }

    /// Bytes of a weight `[out, in]`; `None` on overflow.
    pub fn bytes(self, shape: [usize; 2]) -> Option<u64> {
        self.parts(shape)?.into_iter().try_fold(0u64, |sum, part| sum.checked_add(part.bytes()?))
    }

    /// Bytes of the codes alone, which may stay in a mapped file; `None` on overflow.
    pub fn code_bytes(self, shape: [usize; 2]) -> Option<u64> {
        self.parts(shape)?.first()?.bytes()
    }

    /// Bytes that quantising a weight `[out, in]` needs besides the result.
    pub fn transient_bytes(self, shape: [usize; 2]) -> u64 {
        self.representation().transient_bytes(shape[0].saturating_mul(shape[1]))
    }

    /// Bytes that the parts of one weight with `elements` elements need besides their results while they are quantised together (see
    /// [`is_joint`](Self::is_joint)).
    pub fn joint_bytes(self, elements: u64) -> u64 {
        self.representation().joint_bytes(elements)
    }

    /// Consecutive elements of a weight `[out, in]` that can be taken out without decoding: those that share a scale. The last ones may
    /// be fewer. A weight is cut only between units, see [`Cut`].
    pub fn unit(self, shape: [usize; 2]) -> usize {
        self.representation().unit(shape)
    }

    /// Whether units depend on each other, so that parts of one weight must be quantised together ([`Joint`](crate::Joint)) to equal the
    /// parts of the quantised weight.
    pub fn is_joint(self) -> bool {
        self.separate() != self
    }

    /// The scheme in which the parts of one weight are quantised before they are joined.
    pub fn separate(self) -> Self {
        self.representation().separate()
    }
}

impl From<Table16> for Scheme {
    fn from(scheme: Table16) -> Self {
        Self::Table16(scheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.representation().fmt(f)
    }
}

/// Whole units of a quantised weight `[out, in]` that are a weight of their own: the rows of `q_proj` in `qkv_proj` for instance.
///
/// ```
/// use automodel_quant::{Cut, Scheme};
///
/// let scheme = Scheme::nf4();
/// let lower = Cut::new(scheme, [6, 64], [0..128])?;
/// let upper = Cut::new(scheme, [6, 64], [128..384])?;
/// assert!(Cut::cover([&lower, &upper]));
/// assert_eq!(Cut::new(scheme, [6, 64], [32..384]).unwrap_err().at, 32);
/// # Ok::<(), automodel_quant::CutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    scheme: Scheme,
    shape: [usize; 2],
    /// Neighbours are joined.
    runs: Vec<Range<usize>>,
}

/// A place where a weight cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is cut at element {at}, within {unit} that share a scale")]
pub struct CutError {
    /// The element, in row-major order.
    pub at: usize,
    /// Elements of a unit.
    pub unit: usize,
}

impl Cut {
    /// Runs of elements of a weight `[out, in]` in the scheme, in the order of the part. Only the last may end within a unit, which then
    /// is the short last one of the part.
    ///
    /// # Errors
    /// [`CutError`] with the first place that is not between units, or not in the weight.
    pub fn new(
        scheme: Scheme,
        shape: [usize; 2],
        runs: impl IntoIterator<Item = Range<usize>>,
    ) -> Result<Self, CutError> {
        let (unit, elements) = (scheme.unit(shape), shape[0].saturating_mul(shape[1]));
        let mut joined: Vec<Range<usize>> = Vec::new();
        for run in runs {
            let before = joined.last().map_or(0, |before| before.end);
            let is_between = |at: usize| at.is_multiple_of(unit);
            let wrong = if !is_between(before) {
                Some(before)
            } else if !is_between(run.start) || run.is_empty() {
                Some(run.start)
            } else {
                (run.end > elements).then_some(run.end)
            };
            if let Some(at) = wrong {
                return Err(CutError { at, unit });
            }
            match joined.last_mut() {
                Some(last) if last.end == run.start => last.end = run.end,
                _ => joined.push(run),
            }
        }
        if joined.is_empty() {
            return Err(CutError { at: 0, unit });
        }
        Ok(Self { scheme, shape, runs: joined })
    }

    /// Whether the cuts, of one weight, are all of its units together.
    pub fn cover<'c>(cuts: impl IntoIterator<Item = &'c Self>) -> bool {
        let cuts: Vec<&Self> = cuts.into_iter().collect();
        let Some(first) = cuts.first() else { return false };
        let mut runs: Vec<&Range<usize>> = cuts.iter().flat_map(|cut| &cut.runs).collect();
        runs.sort_by_key(|run| run.start);
        let read = runs.iter().fold(0, |end, run| if run.start <= end { run.end.max(end) } else { end });
        read == first.all() && cuts.iter().all(|cut| (cut.scheme, cut.shape) == (first.scheme, first.shape))
    }

    /// The scheme of the part: that of the weight, without double quantisation where its scales cannot keep theirs.
    pub fn scheme(&self) -> Scheme {
        self.scheme.representation().of_part(&self.units())
    }

    /// `[out, in]` of the weight that is cut.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The runs of elements, neighbours joined.
    pub fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// Elements of the part.
    pub fn elements(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether the part ends with a unit or with the weight: only then has its last unit the scale of the whole weight's when it is
    /// quantised by itself.
    pub fn ends_with_unit(&self) -> bool {
        self.runs.last().is_none_or(|run| run.end.is_multiple_of(self.unit()) || run.end == self.all())
    }

    /// The runs of units.
    pub(crate) fn units(&self) -> Vec<Range<usize>> {
        self.runs.iter().map(|run| run.start / self.unit()..run.end.div_ceil(self.unit())).collect()
    }

    pub(crate) fn of(&self) -> Scheme {
        self.scheme
    }

    fn unit(&self) -> usize {
        self.scheme.unit(self.shape)
    }

    fn all(&self) -> usize {
        self.shape[0].saturating_mul(self.shape[1])
    }
}
