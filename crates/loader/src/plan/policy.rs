//! Which dtype a parameter has on the device, and why.

use crate::{StoredDtype, dtype::float_size};
use automodel_registry::weights::{ParameterRole, ParameterSlot};
use burn::tensor::{Device, FloatDType};
use serde::Serialize;

/// The dtype that parameters get on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DtypePolicy {
    /// The dtype of the file, with three exceptions: on the CPU bfloat16 and float16 become float32 (but see
    /// [`LoadOptions::half_products`](crate::LoadOptions::half_products)), float64 becomes float32 everywhere, and what the device
    /// does not support becomes float32.
    #[default]
    Auto,
    /// The wider of this dtype and that of the file, so that what was stored as float32 stays float32; of two dtypes of
    /// equal width, this one. float64 in a file counts as float32 unless float64 is asked for.
    AtLeast(FloatDType),
    /// This dtype, also where it is narrower than that of the file. Only parameters that the model keeps in float32 stay so.
    Cast(FloatDType),
}

/// The capabilities of a device that decide dtypes.
#[derive(Clone, Debug)]
pub(crate) struct DeviceTraits {
    /// Burn's CPU backend, which computes where the file is mapped.
    pub cpu: bool,
    supported: Vec<FloatDType>,
}

impl DeviceTraits {
    pub fn of(device: &Device) -> Self {
        let all = [FloatDType::F64, FloatDType::F32, FloatDType::F16, FloatDType::BF16];
        let supported = all.into_iter().filter(|dtype| device.supports_dtype(*dtype)).collect();
        Self { cpu: *device == Device::flex(), supported }
    }

    pub fn supports(&self, dtype: FloatDType) -> bool {
        self.supported.contains(&dtype)
    }
}

const AS_STORED: &str = "as stored";
const AS_REQUESTED: &str = "as requested";
const STORED_WIDER: &str = "stored wider than the dtype asked for";
const KEPT_FLOAT32: &str = "the model keeps this parameter in float32";
const NOT_SUPPORTED: &str = "the device does not compute in the stored dtype";
const FLOAT64: &str = "float64 is loaded as float32 unless float64 is asked for";
const HALF_PRODUCT: &str = "as stored: products with it are computed in float32";
const CPU_BF16: &str = "the CPU computes in float32; an explicit dtype overrides";
const CPU_F16: &str =
    "the CPU computes in float32, where values above 65504 do not overflow; an explicit dtype overrides";

/// The dtype on the device of a parameter that is stored as `stored`, and the reason.
pub(crate) fn target(
    policy: DtypePolicy,
    half_products: bool,
    slot: &ParameterSlot,
    stored: FloatDType,
    device: &DeviceTraits,
) -> (FloatDType, &'static str) {
    match policy {
        DtypePolicy::Auto if half_products && is_operand(slot) => automatic_operand(stored, device),
        DtypePolicy::Auto => automatic(stored, device),
        DtypePolicy::AtLeast(FloatDType::F64) | DtypePolicy::Cast(FloatDType::F64) => (FloatDType::F64, AS_REQUESTED),
        DtypePolicy::AtLeast(requested) => {
            let stored = if stored == FloatDType::F64 { FloatDType::F32 } else { stored };
            match float_size(stored) > float_size(requested) {
                true if slot.keep_float32 => (stored, KEPT_FLOAT32),
                true => (stored, STORED_WIDER),
                false => (requested, AS_REQUESTED),
            }
        }
        DtypePolicy::Cast(requested) => {
            let narrows = float_size(requested) < float_size(FloatDType::F32);
            if slot.keep_float32 && narrows && float_size(stored) >= float_size(FloatDType::F32) {
                return (FloatDType::F32, KEPT_FLOAT32);
            }
            (requested, AS_REQUESTED)
        }
    }
}

/// Whether only products and look-ups read the parameter.
fn is_operand(slot: &ParameterSlot) -> bool {
    use ParameterRole::{Embedding, ExpertProjection, OutputHead, Projection};
    matches!(slot.role, Embedding | ExpertProjection | OutputHead | Projection)
        && slot.shape.len() == 2
        && !slot.keep_float32
}

