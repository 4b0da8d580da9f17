//! Elements of a strided view into a contiguous buffer, converted on the way, on all cores.

use super::floats::{Float, FromFloat, NonFiniteCount, convert_bytes};
use crate::strided::{Axis, Walk, numel, offset_at};
use rayon::prelude::*;

/// Elements per task: enough to outweigh handing it out.
const TASK: usize = 1 << 16;
/// Side of the tiles in which a transposed matrix is read, so that reads and writes both stay in the cache.
const TILE: usize = 32;

/// Fills `target` with the elements of `walk` in the tensor whose bytes are `tensor`. `at` is the position of the first one
/// in the parameter; the count is of the converted elements.
pub(super) fn gather<S: Float, T: FromFloat<S>>(
    tensor: &[u8],
    walk: &Walk,
    target: &mut [T],
    at: u64,
) -> NonFiniteCount {
    match walk.axes.split_last() {
        _ if target.is_empty() => NonFiniteCount::default(),
        None => runs::<S, T>(tensor, walk.offset, &[], 1, target, at),
        Some((Axis { size, stride: 1 }, outer)) => runs::<S, T>(tensor, walk.offset, outer, *size, target, at),
        Some(_) => tiles::<S, T>(tensor, walk, target, at),
    }
}

/// The innermost elements lie one after another, `length` of them.
fn runs<S: Float, T: FromFloat<S>>(
    tensor: &[u8],
    offset: usize,
    outer: &[Axis],
    length: usize,
    target: &mut [T],
    at: u64,
) -> NonFiniteCount {
    let bytes_of = |first: usize, count: usize| &tensor[first * size_of::<S>()..(first + count) * size_of::<S>()];
    if outer.is_empty() {
        let parts = target.par_chunks_mut(TASK).enumerate().map(|(number, part)| {
            let skipped = number * TASK;
            convert_bytes::<S, T>(bytes_of(offset + skipped, part.len()), part, at + skipped as u64)
        });
        return parts.reduce(NonFiniteCount::default, NonFiniteCount::and);
    }
    let runs_per_task = (TASK / length).max(1);
    let parts = target.par_chunks_mut(runs_per_task * length).enumerate().map(|(number, part)| {
        let mut found = NonFiniteCount::default();
        for (step, run) in part.chunks_mut(length).enumerate() {
            let position = number * runs_per_task + step;
            let source = bytes_of(offset + offset_at(outer, position), length);
            found = found.and(convert_bytes::<S, T>(source, run, at + (position * length) as u64));
        }
        found
    });
    parts.reduce(NonFiniteCount::default, NonFiniteCount::and)
}

/// Some outer axis has the smallest stride, the innermost a larger one: a transposed matrix, perhaps one of several. It is
/// read in tiles of that axis and the innermost.
fn tiles<S: Float, T: FromFloat<S>>(tensor: &[u8], walk: &Walk, target: &mut [T], at: u64) -> NonFiniteCount {
    let Some((last, outer)) = walk.axes.split_last() else { return NonFiniteCount::default() };
    let Some(near) = (0..outer.len()).min_by_key(|&axis| outer[axis].stride) else {
        return single_axis::<S, T>(tensor, walk.offset, *last, target, at);
    };
    let (before, rows, between) = (&outer[..near], outer[near], &outer[near + 1..]);
    let row = numel(between) * last.size;
    let slab = rows.size * row;
    let read = |element: usize| -> S {
        bytemuck::pod_read_unaligned(&tensor[element * size_of::<S>()..(element + 1) * size_of::<S>()])
    };
    let fill = |slab_number: usize, first_row: usize, part: &mut [T]| {
        let base = walk.offset + offset_at(before, slab_number) + first_row * rows.stride;
        for step in 0..numel(between) {
            let base = base + offset_at(between, step);
            for column in (0..last.size).step_by(TILE) {
                let columns = column..(column + TILE).min(last.size);
                for (number, row) in part.chunks_mut(row).enumerate() {
                    let base = base + number * rows.stride;
                    let cells = &mut row[step * last.size + columns.start..step * last.size + columns.end];
                    for (cell, column) in cells.iter_mut().zip(columns.clone()) {
                        *cell = T::from_float(read(base + column * last.stride));
                    }
                }
            }
        }
        let mut found = NonFiniteCount::default();
        let start = slab_number * slab + first_row * row;
        let source = |place: usize| read(walk.offset + offset_at(&walk.axes, start + place));
        found.search_converted(source, part, at + start as u64);
        found
    };
    let parts = target.par_chunks_mut(slab).enumerate().flat_map(|(slab_number, part)| {
        let rows = part.par_chunks_mut(TILE * row).enumerate();
        rows.map(move |(number, part)| (slab_number, number * TILE, part))
    });
    parts.map(|(slab, first, part)| fill(slab, first, part)).reduce(NonFiniteCount::default, NonFiniteCount::and)
}

