//! Strided views with their axes merged, cut into windows of bounded size.

use automodel_registry::weights::StridedView;
use std::ops::Range;

/// Elements of a tensor in a given order: nested loops over `axes`, the last one innermost. No axis has size 1, and no two
/// neighbours could be one, so a contiguous part has one axis of stride 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// First element.
    pub offset: usize,
    /// Outermost first. Empty: a single element.
    pub axes: Vec<Axis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Number of steps.
    pub size: usize,
    /// Elements per step.
    pub stride: usize,
}

impl Walk {
    pub fn new(view: &StridedView) -> Self {
        if view.shape.contains(&0) {
            return Self { offset: 0, axes: vec![Axis { size: 0, stride: 1 }] };
        }
        let mut axes: Vec<Axis> = Vec::with_capacity(view.shape.len());
        for (&size, &stride) in view.shape.iter().zip(&view.strides) {
            match axes.last_mut() {
                _ if size == 1 => {}
                Some(outer) if outer.stride == size * stride => *outer = Axis { size: outer.size * size, stride },
                _ => axes.push(Axis { size, stride }),
            }
        }
        Self { offset: view.offset, axes }
    }

    /// All elements of a tensor, in order.
    pub fn all(elements: usize) -> Self {
        Self::new(&StridedView { offset: 0, shape: vec![elements], strides: vec![1] })
    }

    pub fn numel(&self) -> usize {
        numel(&self.axes)
    }

    /// The elements between the first and the last that are touched.
    pub fn span(&self) -> Range<usize> {
        self.offset..self.offset + span(&self.axes)
    }

    /// If the elements lie one after another: their range.
    pub fn contiguous(&self) -> Option<Range<usize>> {
        match self.axes[..] {
            [] => Some(self.offset..self.offset + 1),
            [Axis { size, stride: 1 }] => Some(self.offset..self.offset + size),
            _ => None,
        }
    }

    /// Cuts the walk so that each part spans at most `limit` elements where the order of the elements allows that (not
    /// inside a transposed matrix), and calls `visit` with the position of each part's first element and the part.
    pub fn for_each_window<E>(
        &self,
        limit: usize,
        visit: &mut impl FnMut(usize, &Walk) -> Result<(), E>,
    ) -> Result<(), E> {
        self.windows_from(0, limit.max(1), visit)
    }

    fn windows_from<E>(
        &self,
        at: usize,
        limit: usize,
        visit: &mut impl FnMut(usize, &Walk) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((outer, inner)) = self.axes.split_first() else { return visit(at, self) };
        if span(&self.axes) <= limit || outer.stride < span(inner) {
            return visit(at, self);
        }
        self.slabs((limit / outer.stride).max(1)).try_for_each(|(first, slab)| {
            let whole = slab.axes.len() == self.axes.len();
            if whole { visit(at + first, &slab) } else { slab.windows_from(at + first, limit, visit) }
        })
    }

    /// Cuts the walk so that each part has at most `limit` elements, also inside a transposed matrix, and calls `visit` with
    /// the position of each part's first element and the part.
    pub fn for_each_part<E>(
        &self,
        limit: usize,
        visit: &mut impl FnMut(usize, &Walk) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parts_from(0, limit.max(1), visit)
    }

    fn parts_from<E>(
        &self,
        at: usize,
        limit: usize,
        visit: &mut impl FnMut(usize, &Walk) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((_, inner)) = self.axes.split_first().filter(|_| self.numel() > limit) else { return visit(at, self) };
        self.slabs((limit / numel(inner)).max(1))
            .try_for_each(|(first, slab)| slab.parts_from(at + first, limit, visit))
    }

    /// The walk in parts of `step` steps of the outermost axis: position of the first element, part.
    fn slabs(&self, step: usize) -> impl Iterator<Item = (usize, Walk)> {
        let (outer, inner) = self.axes.split_first().map_or((Axis { size: 0, stride: 1 }, &[][..]), |(o, i)| (*o, i));
        (0..outer.size).step_by(step).map(move |start| {
            let size = step.min(outer.size - start);
            let kept = (size > 1).then_some(Axis { size, stride: outer.stride });
            let axes = kept.into_iter().chain(inner.iter().copied()).collect();
            (start * numel(inner), Walk { offset: self.offset + start * outer.stride, axes })
        })
    }

    /// Elements of the largest part.
    pub fn largest_part(&self, limit: usize) -> usize {
        let mut largest = 0;
        let Ok(()) = self.for_each_part::<std::convert::Infallible>(limit, &mut |_, part| {
            largest = largest.max(part.numel());
            Ok(())
        });
        largest
    }

    /// Elements that the largest window spans.
    pub fn largest_window(&self, limit: usize) -> usize {
        let mut largest = 0;
        let Ok(()) = self.for_each_window::<std::convert::Infallible>(limit, &mut |_, window| {
            largest = largest.max(span(&window.axes));
            Ok(())
        });
        largest
    }

