//! Elements into a buffer, converted on the way.

use super::{FromAnyFloat, NonFiniteCount, Residency, Sink, Window};
use crate::{LoadError, dtype::float_size};
use burn::tensor::FloatDType;

/// Converts elements straight into their places.
pub(crate) struct DenseSink<'t, T> {
    /// Dtype in the file.
    pub dtype: FloatDType,
    /// All elements of the parameter.
    pub target: &'t mut [T],
    pub found: &'t mut NonFiniteCount,
    pub residency: &'t mut Residency,
}

impl<T: FromAnyFloat> Sink for DenseSink<'_, T> {
    fn take(&mut self, window: &Window) -> Result<(), LoadError> {
        let elements = window.walk.numel();
        let target = &mut self.target[window.at..window.at + elements];
        *self.found = self.found.and(window.gather(self.dtype, &window.walk, target, window.at as u64));
        self.residency.meter.note((elements * float_size(self.dtype).max(size_of::<T>())) as u64);
        window.pages.clone().release();
        Ok(())
    }
}
