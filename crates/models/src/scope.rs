//! Settings in force on this thread while a model is built, restored when their guard is dropped, also on error.
//!
//! A skeleton allocates nothing by default; [`RealAllocation`] asks for real (zeroed) tensors instead. [`DefaultDtype`] sets
//! the float dtype of what is allocated.

use burn::tensor::{DType, FloatDType};
use std::{cell::Cell, marker::PhantomData};
use thiserror::Error;

thread_local! {
    static REAL_ALLOCATION: Cell<bool> = const { Cell::new(false) };
    static DEFAULT_DTYPE: Cell<FloatDType> = const { Cell::new(FloatDType::F32) };
}

/// A default dtype that is not floating.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{model} cannot be built with dtype {dtype:?}: choose a floating dtype (float32, float16, bfloat16)")]
pub struct NotAFloatDtype {
    /// The model that was to be built.
    pub model: String,
    /// The dtype asked for.
    pub dtype: DType,
}

/// While it lives, skeletons built on this thread allocate their parameters.
#[derive(Debug)]
pub struct RealAllocation {
    outer: bool,
    _this_thread: PhantomData<*const ()>,
}

impl RealAllocation {
    /// Turns real allocation on until the guard is dropped.
    pub fn enter() -> Self {
        Self { outer: REAL_ALLOCATION.replace(true), _this_thread: PhantomData }
    }
}

impl Drop for RealAllocation {
    fn drop(&mut self) {
        REAL_ALLOCATION.set(self.outer);
    }
}

/// While it lives, parameters allocated on this thread have its dtype.
#[derive(Debug)]
pub struct DefaultDtype {
    outer: FloatDType,
    _this_thread: PhantomData<*const ()>,
}

impl DefaultDtype {
    /// Sets the dtype for `model` until the guard is dropped.
    ///
    /// # Errors
    /// [`NotAFloatDtype`], and nothing changes.
    pub fn enter(model: &str, dtype: DType) -> Result<Self, NotAFloatDtype> {
        let float = match dtype {
            DType::F64 => FloatDType::F64,
            DType::F32 => FloatDType::F32,
            DType::F16 => FloatDType::F16,
            DType::BF16 => FloatDType::BF16,
            _ => return Err(NotAFloatDtype { model: model.to_owned(), dtype }),
        };
        Ok(Self { outer: DEFAULT_DTYPE.replace(float), _this_thread: PhantomData })
    }
}

impl Drop for DefaultDtype {
    fn drop(&mut self) {
        DEFAULT_DTYPE.set(self.outer);
    }
}

/// Whether skeletons allocate their parameters.
pub fn real_allocation() -> bool {
    REAL_ALLOCATION.get()
}

/// The dtype of allocated parameters.
pub fn default_dtype() -> FloatDType {
    DEFAULT_DTYPE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_scopes_restore_the_outer_setting() {
        assert!(!real_allocation());
        let outer = RealAllocation::enter();
        drop(RealAllocation::enter());
        assert!(real_allocation(), "the inner guard restores the outer setting, not the default");
        assert!(!std::thread::spawn(real_allocation).join().unwrap(), "other threads are not touched");
        drop(outer);
        assert!(!real_allocation());
    }

    #[test]
    fn dtype_is_restored_on_error_and_on_panic() {
        let build = || -> Result<(), NotAFloatDtype> {
            let _half = DefaultDtype::enter("Demo", DType::BF16)?;
            assert_eq!(default_dtype(), FloatDType::BF16);
            DefaultDtype::enter("Demo", DType::I64).map(drop)
        };
        let error = build().unwrap_err();
        assert!(error.to_string().contains("Demo"));
        assert_eq!(default_dtype(), FloatDType::F32);
        let panicked = std::panic::catch_unwind(|| {
            let _half = DefaultDtype::enter("Demo", DType::F16).unwrap();
            panic!("while building");
        });
        assert!(panicked.is_err());
        assert_eq!(default_dtype(), FloatDType::F32);
    }
}
