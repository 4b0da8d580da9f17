//! Elementary functions without branches, for loops that the compiler vectorises.

/// `exp(x)` for `x <= 0` to within 2 units in the last place; 0 below -87, where float32's normal numbers end. NaN stays
/// NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial for `exp(r)` (the coefficients of Cephes' `expf`).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LOWEST: f32 = -87.0;

    let bounded = if x < LOWEST { LOWEST } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = bounded - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power_of_two = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(1.0_f32.to_bits()));
    let exp = (p * r * r + r + 1.0) * power_of_two;
    if x < LOWEST { 0.0 } else { exp }
}

/// `tanh(x)` to within 3 units in the last place. NaN stays NaN.
///
/// Below 0.625 the polynomial of Cephes' `tanhf`, above it `(1 - e) / (1 + e)` with `e = exp(-2 |x|)`.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = p * square + coefficient;
    }
    let small = p * square * x + x;
    if x.abs() < 0.625 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in 0..=87_000 {
            let x = -(i as f32 * 1e-3).min(87.0);
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-87.1), exp(-1e30), exp(f32::NEG_INFINITY)], [0.0; 3]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_accurate() {
        for i in 1..=100_000 {
            let x = i as f32 * 2e-4;
            let expected = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - expected).abs() / expected;
            assert!(error < 3.6e-7, "tanh({x}) is off by {error:e}");
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert_eq!([tanh(0.0), tanh(1e-30), tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)], [0.0, 1e-30, 1.0, -1.0]);
        assert!(tanh(f32::NAN).is_nan());
    }
}
