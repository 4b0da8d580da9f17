//! Memory of this process: how far it rises, and which pages of files are part of it.

use super::Pages;

/// Resident pages of mapped files, and the peak of memory.
pub(crate) struct Residency {
    /// The window that was quantised last, whose pages are given back while the next one is quantised.
    pub before: Option<Pages>,
    pub meter: PeakMeter,
}

impl Residency {
    /// Measures from now on.
    pub fn start() -> Self {
        Self { before: None, meter: PeakMeter::start() }
    }

    /// Measures nothing.
    pub fn unmeasured() -> Self {
        Self { before: None, meter: PeakMeter { start: None, highest: 0, unseen: 0 } }
    }

    /// Gives back the pages of the window that was quantised last.
    pub fn release(&mut self) {
        self.before.take().unwrap_or_default().release();
    }
}

/// Watches how far resident memory rises.
pub(crate) struct PeakMeter {
    start: Option<Resident>,
    highest: u64,
    /// Bytes that were read or written since the last look.
    unseen: u64,
}

/// Bytes between two looks: asking the system takes as long as reading some hundred kilobytes.
const STEP: u64 = 4 << 20;

/// Resident memory of this process, in bytes.
#[derive(Clone, Copy)]
struct Resident {
    now: u64,
    /// The highest value of the process's life.
    highest: u64,
}

impl PeakMeter {
    pub fn start() -> Self {
        let start = resident();
        Self { start, highest: start.map_or(0, |resident| resident.now), unseen: 0 }
    }

    /// To be called where memory may be at its highest, with the bytes that were handled since the last call. Looks now and
    /// then, so that ten thousand small parameters do not cost ten thousand looks.
    pub fn note(&mut self, bytes: u64) {
        self.unseen = self.unseen.saturating_add(bytes);
        if self.unseen >= STEP {
            self.sample();
        }
    }

    /// Looks now.
    pub fn sample(&mut self) {
        self.unseen = 0;
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
