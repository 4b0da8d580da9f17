//! Progress bars on a terminal. What they show of files and servers is escaped.

use crate::escape;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar on standard error, or nothing where that is no terminal.
#[derive(Clone)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar of its own.
    pub fn alone(template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style(template)))
    }

    /// Shows a text beside the bar, on one line.
    pub fn set_message(&self, message: &str) {
        self.0.set_message(escape::line(message).into_owned());
    }

    /// Sets what 100 % are.
    pub fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }

    /// Raises what 100 % are.
    pub fn add_length(&self, length: u64) {
        self.0.inc_length(length);
    }

    /// What 100 % are.
    pub fn length(&self) -> u64 {
        self.0.length().unwrap_or_default()
    }

    /// Sets how far it is.
    pub fn set_position(&self, position: u64) {
        self.0.set_position(position);
    }

    /// How far it is.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Takes the bar off the terminal.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Bars below each other.
pub struct Bars(MultiProgress);

impl Bars {
    /// Bars on standard error if they are `shown` and that is a terminal.
    pub fn new(shown: bool) -> Self {
        let is_shown = shown && std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// Adds a bar at the end.
    pub fn add(&self, template: &str) -> Bar {
        Bar(self.0.add(ProgressBar::new(0)).with_style(style(template)))
    }

    /// Adds a bar before another.
    pub fn add_before(&self, other: &Bar, template: &str) -> Bar {
        Bar(self.0.insert_before(&other.0, ProgressBar::new(0)).with_style(style(template)))
    }

    /// Takes a bar off the terminal.
    pub fn remove(&self, bar: &Bar) {
        bar.clear();
        self.0.remove(&bar.0);
    }

    /// Does `something` that writes to the terminal, while no bar is there.
    pub fn suspend(&self, something: impl FnOnce()) {
        self.0.suspend(something);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // After an error nothing is left on the terminal.
        let _ = self.0.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
