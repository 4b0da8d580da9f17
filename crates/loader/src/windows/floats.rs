//! Between the four float types, straight from bytes.

use bytemuck::Pod;
use half::{bf16, f16, slice::HalfFloatSliceExt};

/// Elements that are converted and then searched while they are in the cache.
const BLOCK: usize = 2048;

/// A float type that parameters are stored or computed in.
pub(crate) trait Float: Pod + Send + Sync {
    const ZERO: Self;

    /// Neither NaN nor infinite.
    fn finite(self) -> bool;
}

/// Conversion from `S`, rounded to nearest even as torch does. From a type to itself all bits are kept.
pub(crate) trait FromFloat<S: Float>: Float {
    fn from_float(value: S) -> Self;

    /// Converts as many elements as both slices have.
    fn from_slice(source: &[S], target: &mut [Self]) {
        for (target, source) in target.iter_mut().zip(source) {
            *target = Self::from_float(*source);
        }
    }
}

/// Conversion from each of the four types.
pub(crate) trait FromAnyFloat: FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16> {}

impl<T: FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>> FromAnyFloat for T {}

/// Runs `$body` with `$type` being the Rust type of a float dtype.
macro_rules! with_float {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            burn::tensor::FloatDType::F64 => {
                type $type = f64;
                $body
            }
            burn::tensor::FloatDType::F32 | burn::tensor::FloatDType::Flex32 => {
                type $type = f32;
                $body
            }
            burn::tensor::FloatDType::F16 => {
                type $type = half::f16;
                $body
            }
            burn::tensor::FloatDType::BF16 => {
                type $type = half::bf16;
                $body
            }
        }
    };
}
pub(crate) use with_float;

macro_rules! float {
    ($($type:ty: $zero:expr, $finite:expr;)*) => {$(
        impl Float for $type {
            const ZERO: Self = $zero;

            #[inline(always)]
            fn finite(self) -> bool {
                let finite: fn(Self) -> bool = $finite;
                finite(self)
            }
        }

        impl FromFloat<$type> for $type {
            #[inline(always)]
            fn from_float(value: $type) -> Self {
                value
            }

            fn from_slice(source: &[$type], target: &mut [Self]) {
                let length = source.len().min(target.len());
                target[..length].copy_from_slice(&source[..length]);
            }
        }
    )*};
}

float! {
    f64: 0.0, |value| value.is_finite();
    f32: 0.0, |value| value.is_finite();
    f16: f16::ZERO, |value| value.to_bits() & 0x7C00 != 0x7C00;
    bf16: bf16::ZERO, |value| value.to_bits() & 0x7F80 != 0x7F80;
}

macro_rules! conversion {
    ($($source:ty => $target:ty: $convert:expr $(, $slice:expr)?;)*) => {$(
        impl FromFloat<$source> for $target {
            #[inline(always)]
            fn from_float(value: $source) -> Self {
                let convert: fn($source) -> $target = $convert;
                convert(value)
            }

            $(fn from_slice(source: &[$source], target: &mut [Self]) {
                let length = source.len().min(target.len());
                let convert: fn(&[$source], &mut [$target]) = $slice;
                convert(&source[..length], &mut target[..length]);
            })?
        }
    )*};
}

conversion! {
    f64 => f32: |value| value as f32;
    f64 => f16: |value| f16::from_f32(value as f32);
    f64 => bf16: |value| bf16::from_f32(value as f32);
    f32 => f64: f64::from;
    f32 => f16: f16::from_f32, |source, target| target.convert_from_f32_slice(source);
    f32 => bf16: bf16::from_f32;
    f16 => f64: f16::to_f64;
    f16 => f32: f16::to_f32, |source, target| source.convert_to_f32_slice(target);
    f16 => bf16: |value| bf16::from_f32(value.to_f32());
    bf16 => f64: bf16::to_f64;
    bf16 => f32: |value| f32::from_bits(u32::from(value.to_bits()) << 16);
    bf16 => f16: |value| f16::from_f32(value.to_f32());
}

/// Converts the elements in `source`, which need not be aligned, and counts those that are not finite afterwards, and of these
/// the ones that were finite before. `at` is the position of the first one in the parameter.
pub(crate) fn convert_bytes<S: Float, T: FromFloat<S>>(source: &[u8], target: &mut [T], at: u64) -> NonFiniteCount {
    let size = size_of::<S>();
    let mut found = NonFiniteCount::default();
    let mut scratch = Vec::new();
    for (block, (source, target)) in source.chunks(BLOCK * size).zip(target.chunks_mut(BLOCK)).enumerate() {
        let elements = match bytemuck::try_cast_slice::<u8, S>(source) {
            Ok(elements) => elements,
            Err(_) => {
                scratch.resize(target.len(), S::ZERO);
                bytemuck::cast_slice_mut::<S, u8>(&mut scratch).copy_from_slice(source);
                &scratch[..]
            }
        };
        T::from_slice(elements, target);
        found.search_converted(|place| elements[place], target, at + (block * BLOCK) as u64);
    }
    found
}

