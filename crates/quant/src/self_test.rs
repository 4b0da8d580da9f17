//! Every 4-bit kernel of a device, run once and compared with the CPU.
//!
//! Kernels for GPUs are compiled on the machine that runs them, by its driver or by NVRTC: whether they compile there, and compute
//! what they should, is known when they have run.

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Serialize;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Crossover, Elements, QuantError, QuantLinear, WeightDtype,
    table16::{Blocksize, DeviceQuantizer, QuantType, Quantized4bit},
};

/// The weight: rows of several vectors of codes, blocks of the usual size.
const SHAPE: [usize; 2] = [48, 512];
/// More rows than the fused product takes.
const MANY_ROWS: usize = 16;

/// The operations of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kernel {
    /// Codes and scales of a dense weight.
    Quantize,
    /// The dense weight of codes and scales.
    Dequantize,
    /// The product with a few rows of activations, which reads the codes themselves.
    FewRows,
    /// The product with many rows of activations: the weight is decoded for Burn's product.
    ManyRows,
    /// The product with those weights of a stack that the device has chosen, as of experts.
    Chosen,
}

/// One kernel in one dtype, of weights or activations.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KernelCheck {
    /// Its operation.
    pub kernel: Kernel,
    /// The dtype of what is dense.
    pub dtype: WeightDtype,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The result of checking a kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It computes what the CPU does.
    Works {
        /// The greatest difference, as a share of the greatest value.
        difference: f32,
    },
    /// It was not run.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It does not compile, does not run, or computes something else.
    Fails {
        /// The error; where it does not compile, the compiler's message.
        problem: String,
    },
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Quantize, Self::Dequantize, Self::FewRows, Self::ManyRows, Self::Chosen];

    /// The greatest difference that rounding explains.
    fn tolerance(self, dtype: WeightDtype) -> f32 {
        match (self, dtype) {
            // Burn's product may take tensor cores, with TF32's 11 bits or on weights that were rounded to bfloat16.
            (Self::ManyRows, _) => 2e-2,
            (_, WeightDtype::Float32) => 1e-4,
            // Two units in the last place of the greatest value.
            (_, WeightDtype::Float16) => 2.0 / 1024.0,
            (_, WeightDtype::BFloat16) => 2.0 / 128.0,
        }
    }
}

/// `product, few rows`
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quantize => "quantise",
            Self::Dequantize => "dequantise",
            Self::FewRows => "product, few rows",
            Self::ManyRows => "product, many rows",
            Self::Chosen => "product, experts",
        })
    }
}

impl KernelCheck {
    /// A finding about a kernel.
    pub fn new(kernel: Kernel, dtype: WeightDtype, outcome: Outcome) -> Self {
        Self { kernel, dtype, outcome }
    }

    /// Whether the kernel was run and is of no use.
    pub fn fails(&self) -> bool {
        matches!(self.outcome, Outcome::Fails { .. })
    }
}

/// Runs every kernel in every dtype on the device, with NF4, FP4 and nested scales. Nothing for devices without kernels of their own:
/// the CPU, and GPUs in builds without their feature.
///
/// ```
/// use automodel_quant::self_test;
/// use burn::tensor::Device;
///
/// let failed = self_test::run(&Device::flex()).into_iter().filter(|check| check.fails()).count();
/// assert_eq!(failed, 0);
/// ```
pub fn run(device: &Device) -> Vec<KernelCheck> {
    if !DeviceQuantizer::supports(device, Blocksize::default()) {
        return Vec::new();
    }
    let dtypes = [WeightDtype::Float32, WeightDtype::Float16, WeightDtype::BFloat16];
    let pairs = Kernel::ALL.into_iter().flat_map(|kernel| dtypes.map(|dtype| (kernel, dtype)));
    pairs.map(|(kernel, dtype)| KernelCheck { kernel, dtype, outcome: check(kernel, dtype, device) }).collect()
}

/// The greatest difference, as a share of the greatest expected value; NaN if there is one, infinite for another number of values.
///
/// ```
/// use automodel_quant::self_test::greatest_difference;
/// assert_eq!(greatest_difference(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
/// ```
pub fn greatest_difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let greatest = expected.iter().fold(0.0f32, |greatest, value| greatest.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() / greatest });
    // `max` would pass over NaN.
    differences.fold(0.0, |worst, difference| if worst.is_nan() || difference <= worst { worst } else { difference })
}

