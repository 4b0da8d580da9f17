//! Progress bars on a terminal. Text from files and servers is escaped.

use crate::escape;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar on standard error, hidden unless that is a terminal.
#[derive(Clone)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A single bar.
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

    /// Sets the total.
    pub fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }

    /// Increases the total.
    pub fn add_length(&self, length: u64) {
        self.0.inc_length(length);
    }

    /// The total.
    pub fn length(&self) -> u64 {
        self.0.length().unwrap_or_default()
    }

    /// Sets the position.
    pub fn set_position(&self, position: u64) {
        self.0.set_position(position);
    }

    /// The position.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Clears the bar.
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

    /// Removes a bar.
    pub fn remove(&self, bar: &Bar) {
        bar.clear();
        self.0.remove(&bar.0);
    }

    /// Runs `something` that writes to the terminal, with all bars hidden.
    pub fn suspend(&self, something: impl FnOnce()) {
        self.0.suspend(something);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Clears the terminal after an error.
        let _ = self.0.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}
