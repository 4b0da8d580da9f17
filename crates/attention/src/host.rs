//! Tensors in the memory of Burn's CPU backend.

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

/// The float32 tensor of the CPU backend inside `x`; an error with `x` itself if it has another dtype, is on another device or tracks
/// gradients. Memory that only `x` referenced is then referenced only by the result, so that it can be written in place.
#[allow(clippy::result_large_err, reason = "the argument handed back")]
pub fn try_into_flex<const D: usize>(x: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
    if x.dtype() != DType::F32 {
        return Err(x);
    }
    x.clone().try_into_primitive::<Flex>().map_err(|_| x)
}

/// A tensor of the CPU backend from `values`.
///
/// # Panics
/// If the shape has another number of elements.
pub fn flex_tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(values, shape)))
}

/// The rows along the last axis of a float32 tensor `[a, b, c, width]`, read through its strides.
pub(crate) struct Rows4<'a> {
    data: &'a [f32],
    start: isize,
    strides: [isize; 3],
    width: usize,
}

impl<'a> Rows4<'a> {
    /// `None` if the tensor is not a float32 tensor of four axes whose rows are contiguous.
    pub(crate) fn of(tensor: &'a FlexTensor) -> Option<Self> {
        let layout = tensor.layout();
        let (&[a, b, c, inner], &[.., width]) = (layout.strides(), layout.shape().as_slice()) else {
            return None;
        };
        if tensor.dtype() != DType::F32 || (inner != 1 && width != 1) {
            return None;
        }
        let start = isize::try_from(layout.start_offset()).ok()?;
        Some(Self { data: tensor.storage(), start, strides: [a, b, c], width })
    }

    /// The row at these indices, which have to be below the axes' lengths.
    #[inline(always)]
    pub(crate) fn row(&self, indices: [usize; 3]) -> &'a [f32] {
        let distance: isize = indices.iter().zip(self.strides).map(|(&index, stride)| index as isize * stride).sum();
        &self.data[(self.start + distance) as usize..][..self.width]
    }
}

/// `tensor`, copied if its rows are not contiguous.
pub(crate) fn with_whole_rows(tensor: FlexTensor) -> FlexTensor {
    if Rows4::of(&tensor).is_some() { tensor } else { tensor.to_contiguous() }
}
