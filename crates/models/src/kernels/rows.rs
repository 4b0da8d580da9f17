//! Rows of a tensor, changed in place or in a copy.

use automodel_attention::kernels::{flex_tensor, for_rows, try_into_flex};
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

/// Runs `pass` over all rows of `width` elements of `x`: it gets the index of a first row and the rows from there on.
/// `x` is returned if it is not a float32 tensor of the CPU backend.
pub(super) fn map_rows<const D: usize>(
    x: Tensor<D>,
    width: usize,
    pass: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor<D>, Tensor<D>> {
    let shape = x.dims();
    let mut x = contiguous(try_into_flex(x)?);
    if let Some(own) = sole_elements(&mut x) {
        for_rows(own, width, pass);
        return Ok(Tensor::from_primitive::<Flex>(x));
    }
    let Some(from) = x.as_slice::<f32>() else {
        return Err(Tensor::from_primitive::<Flex>(x));
    };
    let mut to = vec![0.0; from.len()];
    for_rows(&mut to, width, |first, rows| {
        rows.copy_from_slice(&from[first * width..][..rows.len()]);
        pass(first, rows);
    });
    Ok(flex_tensor(to, shape))
}

/// The elements of a float32 tensor of the CPU backend, in order.
pub(super) struct Elements(FlexTensor);

impl Elements {
    /// `None` for any other tensor.
    pub(super) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        try_into_flex(x.clone()).ok().map(|x| Self(contiguous(x)))
    }

    /// The elements.
    pub(super) fn as_slice(&self) -> Option<&[f32]> {
        self.0.as_slice()
    }
}

fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// The elements of a contiguous tensor if nothing else holds them, and nothing lies beside them.
fn sole_elements(x: &mut FlexTensor) -> Option<&mut [f32]> {
    let (start, count) = (x.layout().start_offset(), x.layout().num_elements());
    x.try_storage_mut::<f32>().filter(|storage| start == 0 && storage.len() == count)
}
