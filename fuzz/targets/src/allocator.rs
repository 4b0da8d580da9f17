//! An allocator that counts, and that refuses more than any target may need.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// More than this is never given: the process ends, which is a finding, and the machine stays well.
const MOST_BYTES: usize = 2 << 30;

static NOW: AtomicUsize = AtomicUsize::new(0);
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// Counts live bytes, and their peak. Make it the `#[global_allocator]`.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

/// Begins to look for a peak; returns the bytes that are allocated now.
pub(crate) fn begin() -> usize {
    let now = NOW.load(Relaxed);
    HIGHEST.store(now, Relaxed);
    now
}

/// The most bytes that were allocated since [`begin`]; none where the allocator is another one.
pub(crate) fn highest() -> usize {
    HIGHEST.load(Relaxed)
}

/// Counts `bytes` more, unless that is too much.
fn grow(bytes: usize) -> bool {
    let now = NOW.fetch_add(bytes, Relaxed).saturating_add(bytes);
    if now > MOST_BYTES {
        NOW.fetch_sub(bytes, Relaxed);
        return false;
    }
    HIGHEST.fetch_max(now, Relaxed);
    true
}

// SAFETY: Every call goes to the system's allocator unchanged, or fails as an allocator may.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !grow(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: The caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !grow(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: As above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !grow(size) {
            return std::ptr::null_mut();
        }
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: As above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: As above.
        unsafe { System.dealloc(block, layout) }
    }
}
