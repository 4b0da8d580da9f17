//! Elements into codes on a device that quantises.

use super::{FromAnyFloat, Pages, Residency, Sink, Window, floats::Float};
use crate::{
    LoadError,
    dtype::{float_size, weight_dtype},
    plan::device_label,
};
use automodel_quant::{DeviceQuantizer, Element, QuantError};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Element as BurnElement, FloatDType, Tensor, TensorData};

/// Uploads to a device.
pub(crate) struct Upload<'a> {
    device: &'a Device,
    max_bytes_in_flight: u64,
    /// Bytes that the device may not have taken yet.
    in_flight: u64,
    /// Pages that the device may still read, which are given back when it has taken all.
    pending_release: Vec<Pages>,
}

impl<'a> Upload<'a> {
    pub fn new(device: &'a Device, max_bytes_in_flight: u64) -> Self {
        Self { device, max_bytes_in_flight, in_flight: 0, pending_release: Vec::new() }
    }

    /// Makes room for bytes that are uploaded next: no more than the plan allows are on their way at once.
    pub fn send(&mut self, bytes: u64) -> Result<(), LoadError> {
        if self.in_flight.saturating_add(bytes) > self.max_bytes_in_flight {
            self.wait()?;
        }
        self.in_flight = self.in_flight.saturating_add(bytes);
        Ok(())
    }

    /// Waits until the device has taken everything, so that the host's copies are gone.
    pub fn wait(&mut self) -> Result<(), LoadError> {
        self.in_flight = 0;
        self.device
            .sync()
            .map_err(|source| LoadError::Device { device: device_label(self.device), source: source.into() })?;
        self.pending_release.drain(..).for_each(Pages::release);
        Ok(())
    }
}

/// Uploads elements as they are in the file where that is possible: no more than a window of the full form is on the device.
pub(crate) struct DeviceSink<'q, 'd, T> {
    /// Dtype in the file.
    pub dtype: FloatDType,
    /// The most elements that are converted at a time.
    pub limit: usize,
    pub feeder: &'q mut Feeder<T>,
    pub upload: &'q mut Upload<'d>,
    pub residency: &'q mut Residency,
    /// The error for one of the quantiser's.
    pub refused: &'q dyn Fn(QuantError) -> LoadError,
}

impl<T: Element + BurnElement + FromAnyFloat> Sink for DeviceSink<'_, '_, T> {
    fn take(&mut self, window: &Window) -> Result<(), LoadError> {
        let Self { dtype, limit, feeder, upload, residency, refused } = self;
        let same = weight_dtype(*dtype) == T::DTYPE && float_size(*dtype) == size_of::<T>();
        window.walk.for_each_part(*limit, &mut |_, part| {
            upload.send((part.numel() * size_of::<T>()) as u64)?;
            let in_file = window.contiguous::<T>(part).filter(|_| same && feeder.is_at_unit());
            let fed = match in_file {
                Some(bytes) => feeder.feed_bytes(bytes),
                None => feeder.feed(part.numel(), |target| {
                    window.gather(*dtype, part, target, 0);
                }),
            };
            fed.map_err(*refused)
        })?;
        residency.meter.sample();
        window.pages.read_ahead();
        // The device works on while the next window is read. It may still read this one.
        upload.pending_release.push(window.pages.clone());
        Ok(())
    }
}

/// Cuts elements, which come in the order of the parameter, into whole units.
pub(crate) struct Feeder<T> {
    quantizer: DeviceQuantizer,
    /// The beginning of a unit whose end has not come yet.
    rest: Vec<T>,
}

type Fed = Result<(), QuantError>;

impl<T: Element + BurnElement + Float> Feeder<T> {
    pub fn new(quantizer: DeviceQuantizer) -> Self {
        Self { quantizer, rest: Vec::new() }
    }

    /// Whether the next element begins a unit.
    fn is_at_unit(&self) -> bool {
        self.rest.is_empty()
    }

    /// The elements of the whole units in a number of elements.
    fn whole(&self, elements: usize) -> usize {
        elements / self.quantizer.unit() * self.quantizer.unit()
    }

    /// Elements as they are in the file, not copied here. No unit is begun.
    fn feed_bytes(&mut self, bytes: bytes::Bytes) -> Fed {
        let size = size_of::<T>();
        let whole = self.whole(bytes.len() / size);
        let rest = bytes.slice(whole * size..);
        self.rest.extend(rest.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T>));
        self.launch(Bytes::from_shared(bytes.slice(..whole * size), AllocationProperty::Other), whole)
    }

    /// Elements that `fill` writes.
    fn feed(&mut self, elements: usize, fill: impl FnOnce(&mut [T])) -> Fed {
        let mut values = std::mem::take(&mut self.rest);
        let begun = values.len();
        values.resize(begun + elements, <T as Float>::ZERO);
        fill(&mut values[begun..]);
        let whole = self.whole(values.len());
        self.rest = values.split_off(whole);
        self.launch(Bytes::from_elems(values), whole)
    }

    pub fn finish(mut self) -> Result<DeviceQuantizer, QuantError> {
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
