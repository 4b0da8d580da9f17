//! Times of launches: on the device alone, and with the host.

use automodel::Device;
use burn::tensor::capture;
use std::{
    error::Error,
    time::{Duration, Instant},
};

/// Samples of which the median counts.
const SAMPLES: usize = 7;
/// A sample takes at least this long, so that the wait at its end does not count.
const LEAST: Duration = Duration::from_millis(20);

/// Seconds of one launch.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Seconds {
    /// Replayed from a recording: the time on the device. `None` for devices without recordings.
    pub replayed: Option<f64>,
    /// Launched one by one without waiting: the longer of the times on the device and on the host.
    pub launched: f64,
}

impl Seconds {
    /// The time on the device, as far as is known.
    pub fn of_device(self) -> f64 {
        self.replayed.unwrap_or(self.launched)
    }
}

/// The time of one of `count` launches: they are launched in turn, repeatedly, and synchronised at the end. What a launch returns
/// is kept, because fusion skips launches whose results nothing reads.
pub fn per_launch<T>(
    device: &Device,
    count: usize,
    launch: &mut dyn FnMut(usize) -> T,
) -> Result<Seconds, Box<dyn Error>> {
    let mut all = || (0..count).map(&mut *launch).collect::<Vec<T>>();
    let mut graph = capture(device, &mut all);
    let is_recorded = graph.is_hardware();
    let replayed = if is_recorded {
        let seconds = median(device, &mut || {
            // SAFETY: the recording owns what its launches return, and the weights and activations that they read are borrowed for
            // as long; nothing else runs on the device meanwhile.
            let _ = unsafe { graph.replay() };
        })?;
        Some(seconds / count as f64)
    } else {
        None
    };
    drop(graph);
    let launched = median(device, &mut || {
        let kept = all();
        // Fusion would join passes.
        let _ = device.flush();
        drop(kept);
    })?;
    Ok(Seconds { replayed, launched: launched / count as f64 })
}

/// The median of several samples of many passes each.
fn median(device: &Device, pass: &mut dyn FnMut()) -> Result<f64, Box<dyn Error>> {
    let sync = || device.sync().map_err(|error| format!("the device failed: {error:?}"));
    let mut timed = |passes: usize| -> Result<f64, Box<dyn Error>> {
        sync()?;
        let start = Instant::now();
        (0..passes).for_each(|_| pass());
        sync()?;
        Ok(start.elapsed().as_secs_f64() / passes as f64)
    };
    // The first pass compiles and tunes.
    timed(1)?;
    let passes = (LEAST.as_secs_f64() / timed(1)?.max(1e-9)).ceil().clamp(1.0, 1e4) as usize;
    let mut samples = (0..SAMPLES).map(|_| timed(passes)).collect::<Result<Vec<_>, _>>()?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}
