//! Attention backends: their names, how each computes on a device, and how one is selected.
//!
//! | name | CPU (Flex) | other devices |
//! |---|---|---|
//! | `math` | the full score matrix and one softmax, in tensor operations | the same |
//! | `efficient_attention` | tiles of queries and keys with an online softmax: the score matrix never exists, keys that no query of a tile sees are skipped; a kernel of this crate, run in parallel | the same tiles, in tensor operations |
//! | `flash_attention` | the same kernel as `efficient_attention`: its tiles are the algorithm of FlashAttention, and Burn's fused operator was slower at every shape measured and has no sinks | not available: Burn 0.22's autotuned kernel gives wrong results with grouped heads |
//! | `cudnn_attention` | not available | not available: Burn has no binding to cuDNN |
//!
//! In builds with `cuda` or `wgpu`, models whose backend is `efficient_attention` decode on GPUs with kernels of this crate (`step`):
//! one cube for each chunk of keys, combined by the same online softmax.
//!
//! Without a preference every device uses `efficient_attention`; for the CPU, [`attention`](mod@crate::attention)
//! has the measurements. Tensors that track gradients, and float64, use the tensor operations on the CPU too.

use crate::AttentionError;
use burn::tensor::Device;
use std::fmt;
use std::str::FromStr;

/// A way to compute scaled dot-product attention. The names are those of PyTorch's `SDPBackend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SdpaBackend {
    /// `flash_attention`
    FlashAttention,
    /// `efficient_attention`
    EfficientAttention,
    /// `math`
    Math,
    /// `cudnn_attention`
    CudnnAttention,
}

impl SdpaBackend {
    /// Every backend.
    pub const ALL: [Self; 4] = [Self::FlashAttention, Self::EfficientAttention, Self::Math, Self::CudnnAttention];

    /// The name in lower case, as configurations spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlashAttention => "flash_attention",
            Self::EfficientAttention => "efficient_attention",
            Self::Math => "math",
            Self::CudnnAttention => "cudnn_attention",
        }
    }
}

/// The names in a sentence.
pub(crate) fn join_names(backends: &[SdpaBackend]) -> String {
    backends.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SdpaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads a name in any case.
///
/// ```
/// use automodel_attention::SdpaBackend;
/// assert_eq!("Flash_Attention".parse(), Ok(SdpaBackend::FlashAttention));
/// ```
impl FromStr for SdpaBackend {
    type Err = AttentionError;

    fn from_str(name: &str) -> Result<Self, AttentionError> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| AttentionError::UnknownBackend { name: name.to_owned() })
    }
}

impl TryFrom<&str> for SdpaBackend {
    type Error = AttentionError;

    fn try_from(name: &str) -> Result<Self, AttentionError> {
        name.parse()
    }
}

impl TryFrom<String> for SdpaBackend {
    type Error = AttentionError;

    fn try_from(name: String) -> Result<Self, AttentionError> {
        name.parse()
    }
}

/// A backend by name or by value, for lists that mix the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdpaMethod {
    /// A name in any case.
    Name(String),
    /// A backend.
    Backend(SdpaBackend),
}

impl From<&str> for SdpaMethod {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<SdpaBackend> for SdpaMethod {
    fn from(backend: SdpaBackend) -> Self {
        Self::Backend(backend)
    }
}

impl TryFrom<SdpaMethod> for SdpaBackend {
    type Error = AttentionError;

    fn try_from(method: SdpaMethod) -> Result<Self, AttentionError> {
        match method {
            SdpaMethod::Name(name) => name.parse(),
            SdpaMethod::Backend(backend) => Ok(backend),
        }
    }
}

/// Requirements of a run on attention, besides its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdpaConstraints {
    /// Devices that share one sequence; 1 without context parallelism.
    pub context_parallel_size: usize,
    /// Whether activations are recomputed in the backward pass.
    pub activation_checkpointing: bool,
}

impl Default for SdpaConstraints {
    fn default() -> Self {
        Self { context_parallel_size: 1, activation_checkpointing: false }
    }
}

