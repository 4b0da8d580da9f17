//! Progress of downloads on a terminal.

use crate::{
    failure,
    progress::{Bar, Bars},
};
use automodel::hub::{DownloadEvent, DownloadProgress};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Maximum characters of a file's name.
const NAME: usize = 36;
const OF_ALL: &str = "{wide_msg} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const OF_FILE: &str = "  {wide_msg} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// One bar for each file in progress, and one for all of them.
pub struct DownloadBars {
    bars: Bars,
    state: Mutex<State>,
    json: bool,
}

#[derive(Default)]
struct State {
    total: Option<Bar>,
    files: HashMap<String, FileBar>,
}

struct FileBar {
    bar: Bar,
    bytes_done: u64,
}

impl DownloadBars {
    /// Bars on standard error if that is a terminal and results are not JSON.
    pub fn new(json: bool) -> Self {
        Self { bars: Bars::new(!json), state: Mutex::default(), json }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self, state: &mut State) -> Bar {
        state.total.get_or_insert_with(|| self.bars.add(OF_ALL)).clone()
    }

    /// Sets the progress of a file, and of all files.
    fn advance(&self, state: &mut State, file: &str, bytes_done: u64) {
        let total = self.total(state);
        let Some(of_file) = state.files.get_mut(file) else { return };
        let before = total.position().saturating_sub(of_file.bytes_done);
        total.set_position(before.saturating_add(bytes_done));
        of_file.bytes_done = bytes_done;
        of_file.bar.set_position(bytes_done);
    }

    fn add(&self, state: &mut State, file: &str, bytes_total: u64) {
        let total = self.total(state);
        state.files.entry(file.to_owned()).or_insert_with(|| {
            let bar = self.bars.add_before(&total, OF_FILE);
            bar.set_length(bytes_total);
            bar.set_message(&shortened(file));
            FileBar { bar, bytes_done: 0 }
        });
    }
}

impl DownloadProgress for DownloadBars {
    fn event(&self, event: DownloadEvent<'_>) {
        let mut state = self.state();
        match event {
            DownloadEvent::Planned { bytes, .. } => {
                let total = self.total(&mut state);
                total.add_length(bytes);
                total.set_message("downloading");
            }
            DownloadEvent::Started { file, bytes_done, bytes_total } => {
                self.add(&mut state, file, bytes_total);
                if let Some(of_file) = state.files.get(file) {
                    of_file.bar.set_length(bytes_total);
                    of_file.bar.set_message(&shortened(file));
                }
                self.advance(&mut state, file, bytes_done);
            }
            DownloadEvent::Advanced { file, bytes_done } => self.advance(&mut state, file, bytes_done),
            DownloadEvent::Waiting { file } => {
                self.add(&mut state, file, 0);
                if let Some(of_file) = state.files.get(file) {
                    of_file.bar.set_message(&format!("{} (another process downloads it)", shortened(file)));
                }
            }
            DownloadEvent::Finished { file, bytes } => {
                self.add(&mut state, file, bytes);
                self.advance(&mut state, file, bytes);
                if let Some(of_file) = state.files.remove(file) {
                    self.bars.remove(&of_file.bar);
                }
                if let Some(total) = state.total.take_if(|total| total.position() >= total.length()) {
                    self.bars.remove(&total);
                }
            }
            DownloadEvent::Retrying { reason, delay, .. } => {
                let total = self.total(&mut state);
                let doing = if total.length() == 0 { "contacting the server" } else { "downloading" };
                total.set_message(&format!("{doing}; retry in {:.1} s: {reason}", delay.as_secs_f64()));
            }
            DownloadEvent::Warning { text } if !self.json => self.bars.suspend(|| failure::warn(text)),
            _ => {}
        }
    }
}

fn shortened(file: &str) -> String {
    let characters = file.chars().count();
    if characters <= NAME {
        return file.to_owned();
    }
    ['…'].into_iter().chain(file.chars().skip(characters - NAME + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("config.json"), "config.json");
        let long = shortened("a/very/deep/folder/of/a/repo/model-00001-of-00002.safetensors");
        assert!(long.chars().count() == NAME && long.ends_with("-00002.safetensors"), "{long}");
    }

    #[test]
    fn events_in_any_order_do_no_harm() {
        let bars = DownloadBars::new(true);
        let file = "a";
        for event in [
            DownloadEvent::Advanced { file, bytes_done: 3 },
            DownloadEvent::Finished { file, bytes: 3 },
            DownloadEvent::Planned { files: 1, bytes: 10 },
            DownloadEvent::Waiting { file },
            DownloadEvent::Started { file, bytes_done: 7, bytes_total: 10 },
            DownloadEvent::Advanced { file, bytes_done: 0 },
            DownloadEvent::Retrying { what: file, reason: "x", delay: Duration::from_secs(1) },
            DownloadEvent::Warning { text: "x" },
            DownloadEvent::Finished { file, bytes: 10 },
        ] {
            bars.event(event);
        }
        assert!(bars.state().files.is_empty());
    }
}