fn check(kernel: Kernel, dtype: WeightDtype, device: &Device) -> Outcome {
    // A launch with a dtype that the device lacks would spoil it for the process.
    if !device.supports_dtype(DType::from(dtype.float())) {
        return Outcome::Skipped { reason: format!("the device has no {dtype}") };
    }
    let few = Crossover::current().matvec;
    if kernel == Kernel::FewRows && few == 0 {
        return Outcome::Skipped {
            reason: "no product of this process takes it: AUTOMODEL_MATVEC_ROWS is 0".to_owned(),
        };
    }
    let difference = catch_unwind(AssertUnwindSafe(|| match kernel {
        Kernel::Quantize => quantize(dtype, device),
        Kernel::Dequantize => dequantize(dtype, device),
        Kernel::FewRows => multiply(&[1, few], dtype, device),
        Kernel::ManyRows => multiply(&[MANY_ROWS], dtype, device),
        Kernel::Chosen => multiply_chosen(dtype, device),
    }));
    let tolerance = kernel.tolerance(dtype);
    match difference {
        // Written so that NaN fails.
        Ok(Ok(difference)) if difference <= tolerance => Outcome::Works { difference },
        Ok(Ok(difference)) => Outcome::Fails {
            problem: format!(
                "it differs from the CPU by {difference:.1e} of the greatest value, where {tolerance:.0e} can be rounding"
            ),
        },
        Ok(Err(problem)) => Outcome::Fails { problem },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Outcome::Fails { problem: text.unwrap_or_else(|| "it panicked".to_owned()) }
        }
    }
}

fn quantize(dtype: WeightDtype, device: &Device) -> Result<f32, String> {
    for (name, quant_type) in [("nf4", QuantType::Nf4), ("fp4", QuantType::Fp4)] {
        let (values, rounded) = dense(SHAPE[0] * SHAPE[1], dtype);
        let blocksize = Blocksize::default();
        let expected = Quantized4bit::quantize(quant_type, blocksize, SHAPE, Elements::F32(&rounded));
        let found = DeviceQuantizer::new(quant_type, blocksize, SHAPE, dtype, device).and_then(|mut quantizer| {
            quantizer.fill(Tensor::from_data(values, (device, DType::from(dtype.float()))))?;
            let weight = quantizer.finish()?;
            weight.check()?;
            weight.to_host()
        });
        let (found, expected) = (found.map_err(text)?, expected.map_err(text)?);
        let codes = found.packed().iter().zip(expected.packed()).filter(|(a, b)| a != b).count();
        let (here, there) = (found.scales(), expected.scales());
        let scales = here.iter().zip(&there).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if codes > 0 || scales > 0 {
            return Err(format!(
                "{name}: {codes} of {} bytes of codes and {scales} of {} scales are not the CPU's",
                expected.packed().len(),
                there.len()
            ));
        }
    }
    Ok(0.0)
}

fn dequantize(dtype: WeightDtype, device: &Device) -> Result<f32, String> {
    over_weights(|weight| {
        let found = QuantLinear::new(weight, None, device).dequantize(dtype.float());
        let expected = TensorData::new(weight.dequantize::<f32>(), SHAPE).convert_dtype(dtype.float().into());
        Ok(greatest_difference(&floats(found)?, &host_floats(expected)?))
    })
}

fn multiply(rows: &[usize], dtype: WeightDtype, device: &Device) -> Result<f32, String> {
    over_weights(|weight| {
        let product = |rows: usize, device: &Device| {
            let (values, _) = dense(rows * SHAPE[1], dtype);
            let x = Tensor::<1>::from_data(values, (device, DType::from(dtype.float()))).reshape([rows, SHAPE[1]]);
            floats(QuantLinear::new(weight, None, device).forward(x))
        };
        rows.iter().try_fold(0.0, |worst, &rows| {
            let difference = greatest_difference(&product(rows, device)?, &product(rows, &Device::flex())?);
            Ok(worse(worst, difference))
        })
    })
}

