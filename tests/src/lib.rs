//! Whole-journey tests.
