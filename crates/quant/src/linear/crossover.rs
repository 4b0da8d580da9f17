//! Which product GPUs take.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of activations up to which GPUs take each way to multiply with a 4-bit weight; with more rows the weight is decoded once,
/// for Burn's product.
///
/// The defaults were not measured yet. The environment can override them for a process: `AUTOMODEL_MATVEC_ROWS`; a program can
/// with [`Crossover::set`].
///
/// ```
/// use automodel_quant::Crossover;
/// let mut crossover = Crossover::current();
/// crossover.matvec = 4;
/// crossover.set();
/// assert_eq!(Crossover::current().matvec, 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossover {
    /// Most rows for the product that reads every code once for all rows. No more than [`Crossover::MOST_MATVEC_ROWS`] count.
    pub matvec: usize,
}

static MATVEC: OnceLock<AtomicUsize> = OnceLock::new();

impl Crossover {
    /// Rows that the fused product has kernels for.
    pub const MOST_MATVEC_ROWS: usize = 8;

    /// What products of this process go by.
    pub fn current() -> Self {
        Self { matvec: matvec().load(Ordering::Relaxed) }
    }

    /// Changes what the products of this process go by from now on.
    pub fn set(self) {
        matvec().store(self.matvec.min(Self::MOST_MATVEC_ROWS), Ordering::Relaxed);
    }
}

fn matvec() -> &'static AtomicUsize {
    MATVEC.get_or_init(|| {
        let given = std::env::var("AUTOMODEL_MATVEC_ROWS").ok().and_then(|rows| rows.trim().parse().ok());
        AtomicUsize::new(given.unwrap_or(Crossover::MOST_MATVEC_ROWS).min(Crossover::MOST_MATVEC_ROWS))
    })
}