/// Turns a request into an ordered list of backends, or `None` for the device's default.
///
/// An explicit request wins, in its order. Without one, context parallelism requires flash or efficient attention,
/// activation checkpointing requires flash, efficient or math.
///
/// # Errors
/// [`UnknownBackend`](AttentionError::UnknownBackend) for an unknown name,
/// [`EmptyPreference`](AttentionError::EmptyPreference) for an empty request.
///
/// ```
/// use automodel_attention::{SdpaBackend, SdpaConstraints, SdpaMethod, resolve_sdpa_method};
///
/// let request: [SdpaMethod; 2] = ["MATH".into(), SdpaBackend::FlashAttention.into()];
/// let order = resolve_sdpa_method(Some(&request), &SdpaConstraints::default())?;
/// assert_eq!(order, Some(vec![SdpaBackend::Math, SdpaBackend::FlashAttention]));
///
/// assert_eq!(resolve_sdpa_method::<&str>(None, &SdpaConstraints::default())?, None);
/// # Ok::<(), automodel_attention::AttentionError>(())
/// ```
pub fn resolve_sdpa_method<M>(
    requested: Option<&[M]>,
    constraints: &SdpaConstraints,
) -> Result<Option<Vec<SdpaBackend>>, AttentionError>
where
    M: Clone + TryInto<SdpaBackend>,
    AttentionError: From<M::Error>,
{
    use SdpaBackend::{EfficientAttention, FlashAttention, Math};
    match requested {
        Some([]) => Err(AttentionError::EmptyPreference),
        Some(methods) => {
            let backends: Result<Vec<_>, _> = methods.iter().cloned().map(TryInto::try_into).collect();
            Ok(Some(backends?))
        }
        None if constraints.context_parallel_size > 1 => Ok(Some(vec![FlashAttention, EfficientAttention])),
        None if constraints.activation_checkpointing => Ok(Some(vec![FlashAttention, EfficientAttention, Math])),
        None => Ok(None),
    }
}

/// The backend selected for a device, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdpaChoice {
    /// The backend to pass to [`attention()`](crate::attention()).
    pub backend: SdpaBackend,
    /// One sentence.
    pub reason: String,
    /// Preferred backends that do not run on the device, each with the reason.
    pub skipped: Vec<(SdpaBackend, String)>,
}

/// Selects the first of `preference` that runs on `device`, or the device's default without a preference.
///
/// # Errors
/// [`UnavailableBackend`](AttentionError::UnavailableBackend) if none of them runs there,
/// [`EmptyPreference`](AttentionError::EmptyPreference) for an empty list.
///
/// ```
/// use automodel_attention::{SdpaBackend, select_backend};
/// use burn::tensor::Device;
///
/// let wanted = [SdpaBackend::CudnnAttention, SdpaBackend::Math];
/// let choice = select_backend(Some(&wanted), &Device::flex())?;
/// assert_eq!(choice.backend, SdpaBackend::Math);
/// assert_eq!(choice.skipped[0].0, SdpaBackend::CudnnAttention);
/// # Ok::<(), automodel_attention::AttentionError>(())
/// ```
pub fn select_backend(preference: Option<&[SdpaBackend]>, device: &Device) -> Result<SdpaChoice, AttentionError> {
    let Some(preference) = preference else {
        return Ok(SdpaChoice {
            backend: SdpaBackend::EfficientAttention,
            reason: format!("the default on {}: tiles, so that memory stays bounded", describe(device)),
            skipped: Vec::new(),
        });
    };
    if preference.is_empty() {
        return Err(AttentionError::EmptyPreference);
    }
    let mut skipped = Vec::new();
    for &backend in preference {
        match unavailable(backend, device) {
            Some(reason) => skipped.push((backend, reason.to_owned())),
            None => {
                let reason = match (backend, skipped.is_empty()) {
                    (SdpaBackend::FlashAttention, _) => {
                        format!("requested; on {} it is the kernel of efficient_attention", describe(device))
                    }
                    (_, true) => format!("requested, and available on {}", describe(device)),
                    (_, false) => format!("the first requested backend that runs on {}", describe(device)),
                };
                return Ok(SdpaChoice { backend, reason, skipped });
            }
        }
    }
    let available = SdpaBackend::ALL.into_iter().filter(|&backend| unavailable(backend, device).is_none()).collect();
    Err(AttentionError::UnavailableBackend { device: describe(device), skipped, available })
}

/// Why a backend does not run on a device.
fn unavailable(backend: SdpaBackend, device: &Device) -> Option<&'static str> {
    match backend {
        SdpaBackend::CudnnAttention if is_cpu(device) => Some("cuDNN needs an NVIDIA GPU"),
        SdpaBackend::CudnnAttention => Some("Burn has no binding to cuDNN"),
        SdpaBackend::FlashAttention if !is_cpu(device) => {
            Some("Burn 0.22's fused kernel gives wrong results with grouped heads")
        }
        _ => None,
    }
}

/// Whether the device is Burn's CPU backend, with or without autodiff.
pub(crate) fn is_cpu(device: &Device) -> bool {
    // Equality of devices compares the hardware alone.
    *device == Device::flex()
}

fn describe(device: &Device) -> String {
    if is_cpu(device) { "the CPU".to_owned() } else { format!("{device:?}") }
}