fn automatic_operand(stored: FloatDType, device: &DeviceTraits) -> (FloatDType, &'static str) {
    match stored {
        FloatDType::BF16 | FloatDType::F16 if device.cpu => (stored, HALF_PRODUCT),
        _ => automatic(stored, device),
    }
}

fn automatic(stored: FloatDType, device: &DeviceTraits) -> (FloatDType, &'static str) {
    match stored {
        FloatDType::F64 => (FloatDType::F32, FLOAT64),
        FloatDType::BF16 if device.cpu => (FloatDType::F32, CPU_BF16),
        FloatDType::F16 if device.cpu => (FloatDType::F32, CPU_F16),
        other if !device.supports(other) => (FloatDType::F32, NOT_SUPPORTED),
        other => (other, AS_STORED),
    }
}

/// The widest of the dtypes of several sources, by bits; the first of equals.
pub(crate) fn widest(stored: impl Iterator<Item = StoredDtype>) -> Option<StoredDtype> {
    stored.reduce(|widest, next| if next.bits() > widest.bits() { next } else { widest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use FloatDType::{BF16, F16, F32, F64};

    fn slot(keep_float32: bool) -> ParameterSlot {
        ParameterSlot { path: "w".into(), shape: vec![1], role: ParameterRole::Other, keep_float32, pieces: vec![] }
    }

    fn gpu(supported: &[FloatDType]) -> DeviceTraits {
        DeviceTraits { cpu: false, supported: supported.to_vec() }
    }

    #[test]
    fn auto_follows_the_file_except_where_the_device_cannot() {
        let (cpu, gpu) = (DeviceTraits::of(&Device::flex()), gpu(&[F32, BF16]));
        let to = |stored, device| target(DtypePolicy::Auto, false, &slot(false), stored, device).0;
        assert!(cpu.cpu);
        assert_eq!([F64, F32, F16, BF16].map(|stored| to(stored, &cpu)), [F32; 4]);
        assert_eq!([F64, F32, F16, BF16].map(|stored| to(stored, &gpu)), [F32, F32, F32, BF16]);
        assert!(target(DtypePolicy::Auto, false, &slot(false), BF16, &cpu).1.contains("float32"));
    }

    #[test]
    fn operands_of_products_stay_in_half_precision_where_the_model_reads_them_so() {
        let cpu = DeviceTraits::of(&Device::flex());
        let projection =
            |keep_float32| ParameterSlot { shape: vec![2, 2], role: ParameterRole::Projection, ..slot(keep_float32) };
        let to = |slot: &ParameterSlot, stored| target(DtypePolicy::Auto, true, slot, stored, &cpu).0;
        assert_eq!([F64, F32, F16, BF16].map(|stored| to(&projection(false), stored)), [F32, F32, F16, BF16]);
        assert_eq!([to(&projection(true), BF16), to(&slot(false), BF16)], [F32, F32]);
        assert_eq!(target(DtypePolicy::AtLeast(F32), true, &projection(false), BF16, &cpu).0, F32);
    }

    #[test]
    fn explicit_is_the_wider_of_file_and_request() {
        let cpu = DeviceTraits::of(&Device::flex());
        let to = |stored, asked| target(DtypePolicy::AtLeast(asked), false, &slot(false), stored, &cpu).0;
        assert_eq!(to(F32, BF16), F32);
        assert_eq!(to(BF16, F32), F32);
        assert_eq!(to(BF16, BF16), BF16);
        assert_eq!((to(BF16, F16), to(F16, BF16)), (F16, BF16));
        assert_eq!((to(F64, BF16), to(F64, F64), to(F32, F64)), (F32, F64, F64));
    }

    #[test]
    fn exact_narrows_except_what_the_model_keeps() {
        let cpu = DeviceTraits::of(&Device::flex());
        let to = |keep, stored| target(DtypePolicy::Cast(BF16), false, &slot(keep), stored, &cpu).0;
        assert_eq!((to(false, F32), to(true, F32), to(true, F64), to(true, F16)), (BF16, F32, F32, BF16));
    }
}
