//! Parameters that are quantised while they are read.

use super::{Run, loaded::Loaded4bit};
use crate::{
    LoadError, PlanRow, PlanSource,
    plan::{FloatPart, QuantizedFill, quantized_window_elements},
    windows::{DeviceSink, Feeder, FromAnyFloat, HostSink, Stretch, stream},
};
use automodel_quant::{
    Absmax, Device4bit, Element, Elements, Linear4bit, NestedAbsmax, QuantError, Quantized4bit, WeightDtype,
    table16::{DeviceQuantizer, Quantizer},
};
use burn::tensor::Element as BurnElement;
use half::{bf16, f16};

/// A weight with scales in float32, where it was quantised.
pub(super) enum Plain4bit {
    Host(Quantized4bit),
    Device(Box<Device4bit>),
}

impl Plain4bit {
    /// Its scales on the host; the device's are known to be finite then.
    pub fn scales(&self, row: &PlanRow) -> Result<Vec<f32>, LoadError> {
        match self {
            Self::Host(weight) => Ok(weight.scales()),
            Self::Device(weight) => weight.scales().map_err(|error| refusal(row, error)),
        }
    }
}

impl Run<'_> {
    /// A parameter whose scales are its own.
    pub(super) fn load_quantized(&mut self, row: &PlanRow, fill: &QuantizedFill) -> Result<(), LoadError> {
        let weight = self.quantize(row, fill)?;
        if fill.encoding.double_quant {
            let scales = Absmax::Nested(NestedAbsmax::quantize(&weight.scales(row)?));
            return self.take_scaled(row, weight, scales);
        }
        match weight {
            Plain4bit::Host(weight) => self.take_quantized(row, weight),
            Plain4bit::Device(weight) => {
                self.unchecked.push((row.parameter().to_owned(), (*weight).clone()));
                self.take_layer(row, *weight, None)
            }
        }
    }

    /// Quantises a parameter where the device can, and on the host otherwise. A device that does not compute in the dtype of the
    /// file gets codes of the host.
    pub(super) fn quantize(&mut self, row: &PlanRow, fill: &QuantizedFill) -> Result<Plain4bit, LoadError> {
        let on_device = DeviceQuantizer::serves(self.device, fill.encoding.blocksize)
            && self.device.supports_dtype(fill.dtype.float());
        let weight = match (fill.dtype, on_device) {
            (WeightDtype::Float32, false) => self.quantize_on_host::<f32>(row, fill)?,
            (WeightDtype::Float16, false) => self.quantize_on_host::<f16>(row, fill)?,
            (WeightDtype::BFloat16, false) => self.quantize_on_host::<bf16>(row, fill)?,
            (WeightDtype::Float32, true) => self.quantize_on_device::<f32>(row, fill)?,
            (WeightDtype::Float16, true) => self.quantize_on_device::<f16>(row, fill)?,
            (WeightDtype::BFloat16, true) => self.quantize_on_device::<bf16>(row, fill)?,
        };
        self.residency.meter.note(row.bytes());
        self.report.copied_bytes += row.bytes();
        Ok(weight)
    }

    fn quantize_on_host<T>(&mut self, row: &PlanRow, fill: &QuantizedFill) -> Result<Plain4bit, LoadError>
    where
        T: Element + FromAnyFloat,
        for<'e> Elements<'e>: From<&'e [T]>,
    {
        let refused = |error: QuantError| refusal(row, error);
        let QuantizedFill { shape, dtype, encoding, .. } = *fill;
        let mut quantizer = Quantizer::new(encoding.quant_type, encoding.blocksize, shape, dtype).map_err(refused)?;
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
        Ok(Plain4bit::Host(quantizer.finish().map_err(refused)?))
    }

    /// Windows of the file go to the device as they are, and no more than a window of the full form is there at once. Whether all
    /// elements were finite shows when its scales are looked at.
    fn quantize_on_device<T>(&mut self, row: &PlanRow, fill: &QuantizedFill) -> Result<Plain4bit, LoadError>
    where
        T: Element + BurnElement + FromAnyFloat,
    {
        let refused = |error: QuantError| refusal(row, error);
        let QuantizedFill { shape, dtype, encoding, .. } = *fill;
        let (quant_type, blocksize) = (encoding.quant_type, encoding.blocksize);
        let quantizer = DeviceQuantizer::new(quant_type, blocksize, shape, dtype, self.device).map_err(refused)?;
        let mut feeder = Feeder::<T>::new(quantizer, blocksize.get());
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
        Ok(Plain4bit::Device(Box::new(weight)))
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

    /// A weight of the host for whatever device this is.
    pub(super) fn take_quantized(&mut self, row: &PlanRow, weight: Quantized4bit) -> Result<(), LoadError> {
        let weight = if self.in_place() {
            Loaded4bit::Host(weight)
        } else {
            self.upload.send(weight.byte_len() as u64)?;
            Loaded4bit::Device(Box::new(Linear4bit::new(&weight, None, self.device)))
        };
        self.loaded.insert_quantized(row.parameter(), weight);
        self.count_quantized(row);
        Ok(())
    }

    /// Gives a weight other scales than its own.
    pub(super) fn take_scaled(&mut self, row: &PlanRow, weight: Plain4bit, scales: Absmax) -> Result<(), LoadError> {
        match weight {
            Plain4bit::Host(weight) => {
                let weight = weight.with_absmax(scales).map_err(|error| refusal(row, error))?;
                self.take_quantized(row, weight)
            }
            Plain4bit::Device(weight) => self.take_layer(row, *weight, Some(&scales)),
        }
    }

    fn take_layer(&mut self, row: &PlanRow, weight: Device4bit, scales: Option<&Absmax>) -> Result<(), LoadError> {
        let layer = Linear4bit::on_device(weight, scales, None).map_err(|error| refusal(row, error))?;
        self.loaded.insert_quantized(row.parameter(), Loaded4bit::Device(Box::new(layer)));
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
