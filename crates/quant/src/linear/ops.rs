//! The operation behind the layer: a backend extension, and its gradient.

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

use super::plain;
use crate::{Layout4bit, Precision};

/// Products with 4-bit weights on a backend. The defaults are plain Burn operations, which every backend has.
///
/// `packed` is U8 `[ceil(out * in / 2)]`, `absmax` float32 `[ceil(out * in / blocksize)]`.
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff, Fusion: cfg(feature = "cube"))]
pub trait Linear4bitOps: Backend {
    /// `x W^T`: `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], layout.shape[0]]))]
    fn linear4bit_forward(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let _ = precision;
        plain::forward::<Self>(x, packed, absmax, layout)
    }

    /// `dy W`: the gradient `[rows, in]` of `x` from that of the product, `[rows, out]`, in the dtype of `dy`.
    #[fusion(dtype = dy, shape = burn::tensor::Shape::from([dy[0], layout.shape[1]]))]
    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, packed, absmax, layout)
    }
}

/// `x W^T` on whatever backend the tensors are: Flex and, with the features `cuda` and `wgpu`, GPUs have kernels (with or without
/// autodiff and fusion), others take plain operations.
///
/// `x` is `[rows, in]` of float32, float16 or bfloat16; see [`Linear4bitOps`] for the others.
///
/// # Panics
/// As Burn does, if sizes or devices do not match.
pub fn linear4bit(
    x: Tensor<2>,
    packed: Tensor<1, Int>,
    absmax: Tensor<1>,
    layout: Layout4bit,
    precision: Precision,
) -> Tensor<2> {
    let extended = has_kernels(&x.device());
    let (x, packed, absmax) = (x.into_dispatch(), packed.into_dispatch(), absmax.into_dispatch());
    // The extension of a backend that is not listed panics, but its operations are there.
    Tensor::from_dispatch(if extended {
        <Dispatch as Linear4bitOps>::linear4bit_forward(x, packed, absmax, layout, precision)
    } else {
        plain::forward::<Dispatch>(x, packed, absmax, layout)
    })
}

fn has_kernels(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "which backends there are depends on features")]
        _ => false,
    }
}

impl<B: Linear4bitOps, C: CheckpointStrategy> Linear4bitOps for Autodiff<B, C> {
    fn linear4bit_forward(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
        precision: Precision,
    ) -> FloatTensor<Self> {
        /// The weight is frozen and the product linear: no activation has to be kept.
        #[derive(Debug)]
        struct Linear4bitBackward;

        impl<B: Linear4bitOps> Backward<B, 1> for Linear4bitBackward {
            type State = (IntTensor<B>, FloatTensor<B>, Layout4bit);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [x] = ops.parents;
                let dy = grads.consume::<B>(&ops.node);
                let (packed, absmax, layout) = ops.state;
                if let Some(x) = x {
                    grads.register::<B>(x.id, B::linear4bit_backward(dy, packed, absmax, layout));
                }
            }
        }

        let absmax = absmax.into_primitive();
        match Linear4bitBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let x = x.into_primitive();
                let y = B::linear4bit_forward(x, packed.clone(), absmax.clone(), layout, precision);
                prepared.finish((packed, absmax, layout), y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::linear4bit_forward(x.into_primitive(), packed, absmax, layout, precision))
            }
        }
    }

    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        layout: Layout4bit,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, packed, absmax, layout)
    }
}

/// The dtype of a float tensor.
pub(super) fn float_dtype<B: Backend>(tensor: &FloatTensor<B>) -> burn::tensor::FloatDType {
    tensor.dtype().into()
}
