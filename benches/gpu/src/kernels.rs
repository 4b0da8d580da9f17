//! The operations that are timed.

use crate::{
    Arguments,
    shapes::{Layer, Model},
    time::{Seconds, per_launch},
};
use automodel::Device;
use automodel::quant::{DeviceQuantizer, Precision, QuantError, QuantLinear, Scheme, WeightDtype, dense_product};
use burn::tensor::{DType, Distribution, FloatDType, Tensor};
use serde::Serialize;
use std::error::Error;

/// One operation at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    model: Model,
    layer: Layer,
    what: String,
    seconds: Seconds,
    /// Bytes that have to be read and written at least.
    bytes: usize,
}

impl Measured {
    pub fn new(model: Model, layer: Layer, what: String, seconds: Seconds, bytes: usize) -> Self {
        Self { model, layer, what, seconds, bytes }
    }

    /// As a row of the table.
    pub fn row(&self, copy: f64) -> String {
        let seconds = self.seconds.of_device();
        let speed = self.bytes as f64 / seconds;
        let Layer { name, out_features, in_features } = self.layer;
        format!(
            "| {:?} | {name} | {out_features} x {in_features} | {} | {:.1} | {:.0} | {:.0} % | {:.1} |",
            self.model,
            self.what,
            seconds * 1e6,
            speed / 1e9,
            100.0 * speed / copy,
            self.seconds.launched * 1e6,
        )
    }
}

/// Bytes per second, read and written together, of an operation that does nothing else.
pub fn copy_bandwidth(device: &Device, bytes: usize) -> Result<f64, Box<dyn Error>> {
    let elements = bytes / 4;
    let source = Tensor::<1>::random([elements], Distribution::Uniform(-1.0, 1.0), device);
    // What is too large for a device may do nothing, and that at once.
    let last = |tensor: Tensor<1>| -> Result<f32, Box<dyn Error>> {
        let data = tensor.narrow(0, elements - 1, 1).try_into_data().map_err(|error| error.to_string())?;
        data.iter::<f32>().next().ok_or_else(|| "an empty tensor".into())
    };
    let copied = last(source.clone() + 1.0).and_then(|copied| Ok(copied == last(source.clone())? + 1.0));
    if !matches!(copied, Ok(true)) {
        let reason = copied.err().map(|error| format!("\n{error}")).unwrap_or_default();
        return Err(
            format!("the device does not copy {bytes} bytes at once: try a smaller --working-set{reason}").into()
        );
    }
    let seconds = per_launch(device, 1, &mut |_| source.clone() + 1.0)?;
    Ok((2 * elements * 4) as f64 / seconds.of_device())
}

/// Quantisation, dequantisation and products of a layer. As many weights as fill the working set are used in turn.
pub fn measure(
    device: &Device,
    model: Model,
    layer: Layer,
    arguments: &Arguments,
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let working_set = arguments.working_set;
    let precision = if arguments.fast { Precision::Fast } else { Precision::Exact };
    let (out, inner) = (layer.out_features, layer.in_features);
    let dtype = if device.supports_dtype(DType::BF16) { FloatDType::BF16 } else { FloatDType::F16 };
    let elements = out * inner;
    let packed = Scheme::nf4().bytes([out, inner]).map_or(elements, |bytes| bytes as usize);
    let count = (working_set / packed).clamp(1, 256);
    let dense = Tensor::<2>::random([out, inner], Distribution::Normal(0.0, 0.02), device).cast(dtype);
    let quantize = || {
        let layer = QuantLinear::quantize(dense.clone(), Scheme::nf4(), None)?;
        Ok::<_, QuantError>(layer.with_precision(precision))
    };
    let layers = (0..count).map(|_| quantize()).collect::<Result<Vec<_>, _>>()?;
    let measured = |what: String, seconds: Seconds, bytes: usize| Measured::new(model, layer, what, seconds, bytes);

    let mut all = Vec::new();
    if DeviceQuantizer::supports(device, Scheme::nf4()) {
        let window = dense.clone().reshape([elements]);
        let quantizer = half_full(&window, [2 * out, inner], device)?;
        let seconds = per_launch(device, 1, &mut |_| {
            let mut quantizer = quantizer.clone();
            quantizer.fill(window.clone()).and_then(|()| quantizer.finish())
        })?;
        all.push(measured("quantise".into(), seconds, 2 * elements + packed));
    }
    // Results are kept until all are there, so there are fewer of the large ones.
    let few = (8 * working_set / (2 * elements)).clamp(1, count);
    let seconds = per_launch(device, few, &mut |i| layers[i].dequantize(dtype))?;
    all.push(measured("dequantise".into(), seconds, packed + 2 * elements));
    let weights: Vec<_> = (0..few).map(|i| layers[i].dequantize(dtype)).collect();
    for &rows in &arguments.rows {
        let x = Tensor::<2>::random([rows, inner], Distribution::Normal(0.0, 1.0), device).cast(dtype);
        let seconds = per_launch(device, count, &mut |i| layers[i].forward(x.clone()))?;
        all.push(measured(format!("product, {rows} rows"), seconds, packed + 2 * rows * (inner + out)));
        if arguments.fast {
            continue;
        }
        let seconds = per_launch(device, few, &mut |i| dense_product(x.clone(), weights[i].clone()))?;
        let bytes = 2 * elements + 2 * rows * (inner + out);
        all.push(measured(format!("dense product, {rows} rows"), seconds, bytes));
        // What it is weighed against.
        let seconds = per_launch(device, few, &mut |i| x.clone().matmul(weights[i].clone().transpose()))?;
        all.push(measured(format!("Burn's dense product, {rows} rows"), seconds, bytes));
    }
    Ok(all)
}

/// A quantiser that has its first half, and so its memory, and takes `window` next.
fn half_full(window: &Tensor<1>, shape: [usize; 2], device: &Device) -> Result<DeviceQuantizer, QuantError> {
    let dtype = WeightDtype::of(window.dtype()).unwrap_or(WeightDtype::Float32);
    let mut quantizer = DeviceQuantizer::new(Scheme::nf4(), shape, dtype, device)?;
    quantizer.fill(window.clone())?;
    Ok(quantizer)
}
