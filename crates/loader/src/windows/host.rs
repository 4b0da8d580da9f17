//! Elements into codes on the host.

use super::{FromAnyFloat, Residency, Sink, Window};
use crate::{
    LoadError,
    dtype::{float_size, weight_dtype},
    strided::Walk,
};
use automodel_quant::{Element, Elements, QuantError, Quantizer};
use burn::tensor::FloatDType;

/// Quantises elements: of their full form no more than two windows are in memory.
pub(crate) struct HostSink<'q, T> {
    /// Dtype in the file.
    pub dtype: FloatDType,
    /// The most elements that are converted at a time.
    pub limit: usize,
    pub quantizer: &'q mut Quantizer,
    pub buffer: Vec<T>,
    pub residency: &'q mut Residency,
    /// The error for one of the quantiser's.
    pub refused: &'q (dyn Fn(QuantError) -> LoadError + Sync),
}

impl<T> Sink for HostSink<'_, T>
where
    T: Element + FromAnyFloat,
    for<'e> Elements<'e>: From<&'e [T]>,
{
    fn take(&mut self, window: &Window) -> Result<(), LoadError> {
        let Self { dtype, limit, quantizer, buffer, residency, refused } = self;
        let quantize = || {
            window.walk.for_each_part(*limit, &mut |skipped, part| {
                let in_file = in_place::<T>(window, *dtype, part);
                let elements = match &in_file {
                    Some(bytes) => bytemuck::cast_slice(bytes),
                    None => {
                        buffer.resize(part.numel(), T::ZERO);
                        window.gather(*dtype, part, buffer, 0);
                        buffer.as_slice()
                    }
                };
                quantizer.fill(window.at + skipped, Elements::from(elements)).map_err(*refused)
            })
        };
        // The pages of the window before this one are given back meanwhile.
        let before = residency.before.replace(window.pages.clone());
        let manage_pages = || {
            window.pages.read_ahead();
            before.unwrap_or_default().release();
        };
        let (quantized, ()) = rayon::join(quantize, manage_pages);
        residency.meter.sample();
        quantized
    }
}

/// The bytes of a part that lie in the file as they are quantised, and can be read there.
fn in_place<T: Element + FromAnyFloat>(window: &Window, dtype: FloatDType, part: &Walk) -> Option<bytes::Bytes> {
    let same = weight_dtype(dtype) == T::DTYPE && float_size(dtype) == size_of::<T>();
    let bytes = window.contiguous::<T>(part).filter(|_| same)?;
    bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok().then_some(bytes)
}
