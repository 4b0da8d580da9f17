//! 64-bit sums, which are exact in any order, from pairs of words: not every device has 64-bit integers.

use cubecl::prelude::*;

/// A 64-bit integer: the low word, then the high one.
pub(super) type Wide = Vector<u32, Const<2>>;

/// Fractional bits of a weight: enough for the smallest that matters, few enough for the sum of four million.
const WEIGHT_BITS: u32 = 40;

/// The number with these words.
#[cube]
pub(super) fn wide(high: u32, low: u32) -> Wide {
    let mut number = Vector::<u32, Const<2>>::new(low);
    number.insert(1usize, high);
    number
}

/// `a + b`.
#[cube]
pub(super) fn plus(a: Wide, b: Wide) -> Wide {
    let low = a.extract(0usize) + b.extract(0usize);
    let carry = select(low < a.extract(0usize), 1u32, 0u32);
    wide(a.extract(1usize) + b.extract(1usize) + carry, low)
}

/// `a - b`, which is not negative.
#[cube]
pub(super) fn minus(a: Wide, b: Wide) -> Wide {
    let borrow = select(a.extract(0usize) < b.extract(0usize), 1u32, 0u32);
    wide(a.extract(1usize) - b.extract(1usize) - borrow, a.extract(0usize) - b.extract(0usize))
}

/// `a * b`, which must not overflow.
#[cube]
pub(super) fn times(a: Wide, b: u32) -> Wide {
    wide(a.extract(0usize).mul_hi(b) + a.extract(1usize) * b, a.extract(0usize) * b)
}

/// The share `b / 2^32` of `a`, rounded down.
#[cube]
pub(super) fn share(a: Wide, b: u32) -> Wide {
    let high = wide(a.extract(1usize).mul_hi(b), a.extract(1usize) * b);
    plus(high, wide(0u32, a.extract(0usize).mul_hi(b)))
}

/// `a <= b`.
#[cube]
pub(super) fn at_most(a: Wide, b: Wide) -> bool {
    a.extract(1usize) < b.extract(1usize)
        || (a.extract(1usize) == b.extract(1usize) && a.extract(0usize) <= b.extract(0usize))
}

/// A weight in 0..=1 with forty bits after the point. Each product and difference is exact, only the last bit is rounded.
#[cube]
pub(super) fn fixed(weight: f32) -> Wide {
    let scaled = weight * comptime!((1u32 << (WEIGHT_BITS - 32)) as f32);
    let high = scaled.floor();
    wide(u32::cast_from(high), u32::cast_from((scaled - high) * 4_294_967_296.0f32 + 0.5f32))
}

/// The sum over all units, for each of them.
#[cube]
pub(super) fn sum_of_cube(own: Wide, shared: &mut Shared<[Wide]>, #[comptime] units: usize) -> Wide {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = own;
    sync_cube();
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let span = comptime!(units >> (step + 1));
        if unit < span {
            let other = shared[unit + span];
            shared[unit] = plus(shared[unit], other);
        }
        sync_cube();
    }
    shared[0]
}

/// The highest number of all units, for each of them.
#[cube]
pub(super) fn highest_of_cube(own: Wide, shared: &mut Shared<[Wide]>, #[comptime] units: usize) -> Wide {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = own;
    sync_cube();
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let span = comptime!(units >> (step + 1));
        if unit < span {
            let other = shared[unit + span];
            if at_most(shared[unit], other) {
                shared[unit] = other;
            }
        }
        sync_cube();
    }
    shared[0]
}

/// The sums over the units before this one and over all of them.
#[cube]
pub(super) fn sums_before(own: Wide, shared: &mut Shared<[Wide]>, #[comptime] units: usize) -> (Wide, Wide) {
    let unit = UNIT_POS as usize;
    sync_cube();
    shared[unit] = own;
    sync_cube();
    let mut sum = own;
    let steps = comptime!(units.ilog2());
    #[unroll]
    for step in 0..steps {
        let span = comptime!(1usize << step);
        let mut other = wide(0u32, 0u32);
        if unit >= span {
            other = shared[unit - span];
        }
        sync_cube();
        sum = plus(sum, other);
        shared[unit] = sum;
        sync_cube();
    }
    (minus(sum, own), shared[comptime!(units - 1)])
}
