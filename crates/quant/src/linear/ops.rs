//! The layer's operation: a backend extension, and its gradient.

use burn::backend::{
    Autodiff, Backend, Dispatch, DispatchDevice, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{Device, Int, Tensor};

use super::plain::{self, Parts};
use crate::{Precision, Scheme};

/// How the parts of a weight on a device are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuantLayout {
    /// Its representation.
    pub scheme: Scheme,
    /// `[out, in]`
    pub shape: [usize; 2],
}

/// Products with quantised weights on a backend. The defaults are plain Burn operations, which every backend has.
///
/// `codes` is U8, `scales` float32, as the scheme has them: of tables `[ceil(out * in / 2)]` and `[ceil(out * in / blocksize)]`. Where
/// scales are codes too, these are U8 `scale_codes`, padded to a multiple of four; otherwise `scale_codes` is any tensor and not looked
/// at. Of double-quantised tables, `scales` has the offset, the 256 values that codes stand for, and a scale for each 256 codes.
#[allow(clippy::too_many_arguments, reason = "fusion takes tensors one by one")]
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff, Fusion: cfg(feature = "cube"))]
pub trait QuantOps: Backend {
    /// `x W^T`: `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], layout.shape[0]]))]
    fn quant_forward(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let _ = precision;
        plain::forward::<Self>(x, Parts::new(codes, scales, scale_codes, layout), layout)
    }

    /// `dy W`: the gradient `[rows, in]` of `x` from that of the product, `[rows, out]`, in the dtype of `dy`.
    #[fusion(dtype = dy, shape = burn::tensor::Shape::from([dy[0], layout.shape[1]]))]
    fn quant_backward(
        dy: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, Parts::new(codes, scales, scale_codes, layout), layout)
    }
}

/// `x W^T` on whatever backend the tensors are: Flex and, with the features `cuda` and `wgpu`, GPUs have kernels (with or without
/// autodiff and fusion), others take plain operations.
///
/// `x` is `[rows, in]` of float32, float16 or bfloat16; see [`QuantOps`] for the others.
///
/// # Panics
/// As Burn does, if sizes or devices do not match; if the scheme needs `scale_codes` that are not given.
pub fn quant_product(
    x: Tensor<2>,
    codes: Tensor<1, Int>,
    scales: Tensor<1>,
    scale_codes: Option<Tensor<1, Int>>,
    layout: QuantLayout,
    precision: Precision,
) -> Tensor<2> {
    assert_eq!(scale_codes.is_some(), layout.scheme.has_scale_codes(), "codes of scales for {}", layout.scheme);
    let has_kernels = has_kernels(&x.device());
    let scale_codes = scale_codes.unwrap_or_else(|| codes.clone()).into_dispatch();
    let (x, codes, scales) = (x.into_dispatch(), codes.into_dispatch(), scales.into_dispatch());
    // The extension panics on a backend that is not listed, which has the plain operations.
    Tensor::from_dispatch(if has_kernels {
        <Dispatch as QuantOps>::quant_forward(x, codes, scales, scale_codes, layout, precision)
    } else {
        plain::forward::<Dispatch>(x, Parts::new(codes, scales, scale_codes, layout), layout)
    })
}

/// Whether the device has kernels of this crate.
fn has_kernels(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "which backends there are depends on features")]
        _ => false,
    }
}

impl<B: QuantOps, C: CheckpointStrategy> QuantOps for Autodiff<B, C> {
    fn quant_forward(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
        precision: Precision,
    ) -> FloatTensor<Self> {
        /// The weight is frozen and the product linear: no activation has to be kept.
        #[derive(Debug)]
        struct QuantBackward;

        impl<B: QuantOps> Backward<B, 1> for QuantBackward {
            type State = (IntTensor<B>, FloatTensor<B>, IntTensor<B>, QuantLayout);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [x] = ops.parents;
                let dy = grads.consume::<B>(&ops.node);
                let (codes, scales, scale_codes, layout) = ops.state;
                if let Some(x) = x {
                    grads.register::<B>(x.id, B::quant_backward(dy, codes, scales, scale_codes, layout));
                }
            }
        }

        let scales = scales.into_primitive();
        let forward = |x: FloatTensor<B>| {
            let (codes, scales, scale_codes) = (codes.clone(), scales.clone(), scale_codes.clone());
            B::quant_forward(x, codes, scales, scale_codes, layout, precision)
        };
        match QuantBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let y = forward(x.into_primitive());
                prepared.finish((codes, scales, scale_codes, layout), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(x.into_primitive())),
        }
    }

    fn quant_backward(
        dy: FloatTensor<Self>,
        codes: IntTensor<Self>,
        scales: FloatTensor<Self>,
        scale_codes: IntTensor<Self>,
        layout: QuantLayout,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, Parts::new(codes, scales, scale_codes, layout), layout)
    }
}

/// The dtype of a float tensor.
pub(crate) fn float_dtype<B: Backend>(tensor: &FloatTensor<B>) -> burn::tensor::FloatDType {
    tensor.dtype().into()
}
