//! The operations that are timed.

use crate::{
    shapes::{Layer, Model},
    time::per_launch,
};
use automodel::Device;
use automodel::quant::{Blocksize, Device4bit, DeviceQuantizer, Linear4bit, QuantError, QuantType, WeightDtype};
use burn::tensor::{DType, Distribution, FloatDType, Tensor};
use serde::Serialize;
use std::error::Error;

/// One operation at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    model: Model,
    layer: Layer,
    what: String,
    seconds: f64,
    /// Bytes that have to be read and written at least.
    bytes: usize,
}

impl Measured {
    /// As a row of the table.
    pub fn row(&self, copy: f64) -> String {
        let speed = self.bytes as f64 / self.seconds;
        let Layer { name, out_features, in_features } = self.layer;
        format!(
            "| {:?} | {name} | {out_features} x {in_features} | {} | {:.1} | {:.0} | {:.0} % |",
            self.model,
            self.what,
            self.seconds * 1e6,
            speed / 1e9,
            100.0 * speed / copy
        )
    }
}

/// Bytes per second, read and written together, of an operation that does nothing else.
pub fn copy_bandwidth(device: &Device, bytes: usize) -> Result<f64, Box<dyn Error>> {
    let elements = bytes / 4;
    let source = Tensor::<1>::random([elements], Distribution::Uniform(-1.0, 1.0), device);
    let mut copy = None;
    let seconds = per_launch(device, 1, &mut |_| copy = Some(source.clone() + 1.0))?;
    drop(copy);
    Ok((2 * elements * 4) as f64 / seconds)
}

/// Quantisation, dequantisation and products of a layer. As many weights as fill `working_set` are used in turn.
pub fn measure(
    device: &Device,
    model: Model,
    layer: Layer,
    rows: &[usize],
    working_set: usize,
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let (out, inner) = (layer.out_features, layer.in_features);
    let dtype = if device.supports_dtype(DType::BF16) { FloatDType::BF16 } else { FloatDType::F16 };
    let (elements, blocksize) = (out * inner, Blocksize::default());
    let packed = elements / 2 + elements / blocksize.get() * 4;
    let count = (working_set / packed).clamp(1, 256);
    let dense = Tensor::<2>::random([out, inner], Distribution::Normal(0.0, 0.02), device).cast(dtype);
    let quantize = || Linear4bit::quantize(dense.clone(), QuantType::Nf4, blocksize, None);
    let layers = (0..count).map(|_| quantize()).collect::<Result<Vec<_>, _>>()?;
    let measured = |what: String, seconds: f64, bytes: usize| Measured { model, layer, what, seconds, bytes };

    let (mut all, mut kept) = (Vec::new(), None);
    if DeviceQuantizer::serves(device, blocksize) {
        let flat = dense.clone().reshape([elements]);
        let (mut outcome, mut last) = (Ok(()), None);
        let seconds = per_launch(device, 1, &mut |_| {
            outcome = quantize_window(&flat, [out, inner], device).map(|weight| last = Some(weight));
        })?;
        drop(last);
        outcome?;
        all.push(measured("quantise".into(), seconds, 2 * elements + packed));
    }
    let seconds = per_launch(device, count, &mut |i| kept = Some(layers[i].dequantize(dtype)))?;
    all.push(measured("dequantise".into(), seconds, packed + 2 * elements));
    for &rows in rows {
        let x = Tensor::<2>::random([rows, inner], Distribution::Normal(0.0, 1.0), device).cast(dtype);
        let seconds = per_launch(device, count, &mut |i| kept = Some(layers[i].forward(x.clone())))?;
        all.push(measured(format!("product, {rows} rows"), seconds, packed + 2 * rows * (inner + out)));
    }
    drop(kept);
    Ok(all)
}

/// Quantises without the look at the scales that a caller would wait for.
fn quantize_window(values: &Tensor<1>, shape: [usize; 2], device: &Device) -> Result<Device4bit, QuantError> {
    let dtype = WeightDtype::of(values.dtype()).unwrap_or(WeightDtype::Float32);
    let mut quantizer = DeviceQuantizer::new(QuantType::Nf4, Blocksize::default(), shape, dtype, device)?;
    quantizer.fill(values.clone())?;
    quantizer.finish()
}