/// A column of a matrix.
fn single_axis<S: Float, T: FromFloat<S>>(
    tensor: &[u8],
    offset: usize,
    axis: Axis,
    target: &mut [T],
    at: u64,
) -> NonFiniteCount {
    let read = |step: usize| -> S {
        let first = (offset + step * axis.stride) * size_of::<S>();
        bytemuck::pod_read_unaligned(&tensor[first..first + size_of::<S>()])
    };
    for (step, cell) in target.iter_mut().enumerate() {
        *cell = T::from_float(read(step));
    }
    let mut found = NonFiniteCount::default();
    found.search_converted(read, target, at);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::weights::{SourcePiece, ViewOp};
    use half::bf16;

    fn check(shape: &[usize], ops: Vec<ViewOp>) {
        let walk = Walk::new(&SourcePiece::view("w", shape, ops).strided().unwrap());
        let values: Vec<bf16> = (0..shape.iter().product()).map(|n: usize| bf16::from_f32((n % 251) as f32)).collect();
        let mut target = vec![f32::NAN; walk.numel()];
        let found = gather::<bf16, f32>(bytemuck::cast_slice(&values), &walk, &mut target, 0);
        let expected: Vec<f32> =
            (0..walk.numel()).map(|position| values[walk.offset + offset_at(&walk.axes, position)].to_f32()).collect();
        assert!(target == expected, "{walk:?}");
        assert_eq!(found.count, 0);
    }

    #[test]
    fn every_kind_of_view_is_read_in_order() {
        let split = ViewOp::SplitAxis { axis: 0, sizes: vec![6, 3, 10] };
        check(&[300, 700], vec![]);
        check(&[300, 700], vec![ViewOp::Transpose(0, 1)]);
        check(&[300, 70], vec![ViewOp::Narrow { axis: 1, start: 30, length: 33 }, ViewOp::Transpose(0, 1)]);
        check(&[300, 70], vec![ViewOp::Narrow { axis: 1, start: 30, length: 33 }]);
        check(&[5, 37, 41], vec![ViewOp::Transpose(1, 2)]);
        check(&[5, 37, 41], vec![ViewOp::Transpose(0, 2)]);
        check(&[180, 7], vec![split.clone(), ViewOp::Select { axis: 1, index: 2 }]);
        check(&[180, 7], vec![split.clone(), ViewOp::Transpose(0, 1)]);
        check(&[180, 7], vec![split, ViewOp::Transpose(1, 3)]);
        check(&[40, 3], vec![ViewOp::Select { axis: 1, index: 1 }]);
        check(&[40, 6, 3], vec![ViewOp::Select { axis: 2, index: 1 }]);
        check(&[1], vec![]);
        check(&[0, 3], vec![ViewOp::Transpose(0, 1)]);
    }

    #[test]
    fn positions_of_what_is_not_finite_are_those_of_the_parameter() {
        let mut values = vec![0f32; 50 * 60];
        values[7 * 60 + 40] = f32::NAN;
        values[49 * 60 + 41] = f32::INFINITY;
        let walk = Walk::new(&SourcePiece::view("w", &[50, 60], vec![ViewOp::Transpose(0, 1)]).strided().unwrap());
        let mut target = vec![0f32; 3000];
        let found = gather::<f32, f32>(bytemuck::cast_slice(&values), &walk, &mut target, 1000);
        assert_eq!((found.count, found.first, found.overflowed), (2, Some(1000 + 40 * 50 + 7), 0));
    }

    #[test]
    fn values_that_do_not_fit_are_told_from_those_that_were_infinite() {
        let mut values = vec![0f32; 50 * 60];
        (values[3 * 60 + 20], values[7 * 60 + 40]) = (f32::NAN, 1e6);
        for ops in [vec![], vec![ViewOp::Transpose(0, 1)], vec![ViewOp::Narrow { axis: 1, start: 10, length: 50 }]] {
            let walk = Walk::new(&SourcePiece::view("w", &[50, 60], ops).strided().unwrap());
            let mut target = vec![half::f16::ZERO; walk.numel()];
            let found = gather::<f32, half::f16>(bytemuck::cast_slice(&values), &walk, &mut target, 0);
            let first = target.iter().position(|value| value.is_infinite()).map(|place| place as u64);
            assert_eq!((found.count, found.overflowed, found.first_overflowed), (2, 1, first), "{walk:?}");
        }
        let column = vec![ViewOp::Select { axis: 1, index: 40 }];
        let walk = Walk::new(&SourcePiece::view("w", &[50, 60], column).strided().unwrap());
        let mut target = vec![half::f16::ZERO; 50];
        let found = gather::<f32, half::f16>(bytemuck::cast_slice(&values), &walk, &mut target, 0);
        assert_eq!((found.count, found.first_overflowed), (1, Some(7)));
    }
}