/// Two rows, for each of which two of three weights are chosen, of which the last is another.
#[cfg(feature = "cube")]
fn multiply_chosen(dtype: WeightDtype, device: &Device) -> Result<f32, String> {
    const CHOSEN: [[i32; 2]; 2] = [[2, 0], [1, 2]];
    let mut values = dense(SHAPE[0] * SHAPE[1], WeightDtype::Float32).1;
    values.reverse();
    let other = Quantized4bit::quantize(QuantType::Nf4, Blocksize::default(), SHAPE, Elements::F32(&values));
    let other = other.map_err(text)?;
    over_weights(|weight| {
        let is_like = |other: Quantized4bit| match weight.absmax() {
            crate::table16::Absmax::Nested(_) => other.nested(),
            crate::table16::Absmax::Plain(_) => other,
        };
        let weights = match weight.layout().quant_type {
            QuantType::Nf4 => [weight.clone(), weight.clone(), is_like(other.clone())],
            QuantType::Fp4 => [weight.clone(), weight.clone(), weight.clone()],
        };
        let mut layers = weights.each_ref().map(|weight| QuantLinear::new(weight, None, device));
        let stack = crate::WeightStack::of_quantized(layers.iter_mut().collect(), 1);
        let stack = stack.ok_or("weights that are alike were not put side by side")?;
        let (rows, _) = dense(2 * SHAPE[1], dtype);
        let x = |device: &Device| {
            Tensor::<1>::from_data(rows.clone(), (device, DType::from(dtype.float()))).reshape([2, SHAPE[1]])
        };
        let chosen = Tensor::<2, burn::tensor::Int>::from_data(TensorData::from(CHOSEN), (device, DType::I32));
        let found = floats(stack.products(x(device), &chosen))?;
        let cpu = Device::flex();
        let mut expected = Vec::new();
        for (row, choices) in CHOSEN.iter().enumerate() {
            for &choice in choices {
                let layer = QuantLinear::new(&weights[choice as usize], None, &cpu);
                expected.extend(floats(layer.forward(x(&cpu).narrow(0, row, 1)))?);
            }
        }
        Ok(greatest_difference(&found, &expected))
    })
}

#[cfg(not(feature = "cube"))]
fn multiply_chosen(_dtype: WeightDtype, _device: &Device) -> Result<f32, String> {
    Err("this build has no kernels for devices".to_owned())
}

/// The worst of a measure over weights of each kind that kernels are compiled for.
fn over_weights(measure: impl Fn(&Quantized4bit) -> Result<f32, String>) -> Result<f32, String> {
    let (_, values) = dense(SHAPE[0] * SHAPE[1], WeightDtype::Float32);
    let quantized =
        |quant_type| Quantized4bit::quantize(quant_type, Blocksize::default(), SHAPE, Elements::F32(&values));
    let nf4 = quantized(QuantType::Nf4).map_err(text)?;
    let weights = [
        ("nf4 with nested scales", nf4.clone().nested()),
        ("nf4", nf4),
        ("fp4", quantized(QuantType::Fp4).map_err(text)?),
    ];
    weights.iter().try_fold(0.0, |worst, (name, weight)| {
        measure(weight).map(|difference| worse(worst, difference)).map_err(|problem| format!("{name}: {problem}"))
    })
}

/// The greater of two differences, and NaN if one is.
fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b <= a { a } else { b }
}

/// So many values of several sizes, and the same after rounding to `dtype`.
fn dense(elements: usize, dtype: WeightDtype) -> (TensorData, Vec<f32>) {
    let value = |i: usize| (i as f32 * 1.7).sin() * (1 + i / 97 % 5) as f32;
    let data = TensorData::new((0..elements).map(value).collect(), [elements]).convert_dtype(dtype.float().into());
    let rounded = data.iter::<f32>().collect();
    (data, rounded)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, String> {
    // A kernel that does not compile shows here.
    host_floats(tensor.try_into_data().map_err(|error| error.to_string())?)
}

fn host_floats(data: TensorData) -> Result<Vec<f32>, String> {
    data.convert::<f32>().try_into_vec().map_err(|error| format!("{error:?}"))
}

fn text(error: QuantError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_see_what_is_not_a_number() {
        assert_eq!(greatest_difference(&[1.0], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(greatest_difference(&[0.0], &[0.0]), 0.0);
        for found in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
            assert!(greatest_difference(&found, &[1.0, 1.0]).is_nan(), "{found:?}");
        }
        assert!(worse(f32::NAN, 1.0).is_nan() && worse(1.0, f32::NAN).is_nan());
        assert_eq!((worse(1.0, 2.0), worse(2.0, 1.0)), (2.0, 2.0));
    }

    #[test]
    fn a_check_is_flat_in_json() {
        let check = KernelCheck::new(
            Kernel::FewRows,
            WeightDtype::BFloat16,
            Outcome::Skipped { reason: "no bfloat16".to_owned() },
        );
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(json, r#"{"kernel":"few_rows","dtype":"bfloat16","outcome":"skipped","reason":"no bfloat16"}"#);
    }
}
