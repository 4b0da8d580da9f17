//! Bytes as they are.

use super::{Sink, Window};
use crate::LoadError;

/// Hands the bytes of windows on. For stretches of elements that lie one after another.
pub(crate) struct CopySink<W>(pub W);

impl<W: FnMut(&[u8]) -> Result<(), LoadError>> Sink for CopySink<W> {
    fn take(&mut self, window: &Window) -> Result<(), LoadError> {
        self.0(&window.bytes)
    }
}
