//! Parts of weights between host and device.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Int, Tensor, TensorData};

/// The parts of a weight as tensors on a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceParts {
    pub codes: Tensor<1, Int>,
    pub scales: Tensor<1>,
    pub scale_codes: Option<Tensor<1, Int>>,
}

/// Bytes on a device. With their dtype: a device's default would convert them. For good: pools for short-lived tensors round
/// weights up.
pub(crate) fn bytes(bytes: bytes::Bytes, device: &Device) -> Tensor<1, Int> {
    let len = bytes.len();
    let data = TensorData::from_bytes(Bytes::from_shared(bytes, AllocationProperty::Other), [len], DType::U8);
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, DType::U8)))
}

/// Floats on a device, for good.
pub(crate) fn floats(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    let data = TensorData::new(values, [len]);
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, DType::F32)))
}

/// The codes padded to words of 32 bits, which GPUs read.
pub(crate) fn whole_words(packed: &bytes::Bytes) -> bytes::Bytes {
    const WORD: usize = size_of::<u32>();
    if packed.len().is_multiple_of(WORD) {
        return packed.clone();
    }
    let mut padded = packed.to_vec();
    padded.resize(packed.len().next_multiple_of(WORD), 0);
    padded.into()
}

/// The bytes of a U8 tensor, shared with it on the CPU.
pub(crate) fn host_bytes(tensor: Tensor<1, Int>) -> Option<bytes::Bytes> {
    struct Shared(Arc<Bytes>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    if tensor.dtype() != DType::U8 {
        return None;
    }
    match tensor.clone().try_into_primitive::<Flex>() {
        Ok(tensor) => Some(bytes::Bytes::from_owner(Shared(tensor.to_contiguous().data_arc()))),
        Err(_) => tensor.try_into_data().ok()?.try_into_vec::<u8>().ok().map(Into::into),
    }
}
