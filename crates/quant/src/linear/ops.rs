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

use super::{plain, scales::Scales};
use crate::{Layout4bit, Precision};

/// Products with 4-bit weights on a backend. The defaults are plain Burn operations, which every backend has.
///
/// `packed` is U8 `[ceil(out * in / 2)]`, `absmax` float32 `[ceil(out * in / blocksize)]`. Where scales are `nested`, `absmax_codes` is
/// U8 with a code for each block, padded to a multiple of four, and `absmax` has the offset, the 256 values that codes stand for,
/// and a scale for each 256 codes; otherwise `absmax_codes` is any tensor and not looked at.
#[allow(clippy::too_many_arguments, reason = "fusion takes tensors one by one")]
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff, Fusion: cfg(feature = "cube"))]
pub trait Linear4bitOps: Backend {
    /// `x W^T`: `[rows, in]` to `[rows, out]`, in the dtype of `x`.
    #[fusion(dtype = x, shape = burn::tensor::Shape::from([x[0], layout.shape[0]]))]
    fn linear4bit_forward(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let _ = precision;
        plain::forward::<Self>(x, packed, Scales::new(absmax, absmax_codes, nested), layout)
    }

    /// `dy W`: the gradient `[rows, in]` of `x` from that of the product, `[rows, out]`, in the dtype of `dy`.
    #[fusion(dtype = dy, shape = burn::tensor::Shape::from([dy[0], layout.shape[1]]))]
    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, packed, Scales::new(absmax, absmax_codes, nested), layout)
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
    absmax_codes: Option<Tensor<1, Int>>,
    layout: Layout4bit,
    precision: Precision,
) -> Tensor<2> {
    let extended = has_kernels(&x.device());
    let nested = absmax_codes.is_some();
    let codes = absmax_codes.unwrap_or_else(|| packed.clone()).into_dispatch();
    let (x, packed, absmax) = (x.into_dispatch(), packed.into_dispatch(), absmax.into_dispatch());
    // The extension of a backend that is not listed panics, but its operations are there.
    Tensor::from_dispatch(if extended {
        <Dispatch as Linear4bitOps>::linear4bit_forward(x, packed, absmax, codes, layout, nested, precision)
    } else {
        plain::forward::<Dispatch>(x, packed, Scales::new(absmax, codes, nested), layout)
    })
}

/// Whether operations of this crate are there for the device.
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
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        /// The weight is frozen and the product linear: no activation has to be kept.
        #[derive(Debug)]
        struct Linear4bitBackward;

        impl<B: Linear4bitOps> Backward<B, 1> for Linear4bitBackward {
            type State = (IntTensor<B>, FloatTensor<B>, IntTensor<B>, Layout4bit, bool);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [x] = ops.parents;
                let dy = grads.consume::<B>(&ops.node);
                let (packed, absmax, codes, layout, nested) = ops.state;
                if let Some(x) = x {
                    grads.register::<B>(x.id, B::linear4bit_backward(dy, packed, absmax, codes, layout, nested));
                }
            }
        }

        let absmax = absmax.into_primitive();
        let forward = |x: FloatTensor<B>| {
            let (packed, absmax, codes) = (packed.clone(), absmax.clone(), absmax_codes.clone());
            B::linear4bit_forward(x, packed, absmax, codes, layout, nested, precision)
        };
        match Linear4bitBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let y = forward(x.into_primitive());
                prepared.finish((packed, absmax, absmax_codes, layout, nested), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(forward(x.into_primitive())),
        }
    }

    fn linear4bit_backward(
        dy: FloatTensor<Self>,
        packed: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        absmax_codes: IntTensor<Self>,
        layout: Layout4bit,
        nested: bool,
    ) -> FloatTensor<Self> {
        plain::backward::<Self>(dy, packed, Scales::new(absmax, absmax_codes, nested), layout)
    }
}

/// The dtype of a float tensor.
pub(crate) fn float_dtype<B: Backend>(tensor: &FloatTensor<B>) -> burn::tensor::FloatDType {
    tensor.dtype().into()
}
