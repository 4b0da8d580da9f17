//! The choice of experts on GPUs, in one launch: nothing is read back.

use automodel_registry::spec::{Normalize, RouterScore, RouterSpec, Weighted};
use burn::backend::{
    Backend, Dispatch, TensorMetadata, backend_extension,
    fusion::custom::TensorSpec,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::*;

/// Experts that a cube holds the scores of, at most.
const MOST_EXPERTS: usize = 1024;
/// Units of a cube, at most and at least.
const MOST_UNITS: usize = 256;
const LEAST_UNITS: usize = 32;

/// How experts are chosen and weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoutePlan {
    experts: usize,
    choices: usize,
    kind: Kind,
    /// Whether the weights of those that are chosen add up to one before they are scaled.
    normalize: bool,
    /// The bits of the factor on the weights.
    scale: u32,
    /// Units of a cube. Set for a device.
    units: usize,
}

/// What scores are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Softmax,
    TopkSoftmax,
    Sigmoid,
}

impl RoutePlan {
    /// `None` for more experts than the kernel takes, a correction of the scores, groups of experts, choices that are no expert, weights on
    /// the experts' inputs, sums that are kept from zero, and scores that it does not compute.
    pub fn new(spec: &RouterSpec, experts: usize, choices: usize) -> Option<Self> {
        let weights_outputs = spec.weighted == Weighted::Outputs && spec.logit_softcap.is_none();
        if spec.correction_bias || spec.groups.is_some() || spec.zero_experts > 0 || !weights_outputs {
            return None;
        }
        let kind = match spec.score {
            RouterScore::Softmax => Kind::Softmax,
            RouterScore::TopkSoftmax => Kind::TopkSoftmax,
            RouterScore::Sigmoid => Kind::Sigmoid,
            RouterScore::TopkSigmoid | RouterScore::SoftmaxNearBest { .. } => return None,
        };
        let normalize = match spec.normalize {
            Normalize::No => kind == Kind::TopkSoftmax,
            Normalize::Sum => true,
            Normalize::SumPlus(_) | Normalize::SumAtLeast(_) => return None,
        };
        let scale = (spec.scale.unwrap_or(1.0) as f32).to_bits();
        let fits = experts <= MOST_EXPERTS && (1..=experts).contains(&choices);
        fits.then_some(Self { experts, choices, kind, normalize, scale, units: 0 })
    }

    fn scale(&self) -> f32 {
        f32::from_bits(self.scale)
    }

    fn is_sigmoid(&self) -> bool {
        self.kind == Kind::Sigmoid
    }

    /// Whether weights are divided by what all experts have, chosen or not.
    fn divides_by_all(&self) -> bool {
        self.kind == Kind::Softmax && !self.normalize
    }
}

/// Choices on backends with a kernel for them.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait RouteOps: Backend {
    /// For float32 logits `[tokens, experts]` the weights, float32, and the numbers, int32, of those that each token is sent to, best
    /// first: `[tokens, choices]`.
    #[fusion(meta = |logits, plan| {
        let shape = burn::tensor::Shape::from([logits.shape[0], plan.choices]);
        (TensorSpec::new(shape.clone(), DType::F32), TensorSpec::new(shape, DType::I32))
    })]
    fn route_rows(logits: FloatTensor<Self>, plan: RoutePlan) -> (FloatTensor<Self>, IntTensor<Self>);
}

/// For float32 logits `[tokens, experts]` the weights and numbers of the experts that each token is sent to, `[tokens, choices]`. Of equal
/// scores the first counts as the best.
pub(super) fn route(logits: Tensor<2>, plan: RoutePlan) -> (Tensor<2>, Tensor<2, Int>) {
    assert_eq!((logits.dims()[1], logits.dtype()), (plan.experts, DType::F32), "logits for {plan:?}");
    let (factors, chosen) = <Dispatch as RouteOps>::route_rows(logits.into_dispatch(), plan);
    (Tensor::from_dispatch(factors), Tensor::from_dispatch(chosen))
}

impl RouteOps for CubeBackend {
    fn route_rows(logits: FloatTensor<Self>, plan: RoutePlan) -> (FloatTensor<Self>, IntTensor<Self>) {
        let logits = into_contiguous(logits);
        let client = logits.client.clone();
        let rows = logits.shape()[0];
        let most = (client.properties().hardware.max_units_per_cube as usize).clamp(1, MOST_UNITS);
        let plan = RoutePlan { units: plan.experts.next_power_of_two().max(LEAST_UNITS).min(most), ..plan };
        let create = |dtype: DType| {
            let shape = Shape::from([rows, plan.choices]);
            let handle = client.empty(rows * plan.choices * dtype.size());
            CubeTensor::new_contiguous(client.clone(), logits.device.clone(), shape, handle, dtype)
        };
        let (factors, chosen) = (create(DType::F32), create(DType::I32));
        // SAFETY: a cube reads one of `rows` rows of logits, as many as the plan has experts, and writes one of `rows` rows of
        // choices.
        unsafe {
            route_row::launch_unchecked(
                &client,
                CubeCount::new_1d(rows as u32),
                CubeDim::new_1d(plan.units as u32),
                logits.clone().into_buffer_arg(),
                factors.clone().into_buffer_arg(),
                chosen.clone().into_buffer_arg(),
                plan,
            );
        }
        (factors, chosen)
    }
}