/// Counts elements that are not finite in `source`, which need not be aligned.
pub(crate) fn search_bytes<S: Float>(source: &[u8], at: u64) -> NonFiniteCount {
    let size = size_of::<S>();
    let mut found = NonFiniteCount::default();
    for (block, source) in source.chunks(BLOCK * size).enumerate() {
        let first = at + (block * BLOCK) as u64;
        match bytemuck::try_cast_slice::<u8, S>(source) {
            Ok(elements) => found.search(elements, first),
            Err(_) => {
                let elements: Vec<S> = source.chunks_exact(size).map(bytemuck::pod_read_unaligned).collect();
                found.search(&elements, first);
            }
        }
    }
    found
}

/// How many elements are NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NonFiniteCount {
    pub count: u64,
    /// Position of the first one in the parameter.
    pub first: Option<u64>,
    /// How many of them were finite before they were converted: they are beyond the range of their new type.
    pub overflowed: u64,
    /// Position of the first of these.
    pub first_overflowed: Option<u64>,
}

impl NonFiniteCount {
    /// Searches elements that were converted from those that `source` has at the same places.
    pub fn search_converted<S: Float, T: Float>(&mut self, source: impl Fn(usize) -> S, target: &[T], at: u64) {
        let before = self.count;
        self.search(target, at);
        if self.count == before {
            return;
        }
        let mut overflowed = (0..target.len()).filter(|&place| !target[place].finite() && source(place).finite());
        if let Some(first) = overflowed.next() {
            let (overflowed, first_overflowed) = (1 + overflowed.count() as u64, Some(at + first as u64));
            *self = self.and(Self { overflowed, first_overflowed, ..Self::default() });
        }
    }

    pub fn search<T: Float>(&mut self, elements: &[T], at: u64) {
        let count = elements.iter().filter(|value| !value.finite()).count() as u64;
        if count > 0 {
            let first = elements.iter().position(|value| !value.finite()).map(|position| at + position as u64);
            *self = self.and(Self { count, first, ..Self::default() });
        }
    }

    pub fn and(self, other: Self) -> Self {
        let earlier = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            count: self.count + other.count,
            first: earlier(self.first, other.first),
            overflowed: self.overflowed + other.overflowed,
            first_overflowed: earlier(self.first_overflowed, other.first_overflowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted<S: Float, T: FromFloat<S>>(values: &[S]) -> (Vec<T>, NonFiniteCount) {
        let mut target = vec![T::ZERO; values.len()];
        let found = convert_bytes::<S, T>(bytemuck::cast_slice(values), &mut target, 0);
        // One byte further on, no element is aligned.
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(bytemuck::cast_slice(values));
        let mut again = vec![T::ZERO; values.len()];
        assert_eq!(convert_bytes::<S, T>(&shifted[1..], &mut again, 0), found);
        let bits = |values: &[T]| bytemuck::cast_slice::<T, u8>(values).to_vec();
        assert!(bits(&target) == bits(&again));
        (target, found)
    }

    #[test]
    fn bfloat16_becomes_float32_exactly() {
        let values: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let (wide, found) = converted::<bf16, f32>(&values);
        assert!(values.iter().zip(&wide).all(|(a, b)| u32::from(a.to_bits()) << 16 == b.to_bits()));
        assert_eq!(found, NonFiniteCount { count: 256, first: Some(0x7F80), ..NonFiniteCount::default() });
    }

    #[test]
    fn float16_becomes_float32_exactly() {
        let values: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let (wide, found) = converted::<f16, f32>(&values);
        assert!(values.iter().zip(&wide).all(|(a, b)| a.is_nan() && b.is_nan() || a.to_f64() == f64::from(*b)));
        assert_eq!(found.count, 2048);
    }

    #[test]
    fn narrowing_rounds_to_nearest_even_and_counts_overflow() {
        let values = [1.0f32, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 70000.0];
        let (narrow, found) = converted::<f32, bf16>(&values);
        assert_eq!(narrow.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [1.0, 1.0, 1.015625, 70144.0]);
        assert_eq!(found.count, 0);
        let (_, found) = converted::<f32, f16>(&values);
        let expected = NonFiniteCount { count: 1, first: Some(3), overflowed: 1, first_overflowed: Some(3) };
        assert_eq!(found, expected);
        // What was infinite before has not overflowed.
        let (_, found) = converted::<f32, f16>(&[f32::INFINITY, f32::NAN, -65520.0, 65519.0, 1e9]);
        assert_eq!((found.count, found.first), (4, Some(0)));
        assert_eq!((found.overflowed, found.first_overflowed), (2, Some(2)));
    }

    #[test]
    fn the_same_type_keeps_every_bit() {
        let values = [f32::from_bits(0x7FC0_1234), -0.0];
        let (same, found) = converted::<f32, f32>(&values);
        assert_eq!(same[0].to_bits(), 0x7FC0_1234);
        assert_eq!((found.count, found.first, found.overflowed), (1, Some(0), 0));
        let found = search_bytes::<f32>(bytemuck::cast_slice(&values), 5);
        assert_eq!((found.count, found.first), (1, Some(5)));
    }
}
