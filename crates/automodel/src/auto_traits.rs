//! Every public type can be moved to another thread, and be shared between threads unless its line says otherwise. `cargo xtask tidy`
//! checks that none is missing here.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn public_types_are_send_and_sync() {
    is_send_and_sync::<crate::AutoModel>();
    is_send_and_sync::<crate::AutoModelError>();
    is_send_and_sync::<crate::AutoModelForCausalLM>();
    is_send_and_sync::<crate::ContextForecast>();
    is_send_and_sync::<crate::DeviceError>();
    is_send_and_sync::<crate::DeviceMemory>();
    is_send_and_sync::<crate::DeviceName>();
    is_send_and_sync::<crate::Dtype>();
    is_send_and_sync::<crate::FamilySummary>();
    is_send_and_sync::<crate::Fit>();
    is_send_and_sync::<crate::ForecastOptions>();
    is_send_and_sync::<crate::FromConfig>();
    is_send_and_sync::<crate::FromPretrained>();
    is_send_and_sync::<crate::LargerModel>();
    is_send_and_sync::<crate::LayerSummary>();
    is_send_and_sync::<crate::LoadForecast>();
    is_send_and_sync::<crate::MemoryBound>();
    is_send_and_sync::<crate::MemoryForecast>();
    is_send_and_sync::<crate::Prepared>();
    is_send_and_sync::<crate::SmallerLoad>();
    is_send_and_sync::<crate::Summary>();
    is_send_and_sync::<crate::UnreadModule>();
    is_send_and_sync::<crate::cuda::CudaEffect>();
    is_send_and_sync::<crate::cuda::CudaFacts>();
    is_send_and_sync::<crate::cuda::CudaGpu>();
    is_send_and_sync::<crate::cuda::CudaHeaders>();
    is_send_and_sync::<crate::cuda::CudaLibrary>();
    is_send_and_sync::<crate::cuda::CudaProblem>();
    is_send_and_sync::<crate::cuda::CudaVersion>();
}
