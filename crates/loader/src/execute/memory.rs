//! Resident memory of this process.

/// Watches how far resident memory rises.
pub(super) struct PeakMeter {
    start: Option<Resident>,
    highest: u64,
}

/// What the system says of this process, in bytes.
#[derive(Clone, Copy)]
struct Resident {
    now: u64,
    /// The highest value of the process's life.
    highest: u64,
}

impl PeakMeter {
    pub fn start() -> Self {
        let start = resident();
        Self { start, highest: start.map_or(0, |resident| resident.now) }
    }

    /// To be called where memory may be at its highest.
    pub fn sample(&mut self) {
        if self.start.is_some()
            && let Some(resident) = resident()
        {
            self.highest = self.highest.max(resident.now);
        }
    }

    /// How far resident memory rose above its start. The process's own high-water mark counts if it rose meanwhile, so that
    /// peaks between samples are not lost.
    pub fn peak_bytes(&mut self) -> Option<u64> {
        self.sample();
        let (start, end) = (self.start?, resident()?);
        let highest = if end.highest > start.highest { self.highest.max(end.highest) } else { self.highest };
        Some(highest.saturating_sub(start.now))
    }
}

#[cfg(target_os = "linux")]
fn resident() -> Option<Resident> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Resident { now: kibibytes("VmRSS")?, highest: kibibytes("VmHWM")? })
}

#[cfg(not(target_os = "linux"))]
fn resident() -> Option<Resident> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_is_seen() {
        let mut meter = PeakMeter::start();
        let block = vec![1u8; 32 << 20];
        meter.sample();
        drop(std::hint::black_box(block));
        assert!(meter.peak_bytes().unwrap() >= 30 << 20);
    }
}
