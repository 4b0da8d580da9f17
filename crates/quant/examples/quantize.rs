//! Quantises a matrix of normal numbers in every way and prints bytes, errors and times.
//!
//! `cargo run --release -p automodel-quant --example quantize -- [rows] [columns]`

use std::time::Instant;

use automodel_quant::{
    Elements, Precision, multiply,
    table16::{Blocksize, Matrix4bit, QuantType, Quantized4bit},
};
use half::bf16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = std::env::args().skip(1);
    let rows: usize = sizes.next().map_or(Ok(2048), |size| size.parse())?;
    let columns: usize = sizes.next().map_or(Ok(2048), |size| size.parse())?;
    let elements = rows.checked_mul(columns).ok_or("the sizes are too large")?;
    let weight: Vec<bf16> = normal(elements).map(|value| bf16::from_f32(value * 0.02)).collect();
    let x: Vec<f32> = normal(columns).collect();

    println!("[{rows}, {columns}] in bfloat16: {} bytes", elements * 2);
    for quant_type in [QuantType::Nf4, QuantType::Fp4] {
        for blocksize in [32, 64, 128, 4096] {
            let start = Instant::now();
            let blocksize = Blocksize::new(blocksize)?;
            let plain = Quantized4bit::quantize(quant_type, blocksize, [rows, columns], Elements::BF16(&weight))?;
            let seconds = start.elapsed().as_secs_f64();
            for (name, quantized) in [("", plain.clone()), ("+double", plain.nested())] {
                let scales = quantized.scales();
                let start = Instant::now();
                let y = multiply(&Matrix4bit::new(&quantized, &scales)?, &x, Precision::Fast)?;
                let milliseconds = start.elapsed().as_secs_f64() * 1e3;
                println!(
                    "{:>3}{name:<7} blocks of {:>4}: {:>9} bytes, error {:.4}, quantised in {:.1} ms, times a vector in {:.3} ms \
                     (y[0] = {:+.4})",
                    quant_type.name(),
                    blocksize.get(),
                    quantized.byte_len(),
                    relative_error(&weight, &quantized.dequantize()),
                    seconds * 1e3,
                    milliseconds,
                    y.first().copied().unwrap_or_default(),
                );
            }
        }
    }
    Ok(())
}

/// Normal numbers from uniform ones (Box and Muller), from a fixed start.
fn normal(len: usize) -> impl Iterator<Item = f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    };
    (0..len).map(move |_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
}

/// Norm of the error over the norm of the weight.
fn relative_error(weight: &[bf16], decoded: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let error: f64 = weight.iter().zip(decoded).map(|(a, b)| square(a.to_f32() - b)).sum();
    let norm: f64 = weight.iter().map(|a| square(a.to_f32())).sum();
    (error / norm.max(f64::MIN_POSITIVE)).sqrt()
}
