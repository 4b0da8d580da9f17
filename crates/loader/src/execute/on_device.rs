//! Parameters in 4 bits that go to another device than the CPU.

use super::{
    Run,
    convert::{Float, FromFloat},
    gather::gather,
    inconsistent,
    quantize::{refusal, weight_dtype},
    with_float,
};
use crate::{
    DeviceBytes, Encoding, LoadError, PlanRow, PlanSource, dtype::float_size, plan::quantized_window_elements,
};
use automodel_quant::{Device4bit, Element, Linear4bit, Quantized4bit, WeightDtype, table16::DeviceQuantizer};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Element as BurnElement, Tensor, TensorData};
use half::{bf16, f16};

impl Run<'_> {
    /// A parameter that the device quantises, with scales in float32: windows of the file go there as they are, and no more than a
    /// window of its full form is there at once. Whether all elements were finite shows when its scales are looked at.
    pub(super) fn quantized_there(&mut self, row: &PlanRow, encoding: Encoding) -> Result<Device4bit, LoadError> {
        let shape = <[usize; 2]>::try_from(row.shape.as_slice()).map_err(|_| inconsistent(row))?;
        let dtype = weight_dtype(row.target).ok_or_else(|| inconsistent(row))?;
        let quantizer = DeviceQuantizer::new(encoding.quant_type, encoding.blocksize, shape, dtype, self.device)
            .map_err(|error| refusal(row, error))?;
        let quantizer = match dtype {
            WeightDtype::Float32 => self.feed::<f32>(row, encoding, quantizer)?,
            WeightDtype::Float16 => self.feed::<f16>(row, encoding, quantizer)?,
            WeightDtype::BFloat16 => self.feed::<bf16>(row, encoding, quantizer)?,
        };
        let weight = quantizer.finish().map_err(|error| refusal(row, error))?;
        self.meter.note(row.bytes);
        self.report.copied_bytes += row.bytes;
        Ok(weight)
    }

    /// Whether the device quantises such weights. One that does not compute in the dtype of the file gets codes of the host.
    pub(super) fn device_quantizes(&self, row: &PlanRow, encoding: Encoding) -> bool {
        DeviceQuantizer::serves(self.device, encoding.blocksize) && self.device.supports_dtype(row.target)
    }

    /// A weight that was quantised before, moved to the device.
    pub(super) fn moved(&mut self, weight: &Quantized4bit) -> Result<Linear4bit, LoadError> {
        self.send(weight.byte_len() as u64)?;
        Ok(Linear4bit::new(weight, None, self.device))
    }

    /// Waits for the device, and looks whether everything that it quantised was finite.
    pub(super) fn finish_device(&mut self) -> Result<(), LoadError> {
        if *self.device == Device::flex() {
            return Ok(());
        }
        for (parameter, weight) in std::mem::take(&mut self.unchecked) {
            weight.check().map_err(|error| LoadError::Quantization { parameter, source: error.into() })?;
        }
        self.wait_for_device()?;
        self.device.memory_cleanup();
        self.report.device = self
            .device
            .memory_pool_usage()
            .map(|usage| DeviceBytes { in_use: usage.bytes_in_use, reserved: usage.bytes_reserved });
        Ok(())
    }

    /// Hands all sources to the device, window by window.
    fn feed<T>(
        &mut self,
        row: &PlanRow,
        encoding: Encoding,
        quantizer: DeviceQuantizer,
    ) -> Result<DeviceQuantizer, LoadError>
    where
        T: Element + BurnElement + FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>,
    {
        let mut feeder = Feeder { quantizer, blocksize: encoding.blocksize.get(), rest: Vec::<T>::new() };
        for source in &row.sources {
            self.feed_source(row, source, &mut feeder)?;
        }
        feeder.finish().map_err(|error| refusal(row, error))
    }

    fn feed_source<T>(&mut self, row: &PlanRow, source: &PlanSource, feeder: &mut Feeder<T>) -> Result<(), LoadError>
    where
        T: Element + BurnElement + FromFloat<f64> + FromFloat<f32> + FromFloat<f16> + FromFloat<bf16>,
    {
        let (shard, tensor, stored) = self.open(row, source)?;
        let size = float_size(stored);
        let limit = quantized_window_elements(self.plan.max_bytes_in_flight, source.stored);
        let before = feeder.taken();
        source.walk.for_each_window(limit, &mut |first, window| {
            window.for_each_part(limit, &mut |skipped, part| {
                // Windows and their parts come in the order of the parameter.
                if feeder.taken() != before + first + skipped {
                    return Err(inconsistent(row));
                }
                self.send((part.numel() * size_of::<T>()) as u64)?;
                let in_place = part.contiguous().filter(|_| weight_dtype(stored) == Some(T::DTYPE));
                let fed = match in_place {
                    Some(elements) if feeder.rest.is_empty() => {
                        feeder.feed_bytes(tensor.slice(elements.start * size..elements.end * size))
                    }
                    _ => feeder.feed(part.numel(), |target| {
                        with_float!(stored, S => gather::<S, T>(&tensor, part, target, 0));
                    }),
                };
                fed.map_err(|error| refusal(row, error))
            })?;
            self.meter.sample();
            let span = window.span();
            let byte = |element: usize| source.range.start + (element * size) as u64;
            let (start, end) = (byte(span.start), byte(span.end));
            shard.will_need(end..end.saturating_add(end - start));
            Ok(())
        })?;
        // The device works on while the next source is read. It may still read this one, whose pages are given back later.
        self.handed.push((shard, source.range.clone()));
        Ok(())
    }
}

/// Cuts what comes into whole blocks.
struct Feeder<T> {
    quantizer: DeviceQuantizer,
    blocksize: usize,
    /// The beginning of a block whose end has not come yet.
    rest: Vec<T>,
}

type Fed = Result<(), automodel_quant::QuantError>;

impl<T: Element + BurnElement + Float> Feeder<T> {
    /// Elements that came so far.
    fn taken(&self) -> usize {
        self.quantizer.filled() + self.rest.len()
    }

    /// Elements as they are in the file, not copied here. No block is begun.
    fn feed_bytes(&mut self, bytes: bytes::Bytes) -> Fed {
        let size = size_of::<T>();
        let whole = bytes.len() / size / self.blocksize * self.blocksize;
        let rest = bytes.slice(whole * size..);
        self.rest.extend(rest.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T>));
        self.launch(Bytes::from_shared(bytes.slice(..whole * size), AllocationProperty::Other), whole)
    }

    /// So many elements, which `fill` writes.
    fn feed(&mut self, elements: usize, fill: impl FnOnce(&mut [T])) -> Fed {
        let mut values = std::mem::take(&mut self.rest);
        let begun = values.len();
        values.resize(begun + elements, <T as Float>::ZERO);
        fill(&mut values[begun..]);
        let whole = values.len() / self.blocksize * self.blocksize;
        self.rest = values.split_off(whole);
        self.launch(Bytes::from_elems(values), whole)
    }

    fn finish(mut self) -> Result<DeviceQuantizer, automodel_quant::QuantError> {
        let rest = std::mem::take(&mut self.rest);
        let elements = rest.len();
        self.launch(Bytes::from_elems(rest), elements)?;
        Ok(self.quantizer)
    }

    fn launch(&mut self, bytes: Bytes, elements: usize) -> Fed {
        if elements == 0 {
            return Ok(());
        }
        let dtype: DType = T::dtype();
        let data = TensorData::from_bytes(bytes, [elements], dtype);
        let window = Tensor::<1>::from_data(data, (self.quantizer.device(), dtype));
        self.quantizer.fill(window)
    }
}