/// A token for each cube. An expert's rank is the number of those before it, so that all ranks are found at once.
#[cube(launch_unchecked)]
fn route_row(logits: &[f32], factors: &mut [f32], chosen: &mut [i32], #[comptime] plan: RoutePlan) {
    let (row, unit) = (CUBE_POS, UNIT_POS as usize);
    let mut scores = Shared::<[f32]>::new_slice(plan.experts);
    let mut keys = Shared::<[u32]>::new_slice(plan.experts);
    let mut winners = Shared::<[u32]>::new_slice(plan.choices);
    let mut parts = Shared::<[f32]>::new_slice(plan.units);

    let mut expert = unit;
    while expert < plan.experts {
        let logit = logits[row * plan.experts + expert];
        let score = if comptime!(plan.is_sigmoid()) { 1.0f32 / (1.0f32 + (0.0f32 - logit).exp()) } else { logit };
        scores[expert] = score;
        keys[expert] = ordered(score);
        expert += plan.units;
    }
    sync_cube();
    let mut expert = unit;
    while expert < plan.experts {
        let key = keys[expert];
        let mut rank = 0u32;
        for other in 0..plan.experts {
            let is_before = keys[other] > key || (keys[other] == key && other < expert);
            rank += select(is_before, 1u32, 0u32);
        }
        if rank < comptime!(plan.choices as u32) {
            winners[rank as usize] = expert as u32;
        }
        expert += plan.units;
    }
    sync_cube();

    let largest = scores[winners[0] as usize];
    let mut sum = 0.0f32;
    if comptime!(plan.divides_by_all()) {
        let mut part = 0.0f32;
        let mut expert = unit;
        while expert < plan.experts {
            part += (scores[expert] - largest).exp();
            expert += plan.units;
        }
        parts[unit] = part;
        sync_cube();
        for other in 0..plan.units {
            sum += parts[other];
        }
    } else if comptime!(plan.normalize) {
        for slot in 0..plan.choices {
            sum += weight_of(scores[winners[slot] as usize], largest, plan);
        }
    } else {
        sum = 1.0f32;
    }
    let mut slot = unit;
    while slot < plan.choices {
        let expert = winners[slot];
        let at = row * plan.choices + slot;
        chosen[at] = i32::cast_from(expert);
        factors[at] = weight_of(scores[expert as usize], largest, plan) / sum * comptime!(plan.scale());
        slot += plan.units;
    }
}

/// What a score weighs before all weights are divided by the same number.
#[cube]
fn weight_of(score: f32, largest: f32, #[comptime] plan: RoutePlan) -> f32 {
    if comptime!(plan.is_sigmoid()) { score } else { (score - largest).exp() }
}

/// Numbers in the order of the scores, with a place for those that are none.
#[cube]
fn ordered(score: f32) -> u32 {
    let bits = u32::reinterpret(score);
    select(bits >> 31u32 == 1u32, bits ^ 0xffff_ffffu32, bits ^ 0x8000_0000u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::spec::{ExpertGroups, GroupScore};

    #[test]
    fn routing_that_the_kernel_lacks_is_refused() {
        let spec = || RouterSpec::new(RouterScore::Sigmoid);
        let plan = |spec: RouterSpec| RoutePlan::new(&spec, 8, 2);
        assert!(plan(spec()).is_some_and(|plan| !plan.normalize));
        assert!(plan(RouterSpec { normalize: Normalize::Sum, ..spec() }).is_some_and(|plan| plan.normalize));
        for lacking in [
            RouterSpec { correction_bias: true, ..spec() },
            RouterSpec { groups: Some(ExpertGroups { count: 4, chosen: 2, score: GroupScore::BestTwo }), ..spec() },
            RouterSpec { score: RouterScore::TopkSigmoid, ..spec() },
            RouterSpec { score: RouterScore::SoftmaxNearBest { distance: 0.02 }, ..spec() },
            RouterSpec { normalize: Normalize::SumPlus(1e-20), ..spec() },
            RouterSpec { zero_experts: 2, ..spec() },
            RouterSpec { normalize: Normalize::SumAtLeast(1e-12), ..spec() },
        ] {
            assert_eq!(plan(lacking), None);
        }
    }
}
