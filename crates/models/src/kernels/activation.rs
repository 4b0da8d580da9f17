//! Activations, alone and times a second projection.

use super::rows::{Elements, map_rows};
use automodel_attention::dispatched;
use automodel_attention::kernels::exp;
use automodel_registry::spec::Activation;
use burn::tensor::Tensor;

/// `activation(x)`
pub(crate) fn activated<const D: usize>(kind: Activation, x: Tensor<D>) -> Result<Tensor<D>, Tensor<D>> {
    if kind.has_parameters() {
        return Err(x);
    }
    map_rows(x, 1, |_, x| activate(kind, x))
}

/// `activation(gate) * up`, of one shape.
pub(crate) fn gated<const D: usize>(kind: Activation, gate: Tensor<D>, up: &Tensor<D>) -> Result<Tensor<D>, Tensor<D>> {
    let same_shape = gate.dims() == up.dims();
    let up = Elements::of(up).filter(|_| same_shape && !kind.has_parameters());
    let Some(up) = up.as_ref().and_then(Elements::as_slice) else {
        return Err(gate);
    };
    map_rows(gate, 1, |first, gate| activate_times(kind, gate, &up[first..][..gate.len()]))
}

dispatched! {
    /// Replaces each element by its activation.
    activate => portable_activate(kind: Activation, x: &mut [f32])
}

dispatched! {
    /// Replaces each element of `gate` by its activation times the element of `up`; both have one length.
    activate_times => portable_activate_times(kind: Activation, gate: &mut [f32], up: &[f32])
}

/// One loop for each activation, so that each is vectorised.
macro_rules! by_kind {
    ($kind:expr, $each:ident($($argument:expr),*)) => {
        match $kind {
            Activation::Silu => $each($($argument,)* silu),
            Activation::Gelu => $each($($argument,)* gelu),
            Activation::GeluTanh => $each($($argument,)* gelu_tanh),
            Activation::QuickGelu => $each($($argument,)* quick_gelu),
            Activation::Relu => $each($($argument,)* relu),
            Activation::Relu2 => $each($($argument,)* |x| relu(x) * relu(x)),
            // It has parameters: not computed here.
            Activation::Xielu => {}
        }
    };
}

#[inline(always)]
fn portable_activate(kind: Activation, x: &mut [f32]) {
    by_kind!(kind, each(x))
}

#[inline(always)]
fn portable_activate_times(kind: Activation, gate: &mut [f32], up: &[f32]) {
    by_kind!(kind, each_times(gate, up))
}

#[inline(always)]
fn each(x: &mut [f32], activation: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = activation(*x));
}

#[inline(always)]
fn each_times(gate: &mut [f32], up: &[f32], activation: impl Fn(f32) -> f32) {
    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = activation(*gate) * up);
}

/// `x * sigmoid(y)`, for either sign of `y` through the exponential that cannot overflow.
#[inline(always)]
fn times_sigmoid(x: f32, y: f32) -> f32 {
    let e = exp(-y.abs());
    x * if y < 0.0 { e } else { 1.0 } / (1.0 + e)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    times_sigmoid(x, x)
}

#[inline(always)]
fn quick_gelu(x: f32) -> f32 {
    times_sigmoid(x, 1.702 * x)
}

/// `0.5 x (1 + tanh(u))` is `x * sigmoid(2 u)`, which does not cancel for negative `x`.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    /// `2 sqrt(2 / pi)`
    const FACTOR: f32 = 1.595_769;
    times_sigmoid(x, FACTOR * (x + 0.044_715 * (x * x * x)))
}

