//! Launches of the kernels.

use burn::backend::{
    TensorMetadata,
    cubecl::dtype_to_elem_type,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use super::{AttendPlan, RotatePlan, kernels, ops::StepOps};

#[allow(clippy::too_many_arguments, reason = "the trait's signatures")]
impl StepOps for CubeBackend {
    fn set_position(position: IntTensor<Self>, value: u32) -> IntTensor<Self> {
        assert!(position.dtype == DType::I32 && position.shape().num_elements() == 1, "a position is one number");
        // SAFETY: one unit writes the only element.
        unsafe {
            kernels::set_position::launch_unchecked(
                &position.client,
                CubeCount::new_1d(1),
                CubeDim::new_1d(1),
                position.clone().into_buffer_arg(),
                value,
            );
        }
        position
    }

    fn rotate_and_append(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        position: IntTensor<Self>,
        padding: IntTensor<Self>,
        k_cache: FloatTensor<Self>,
        v_cache: FloatTensor<Self>,
        capacity: usize,
        plan: RotatePlan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (batch, dtype) = (q.shape()[0], q.dtype);
        let rows = plan.heads + 2 * plan.kv_heads;
        let cache = batch * plan.kv_heads * capacity * plan.head_dim;
        let numbers = |tensor: &CubeTensor| tensor.shape().num_elements();
        assert!(numbers(&k_cache) == cache && numbers(&v_cache) == cache, "caches of {plan:?}");
        assert!(k_cache.is_contiguous() && v_cache.is_contiguous(), "caches are written in place");
        assert!(numbers(&q) == batch * plan.heads * plan.head_dim, "queries of {plan:?}");
        assert!(numbers(&k) == batch * plan.kv_heads * plan.head_dim && numbers(&v) == numbers(&k), "{plan:?}");
        assert!(plan.rotary_half == 0 || numbers(&cos) >= capacity * plan.rotary_half, "tables of {plan:?}");
        assert!(position.dtype == DType::I32 && padding.dtype == DType::I32 && numbers(&padding) == batch);
        let client = q.client.clone();
        let rotated = empty(&q, q.shape(), dtype);
        let units = batch * rows * plan.head_dim;
        let dim = CubeDim::new_1d(client.properties().hardware.max_units_per_cube.min(256));
        // SAFETY: the assertions above bound every element of heads, tables and caches that a unit below the number of elements
        // accesses; a unit beyond does nothing, and a position beyond the capacity is clamped to the last.
        unsafe {
            kernels::rotate_and_append::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, units, dim),
                dim,
                into_contiguous(q).into_buffer_arg(),
                into_contiguous(k).into_buffer_arg(),
                into_contiguous(v).into_buffer_arg(),
                into_contiguous(cos).into_buffer_arg(),
                into_contiguous(sin).into_buffer_arg(),
                position.into_buffer_arg(),
                padding.into_buffer_arg(),
                rotated.clone().into_buffer_arg(),
                k_cache.clone().into_buffer_arg(),
                v_cache.clone().into_buffer_arg(),
                batch as u32,
                capacity as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
        }
        (rotated, k_cache, v_cache)
    }

    fn attend_to_cache(
        q: FloatTensor<Self>,
        k_cache: FloatTensor<Self>,
        v_cache: FloatTensor<Self>,
        sinks: FloatTensor<Self>,
        position: IntTensor<Self>,
        padding: IntTensor<Self>,
        capacity: usize,
        plan: AttendPlan,
    ) -> FloatTensor<Self> {
        let (batch, dtype) = (q.shape()[0], q.dtype);
        let heads = plan.kv_heads * plan.group;
        let cache = batch * plan.kv_heads * capacity * plan.head_dim;
        assert!(
            k_cache.shape().num_elements() == cache && v_cache.shape().num_elements() == cache,
            "caches of {plan:?}"
        );
        assert!(q.shape().num_elements() == batch * heads * plan.head_dim, "queries of {plan:?}");
        assert!(
            !plan.sinks || (sinks.dtype == DType::F32 && sinks.shape().num_elements() == heads),
            "sinks of {plan:?}"
        );
        let client = q.client.clone();
        let chunks = capacity.div_ceil(plan.units);
        let parts = empty(&q, Shape::from([batch * heads * chunks * plan.head_dim]), DType::F32);
        let stats = empty(&q, Shape::from([batch * heads * chunks * 2]), DType::F32);
        let out = empty(&q, q.shape(), dtype);
        let width = client.io_optimized_vector_sizes(dtype.size());
        let width = width.filter(|size| plan.head_dim.is_multiple_of(*size) && *size <= 8).max().unwrap_or(1);
        let dim = CubeDim::new_1d(plan.units as u32);
        let sinks = if plan.sinks { sinks } else { stats.clone() };
        // SAFETY: the caches are `[batch, kv_heads, capacity, head_dim]`, of which keys up to the clamped position are read, one cube
        // for each chunk; `parts` and `stats` have room for every chunk of every head, and only chunks that were written are read.
        unsafe {
            kernels::attend::launch_unchecked(
                &client,
                CubeCount::new_2d((batch * plan.kv_heads) as u32, chunks as u32),
                dim,
                width,
                into_contiguous(q).into_buffer_arg(),
                k_cache.into_buffer_arg(),
                v_cache.into_buffer_arg(),
                position.clone().into_buffer_arg(),
                padding.clone().into_buffer_arg(),
                parts.clone().into_buffer_arg(),
                stats.clone().into_buffer_arg(),
                capacity as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
            kernels::join::launch_unchecked(
                &client,
                CubeCount::new_1d((batch * heads) as u32),
                dim,
                parts.into_buffer_arg(),
                stats.into_buffer_arg(),
                into_contiguous(sinks).into_buffer_arg(),
                position.into_buffer_arg(),
                padding.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                chunks as u32,
                capacity as u32,
                plan,
                dtype_to_elem_type(dtype),
            );
        }
        out
    }
}

fn empty(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let client = like.client.clone();
    let handle = client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(client, like.device.clone(), shape, handle, dtype)
}
