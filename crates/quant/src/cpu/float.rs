//! The float types of activations and dense weights.

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// A floating-point type that kernels read and write.
pub trait Float: Copy + Default + Send + Sync + 'static {
    /// The same value in single precision.
    fn to_f32(self) -> f32;

    /// The nearest value, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Eight values in single precision.
    ///
    /// # Safety
    /// Eight values are readable at `values` and the processor has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn load8(values: *const Self) -> std::arch::x86_64::__m256;

    /// Sixteen values in single precision.
    ///
    /// # Safety
    /// Sixteen values are readable at `values` and the processor has AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn load16(values: *const Self) -> std::arch::x86_64::__m512;
}

macro_rules! float {
    ($type:ty, $load:ident, |$value:ident| $to:expr, |$single:ident| $from:expr) => {
        impl Float for $type {
            #[inline(always)]
            fn to_f32(self) -> f32 {
                let $value = self;
                $to
            }

            #[inline(always)]
            fn from_f32($single: f32) -> Self {
                $from
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load8(values: *const Self) -> std::arch::x86_64::__m256 {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { avx2::convert::$load(values.cast()) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load16(values: *const Self) -> std::arch::x86_64::__m512 {
                // SAFETY: the caller's promise is the callee's condition.
                unsafe { avx512::$load(values.cast()) }
            }
        }
    };
}

float!(f32, load_f32, |value| value, |single| single);
float!(f16, load_f16, |value| value.to_f32(), |single| f16::from_f32(single));
float!(bf16, load_bf16, |value| value.to_f32(), |single| bf16::from_f32(single));
