//! Sums.

use super::rows::{Elements, map_rows};
use automodel_attention::dispatched;
use burn::tensor::Tensor;

/// `x + scale * branch`, of one shape.
pub(crate) fn add_scaled<const D: usize>(
    x: Tensor<D>,
    branch: &Tensor<D>,
    scale: Option<f64>,
) -> Result<Tensor<D>, Tensor<D>> {
    let same_shape = x.dims() == branch.dims();
    let branch = Elements::of(branch).filter(|_| same_shape);
    let Some(branch) = branch.as_ref().and_then(Elements::as_slice) else {
        return Err(x);
    };
    map_rows(x, 1, |first, rows| add(rows, &branch[first..][..rows.len()], scale.map(|scale| scale as f32)))
}

/// `x + bias`, with `bias` as long as the last axis of `x`.
pub(crate) fn add_to_rows<const D: usize>(x: Tensor<D>, bias: &Tensor<1>) -> Result<Tensor<D>, Tensor<D>> {
    let [width] = bias.dims();
    let fits = width > 0 && x.dims().last() == Some(&width);
    let bias = Elements::of(bias).filter(|_| fits);
    let Some(bias) = bias.as_ref().and_then(Elements::as_slice) else {
        return Err(x);
    };
    map_rows(x, width, |_, rows| rows.chunks_exact_mut(width).for_each(|row| add(row, bias, None)))
}

dispatched! {
    /// Adds `scale * branch` to `x`; both have one length.
    add => portable_add(x: &mut [f32], branch: &[f32], scale: Option<f32>)
}

#[inline(always)]
fn portable_add(x: &mut [f32], branch: &[f32], scale: Option<f32>) {
    match scale {
        Some(scale) => x.iter_mut().zip(branch).for_each(|(x, branch)| *x += branch * scale),
        None => x.iter_mut().zip(branch).for_each(|(x, branch)| *x += branch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn sums_equal_tensor_operations() {
        let device = Device::flex();
        for shape in [[1, 1, 1], [2, 3, 7], [1, 1, 2048], [5, 101, 333]] {
            let random = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Default, &device);
            let x = random(shape);
            let turned = random([shape[1], shape[0], shape[2]]).swap_dims(0, 1);
            for branch in [random(shape), turned] {
                let found = add_scaled(x.clone(), &branch, None).expect("float32 on the CPU");
                assert_eq!(found.into_data(), (x.clone() + branch.clone()).into_data(), "{shape:?}");
                let found = add_scaled(branch.clone(), &x, Some(0.3)).expect("float32 on the CPU");
                assert_eq!(found.into_data(), (branch + x.clone() * 0.3).into_data(), "{shape:?}");
            }
            let bias = Tensor::<1>::random([shape[2]], Distribution::Default, &device);
            let found = add_to_rows(x.clone(), &bias).expect("float32 on the CPU");
            assert_eq!(found.into_data(), (x + bias.unsqueeze::<3>()).into_data(), "{shape:?}");
        }
    }

    #[test]
    fn the_portable_twin_gives_the_same_bits() {
        let numbers = |step: usize| -> Vec<f32> { (0..77).map(|i| (i * step % 13) as f32 * 0.37 - 2.0).collect() };
        for scale in [None, Some(0.7)] {
            let (mut wide, mut portable) = (numbers(3), numbers(3));
            add(&mut wide, &numbers(5), scale);
            portable_add(&mut portable, &numbers(5), scale);
            assert_eq!(wide, portable);
        }
    }

    #[test]
    fn what_does_not_fit_is_returned() {
        let device = Device::flex();
        let x = Tensor::<2>::ones([2, 3], &device);
        assert!(add_scaled(x.clone(), &Tensor::ones([1, 3], &device), None).is_err());
        assert!(add_to_rows(x.clone(), &Tensor::ones([2], &device)).is_err());
        assert!(add_scaled(x.clone(), &x.clone().autodiff(), None).is_err());
        assert!(add_scaled(x.clone().autodiff(), &x, None).is_err());
    }
}