/// `x * Phi(x)`. The tail `Phi(-|x|)` is `exp(-x^2 / 2) * S(|x|)` with `S(z) = erfcx(z / sqrt(2)) / 2`; `S` is a polynomial
/// in `1 / (1 + 0.3 z)`, fitted to the least relative error over 0 to 13.3, beyond which the exponential is 0 (6e-8;
/// 2e-7 as rounded here). Nothing cancels for negative `x`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3 * x.abs());
    let mut s = 0.038_311_68;
    for coefficient in [
        -0.168_841_88,
        0.227_989_29,
        -0.075_737_97,
        0.142_003_69,
        0.094_910_56,
        0.121_862_106,
        0.119_495_876,
        6.686_75e-6,
    ] {
        s = s * t + coefficient;
    }
    let tail = exp(-0.5 * (x * x)) * s;
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// NaN stays NaN.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Activation; 6] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Relu2,
    ];

    fn grid() -> Vec<f32> {
        (-60_000..=60_000).map(|i| i as f32 * 2e-4).collect()
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// `Phi(x)`: the integral of the density by Simpson's rule from the tail.
    fn normal_distribution(xs: impl Iterator<Item = f64>) -> Vec<f64> {
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut from, mut sum) = (-40.0_f64, 0.0);
        xs.map(|x| {
            let steps = ((x - from) / 1e-3).ceil().max(1.0) as usize;
            let step = (x - from) / steps as f64;
            for i in 0..steps {
                let left = from + i as f64 * step;
                sum += step / 6.0 * (density(left) + 4.0 * density(left + step / 2.0) + density(left + step));
            }
            from = x;
            sum
        })
        .collect()
    }

    #[test]
    fn activations_are_accurate_to_a_few_units_in_the_last_place() {
        let xs = grid();
        let phi = normal_distribution(xs.iter().map(|&x| f64::from(x)));
        let root = (2.0 / std::f64::consts::PI).sqrt();
        for kind in KINDS {
            let mut found = xs.clone();
            activate(kind, &mut found);
            for ((&x, &found), &phi) in xs.iter().zip(&found).zip(&phi) {
                let wide = f64::from(x);
                let expected = wide
                    * match kind {
                        Activation::Silu => sigmoid(wide),
                        Activation::QuickGelu => sigmoid(1.702 * wide),
                        Activation::GeluTanh => sigmoid(2.0 * root * (wide + 0.044_715 * wide.powi(3))),
                        Activation::Gelu => phi,
                        Activation::Relu => f64::from(u8::from(x > 0.0)),
                        Activation::Relu2 => wide.max(0.0),
                        Activation::Xielu => f64::NAN,
                    };
                // The exponent of a far tail carries the rounding of its own magnitude.
                let tail = match kind {
                    Activation::Gelu | Activation::GeluTanh if x < 0.0 => 1.0 + wide.powi(2),
                    Activation::QuickGelu if x < 0.0 => 1.0 + wide.abs(),
                    _ => 1.0,
                };
                let error = (f64::from(found) - expected).abs();
                assert!(error <= 5e-7 * tail * expected.abs() + 1e-36, "{kind:?}({x}) is {found}, not {expected}");
            }
        }
    }

    #[test]
    fn extremes() {
        let extremes = [f32::NAN, f32::INFINITY, 1e30, -1e30, 0.0];
        for kind in KINDS {
            let mut found = extremes;
            activate(kind, &mut found);
            assert!(found[0].is_nan(), "{kind:?}");
            assert_eq!(found[1], f32::INFINITY, "{kind:?}");
            assert_eq!(found[2], if kind == Activation::Relu2 { f32::INFINITY } else { 1e30 }, "{kind:?}");
            assert_eq!(found[3..], [0.0, 0.0], "{kind:?}");
        }
    }

    #[test]
    fn the_portable_twin_gives_the_same_bits() {
        let (xs, ups): (Vec<f32>, Vec<f32>) = (-500..500).map(|i| (i as f32 * 0.02, i as f32 * 0.3)).unzip();
        for kind in KINDS {
            let (mut wide, mut portable) = (xs.clone(), xs.clone());
            activate(kind, &mut wide);
            portable_activate(kind, &mut portable);
            assert_eq!(wide, portable, "{kind:?}");
            activate_times(kind, &mut wide, &ups);
            portable_activate_times(kind, &mut portable, &ups);
            assert_eq!(wide, portable, "{kind:?}");
        }
    }
}