    /// The contiguous runs in order, as elements of the tensor.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let (outer, run) = match self.axes.split_last() {
            Some((Axis { size, stride: 1 }, outer)) => (outer, *size),
            _ => (&self.axes[..], 1),
        };
        (0..numel(outer)).map(move |position| {
            let start = self.offset + offset_at(outer, position);
            start..start + run
        })
    }
}

/// Product of the sizes.
pub(crate) fn numel(axes: &[Axis]) -> usize {
    axes.iter().map(|axis| axis.size).product()
}

/// Distance from the first element to the one behind the last.
fn span(axes: &[Axis]) -> usize {
    if axes.iter().any(|axis| axis.size == 0) {
        return 0;
    }
    1 + axes.iter().map(|axis| (axis.size - 1) * axis.stride).sum::<usize>()
}

/// Offset of the `position`-th step of the loops over `axes`.
pub(crate) fn offset_at(axes: &[Axis], mut position: usize) -> usize {
    let mut offset = 0;
    for axis in axes.iter().rev() {
        offset += (position % axis.size) * axis.stride;
        position /= axis.size;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::weights::{SourcePiece, ViewOp};

    fn walk(shape: &[usize], ops: Vec<ViewOp>) -> Walk {
        Walk::new(&SourcePiece::view("w", shape, ops).strided().unwrap())
    }

    fn elements(walk: &Walk) -> Vec<usize> {
        (0..walk.numel()).map(|position| walk.offset + offset_at(&walk.axes, position)).collect()
    }

    fn in_windows(walk: &Walk, limit: usize) -> Vec<usize> {
        let mut out = vec![usize::MAX; walk.numel()];
        let Ok(()) = walk.for_each_window::<std::convert::Infallible>(limit, &mut |at, window| {
            for (slot, element) in out[at..].iter_mut().zip(elements(window)) {
                *slot = element;
            }
            Ok(())
        });
        out
    }

    #[test]
    fn axes_merge() {
        assert_eq!(walk(&[2, 3, 4], vec![]).contiguous(), Some(0..24));
        assert_eq!(walk(&[1, 1], vec![]).contiguous(), Some(0..1));
        assert_eq!(walk(&[0, 4], vec![]).contiguous(), Some(0..0));
        let rows = walk(&[6, 4], vec![ViewOp::Narrow { axis: 0, start: 2, length: 2 }]);
        assert_eq!(rows.contiguous(), Some(8..16));
        let columns = walk(&[6, 4], vec![ViewOp::Narrow { axis: 1, start: 1, length: 2 }]);
        assert_eq!((columns.contiguous(), columns.span()), (None, 1..23));
    }

    #[test]
    fn windows_cover_every_element_in_order_and_keep_to_the_limit() {
        let split = ViewOp::SplitAxis { axis: 0, sizes: vec![2, 3, 4] };
        let cases = [
            walk(&[24], vec![]),
            walk(&[24, 5], vec![split.clone(), ViewOp::Select { axis: 1, index: 1 }]),
            walk(&[24, 5], vec![split, ViewOp::Transpose(0, 1)]),
            walk(&[3, 4, 5], vec![ViewOp::Narrow { axis: 2, start: 1, length: 3 }]),
            walk(&[3, 4, 5], vec![ViewOp::Transpose(1, 2)]),
        ];
        for walk in &cases {
            for limit in [1, 2, 7, 20, 1000] {
                assert_eq!(in_windows(walk, limit), elements(walk), "{walk:?} {limit}");
            }
        }
        assert_eq!(cases[0].largest_window(7), 7);
        assert_eq!(cases[1].largest_window(7), 7);
        // One transposed matrix is one window, the next matrix is the next.
        assert_eq!(cases[4].largest_window(7), 20);
    }

    #[test]
    fn parts_cover_every_element_in_order_and_keep_to_the_limit() {
        let cases = [
            walk(&[24], vec![]),
            walk(&[6, 5], vec![ViewOp::Transpose(0, 1)]),
            walk(&[3, 4, 5], vec![ViewOp::Transpose(0, 2)]),
            walk(&[1], vec![]),
            walk(&[0, 3], vec![]),
        ];
        for walk in &cases {
            for limit in [1, 2, 7, 20, 1000] {
                let mut seen = Vec::new();
                let Ok(()) = walk.for_each_part::<std::convert::Infallible>(limit, &mut |at, part| {
                    assert_eq!(at, seen.len());
                    assert!(part.numel() <= limit);
                    seen.extend(elements(part));
                    Ok(())
                });
                assert_eq!(seen, elements(walk), "{walk:?} {limit}");
            }
        }
        assert_eq!(cases[1].largest_part(13), 12);
    }

    #[test]
    fn runs_are_contiguous() {
        let columns = walk(&[3, 4], vec![ViewOp::Narrow { axis: 1, start: 1, length: 2 }]);
        assert_eq!(columns.runs().collect::<Vec<_>>(), [1..3, 5..7, 9..11]);
    }
}
