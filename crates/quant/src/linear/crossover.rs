//! Which product GPUs take.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of activations up to which GPUs take each way to multiply; with more rows it is Burn's product, for which a 4-bit weight is
/// decoded once.
///
/// The environment can override the defaults for a process: `AUTOMODEL_MATVEC_ROWS`, `AUTOMODEL_TILE_ROWS` and `AUTOMODEL_DENSE_ROWS`; a
/// program can with [`Crossover::set`].
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
    /// Most rows for the product with a 4-bit weight that reads every code once for all rows, without tensor cores. No more than
    /// [`Crossover::MOST_MATVEC_ROWS`] count.
    pub matvec: usize,
    /// Most rows for the product with a 4-bit weight on tensor cores, which comes first where the device, the dtype and the sizes allow it. No more
    /// than [`Crossover::MOST_TILE_ROWS`] count.
    pub tile: usize,
    /// Most rows for the product with a dense weight that reads the weight once for each eight of them. No more than
    /// [`Crossover::MOST_DENSE_ROWS`] count.
    pub dense: usize,
}

/// A limit of the process, read from the environment on first use.
struct Limit {
    rows: OnceLock<AtomicUsize>,
    variable: &'static str,
    default: usize,
    most: usize,
}

static MATVEC: Limit = Limit {
    rows: OnceLock::new(),
    variable: "AUTOMODEL_MATVEC_ROWS",
    default: Crossover::MOST_MATVEC_ROWS,
    most: Crossover::MOST_MATVEC_ROWS,
};
static TILE: Limit = Limit {
    rows: OnceLock::new(),
    variable: "AUTOMODEL_TILE_ROWS",
    default: Crossover::MOST_TILE_ROWS,
    most: Crossover::MOST_TILE_ROWS,
};
static DENSE: Limit =
    Limit { rows: OnceLock::new(), variable: "AUTOMODEL_DENSE_ROWS", default: 64, most: Crossover::MOST_DENSE_ROWS };

impl Limit {
    fn rows(&self) -> &AtomicUsize {
        self.rows.get_or_init(|| {
            let given = std::env::var(self.variable).ok().and_then(|rows| rows.trim().parse().ok());
            AtomicUsize::new(given.unwrap_or(self.default).min(self.most))
        })
    }
}

impl Crossover {
    /// Rows that the fused product has kernels for.
    pub const MOST_MATVEC_ROWS: usize = 8;
    /// Rows that the product on tensor cores has kernels for.
    pub const MOST_TILE_ROWS: usize = 64;
    /// Rows beyond which no one would want to read a dense weight again and again.
    pub const MOST_DENSE_ROWS: usize = 1024;

    /// The limits of this process.
    pub fn current() -> Self {
        let rows = |limit: &Limit| limit.rows().load(Ordering::Relaxed);
        Self { matvec: rows(&MATVEC), tile: rows(&TILE), dense: rows(&DENSE) }
    }

    /// Changes what the products of this process go by from now on.
    pub fn set(self) {
        for (limit, rows) in [(&MATVEC, self.matvec), (&TILE, self.tile), (&DENSE, self.dense)] {
            limit.rows().store(rows.min(limit.most), Ordering::Relaxed);
        }
    }
}
