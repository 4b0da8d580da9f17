//! Parameters that are quantised while they are read.

use super::{Run, loaded::LoadedWeight};
use crate::{
    LoadError, PlanRow, PlanSource,
    plan::{FloatPart, QuantizedFill, quantized_window_elements},
    windows::{DeviceSink, Feeder, FromAnyFloat, HostSink, Stretch, stream},
};
use automodel_quant::{
    DeviceQuantizer, Element, Elements, QuantError, QuantLinear, Quantized, Quantizer, Scheme, WeightDtype,
};
use burn::tensor::Element as BurnElement;
use half::{bf16, f16};

impl Run<'_> {
    /// A parameter that is quantised by itself.
    pub(super) fn load_quantized(&mut self, row: &PlanRow, fill: &QuantizedFill) -> Result<(), LoadError> {
        let weight = self.quantize(row, fill, fill.scheme)?;
        if let Quantized::Device(weight) = &weight
            && !fill.scheme.is_joint()
        {
            self.unchecked.push((row.parameter().to_owned(), (**weight).clone()));
        }
        self.take_quantized(row, weight)
    }

    /// Quantises a parameter where the device can, and on the host otherwise. A device that does not compute in the dtype of the
    /// file gets codes of the host.
    pub(super) fn quantize(
        &mut self,
        row: &PlanRow,
        fill: &QuantizedFill,
        scheme: Scheme,
    ) -> Result<Quantized, LoadError> {
        let on_device =
            DeviceQuantizer::supports(self.device, scheme) && self.device.supports_dtype(fill.dtype.float());
        let weight = match (fill.dtype, on_device) {
            (WeightDtype::Float32, false) => self.quantize_on_host::<f32>(row, fill, scheme)?,
            (WeightDtype::Float16, false) => self.quantize_on_host::<f16>(row, fill, scheme)?,
            (WeightDtype::BFloat16, false) => self.quantize_on_host::<bf16>(row, fill, scheme)?,
            (WeightDtype::Float32, true) => self.quantize_on_device::<f32>(row, fill, scheme)?,
            (WeightDtype::Float16, true) => self.quantize_on_device::<f16>(row, fill, scheme)?,
            (WeightDtype::BFloat16, true) => self.quantize_on_device::<bf16>(row, fill, scheme)?,
        };
        self.residency.meter.note(row.bytes());
        self.report.copied_bytes += row.bytes();
        Ok(weight)
    }

    fn quantize_on_host<T>(
        &mut self,
        row: &PlanRow,
        fill: &QuantizedFill,
        scheme: Scheme,
    ) -> Result<Quantized, LoadError>
    where
        T: Element + FromAnyFloat,
        for<'e> Elements<'e>: From<&'e [T]>,
    {
        let refused = |error: QuantError| refusal(row, error);
        let mut quantizer = Quantizer::new(scheme, fill.shape, fill.dtype).map_err(refused)?;
        let mut buffer = Vec::<T>::new();
        self.for_each_part(&fill.parts, |run, part, stretch| {
            let refused = |error: QuantError| refusal_of_source(row, &part.source, error);
            let mut sink = HostSink {
                dtype: part.dtype,
                limit: stretch.limit,
                quantizer: &mut quantizer,
                buffer: std::mem::take(&mut buffer),
                residency: &mut run.residency,
                refused: &refused,
            };
            stream(&mut run.shards, &stretch, &mut sink)?;
            buffer = sink.buffer;
            Ok(())
        })?;
        Ok(Quantized::Host(quantizer.finish().map_err(refused)?))
    }

    /// Windows of the file go to the device as they are, and no more than a window of the full form is there at once. Whether all
    /// elements were finite shows when its scales are looked at.
    fn quantize_on_device<T>(
        &mut self,
        row: &PlanRow,
        fill: &QuantizedFill,
        scheme: Scheme,
    ) -> Result<Quantized, LoadError>
    where
        T: Element + BurnElement + FromAnyFloat,
    {
        let refused = |error: QuantError| refusal(row, error);
        let quantizer = DeviceQuantizer::new(scheme, fill.shape, fill.dtype, self.device).map_err(refused)?;
        let mut feeder = Feeder::<T>::new(quantizer);
        self.for_each_part(&fill.parts, |run, part, stretch| {
            let mut sink = DeviceSink {
                dtype: part.dtype,
                limit: stretch.limit,
                feeder: &mut feeder,
                upload: &mut run.upload,
                residency: &mut run.residency,
                refused: &refused,
            };
            stream(&mut run.shards, &stretch, &mut sink)
        })?;
        let weight = feeder.finish().and_then(DeviceQuantizer::finish).map_err(refused)?;
        Ok(Quantized::Device(Box::new(weight)))
    }

    fn for_each_part(
        &mut self,
        parts: &[FloatPart],
        mut read: impl FnMut(&mut Self, &FloatPart, Stretch<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut at = 0;
        for part in parts {
            let limit = quantized_window_elements(self.plan.max_bytes_in_flight, part.dtype);
            read(self, part, Stretch::of(part, at, limit))?;
            at += part.numel();
        }
        Ok(())
    }

    /// Keeps a weight, on the device unless that computes in host memory.
    pub(super) fn take_quantized(&mut self, row: &PlanRow, weight: Quantized) -> Result<(), LoadError> {
        let weight = match weight {
            Quantized::Host(weight) if self.in_place() => LoadedWeight::Host(weight),
            Quantized::Host(weight) => {
                self.upload.send(weight.byte_len() as u64)?;
                LoadedWeight::Device(Box::new(QuantLinear::new(weight, None, self.device)))
            }
            Quantized::Device(weight) => {
                let layer = QuantLinear::of_device(*weight, None);
                LoadedWeight::Device(Box::new(layer))
            }
        };
        self.loaded.insert_quantized(row.parameter(), weight);
        self.count_quantized(row);
        Ok(())
    }
}

fn refusal_of_source(row: &PlanRow, source: &PlanSource, error: QuantError) -> LoadError {
    match error {
        QuantError::NonFinite { index, value } => {
            let (parameter, tensor) = (row.parameter().to_owned(), source.tensor.clone());
            LoadError::NonFiniteWeight { parameter, tensor, index, value }
        }
        other => refusal(row, other),
    }
}

pub(super) fn refusal(row: &PlanRow, error: QuantError) -> LoadError {
    LoadError::Quantization { parameter: row.parameter().to_owned(), source: error.into() }
}
