//! How long launches take when the device never waits for the host.

use automodel::Device;
use std::{
    error::Error,
    time::{Duration, Instant},
};

/// Samples of which the median counts.
const SAMPLES: usize = 7;
/// A sample takes at least this long, so that the wait at its end does not count.
const LEAST: Duration = Duration::from_millis(40);

/// Seconds that one of `count` launches takes: they are launched in turn, again and again, and waited for at the end.
pub fn per_launch(device: &Device, count: usize, launch: &mut dyn FnMut(usize)) -> Result<f64, Box<dyn Error>> {
    let sync = || device.sync().map_err(|error| format!("the device failed: {error:?}"));
    let mut pass = |passes: usize| -> Result<f64, Box<dyn Error>> {
        sync()?;
        let start = Instant::now();
        for _ in 0..passes {
            for i in 0..count {
                launch(i);
                // Fusion would join launches, and skip those whose results nothing reads.
                device.flush().map_err(|error| format!("the device failed: {error:?}"))?;
            }
        }
        sync()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first pass compiles and tunes.
    pass(1)?;
    let once = pass(1)?;
    let passes = (LEAST.as_secs_f64() / once.max(1e-9)).ceil().clamp(1.0, 1e4) as usize;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(pass(passes)? / (passes * count) as f64);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}
