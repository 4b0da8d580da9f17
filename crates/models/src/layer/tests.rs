//! Branches against their formulas.

use super::*;
use crate::parameters::{self, ParameterTensor};
use crate::skeleton;
use automodel_registry::spec::{Activation, FeedForward, MlpSpec, NormKind, NormSpec};
use burn::tensor::{DType, TensorData};

const WIDTH: usize = 6;

fn mlp() -> Operation {
    Operation::Feed(FeedForward::Plain(MlpSpec::new(4, Activation::Silu)))
}

fn norm() -> NormSpec {
    NormSpec { kind: NormKind::Rms, eps: 1e-6 }
}

fn branch(name: &'static str, input: BranchInput) -> Branch {
    Branch { input, ..Branch::new(name, mlp()) }
}

fn layer(spec: &LayerSpec) -> Layer {
    let device = Device::flex();
    let make = |parameters: &Skeleton<'_>| Layer::new(spec, 0, 0, parameters, &mut Ropes::default());
    let layer = skeleton::build(|to| spec.declare(WIDTH, to), &device, make).unwrap();
    let mut shapes = Vec::new();
    parameters::visit(&layer, &mut |path, shape| shapes.push((path.to_owned(), shape.to_vec())));
    let (layer, outcome) = parameters::assign(layer, &mut |path| {
        let (_, shape) = shapes.iter().find(|(known, _)| known == path)?;
        let seed: u32 = path.bytes().map(u32::from).sum();
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed as f32) * 0.7391).sin()).collect();
        let data = TensorData::new(values, shape.clone());
        Some(match shape.len() {
            1 => ParameterTensor::new(Tensor::<1>::from_data(data, (&device, DType::F32))),
            _ => ParameterTensor::new(Tensor::<2>::from_data(data, (&device, DType::F32))),
        })
    });
    outcome.unwrap();
    layer
}

fn input() -> Tensor<3> {
    let values: Vec<f32> = (0..2 * 3 * WIDTH).map(|i| (i as f32 * 0.37).cos()).collect();
    Tensor::from_data(TensorData::new(values, [2, 3, WIDTH]), &Device::flex())
}

fn run(layer: &Layer) -> Tensor<3> {
    let positions = automodel_attention::Positions { query_start: 0, key_start: 0, padding: vec![0, 0] };
    let backend = automodel_attention::SdpaBackend::Math;
    layer.forward(input(), &mut [], &Pass::Tokens { positions, ropes: &[], backend }).unwrap()
}

fn feed(layer: &Layer, name: &str, x: Tensor<3>) -> Tensor<3> {
    match layer.operation(name) {
        Some(OperationModule::Feed(feed)) => feed.forward(x),
        other => panic!("{other:?}"),
    }
}

fn pre(layer: &Layer, branch: usize, x: Tensor<3>) -> Tensor<3> {
    layer.branches[branch].norm_input(x)
}

fn check(found: Tensor<3>, expected: Tensor<3>) {
    let apart: f32 = (found - expected).abs().max().into_scalar();
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn branches_read_what_they_say() {
    let spec = LayerSpec {
        branches: vec![
            branch("first", BranchInput::Residual).with_pre("first_norm", norm()),
            branch("parallel", BranchInput::SameAs(0)),
            branch("second", BranchInput::Residual).with_pre("second_norm", norm()),
            Branch { scale: Some(0.5), ..branch("late", BranchInput::LayerInput).with_post("late_norm", norm()) },
        ],
    };
    let layer = layer(&spec);
    let x = input();
    let n = pre(&layer, 0, x.clone());
    let h = x.clone() + feed(&layer, "first", n.clone()) + feed(&layer, "parallel", n);
    let h = h.clone() + feed(&layer, "second", pre(&layer, 2, h));
    let late = layer.branches[3].norm_result(feed(&layer, "late", x));
    check(run(&layer), h + late * 0.5);
}

#[test]
fn norms_on_the_stream_take_all_that_was_added() {
    let spec = LayerSpec {
        branches: vec![
            branch("first", BranchInput::Residual),
            Branch {
                scale: Some(0.5),
                ..branch("parallel", BranchInput::SameAs(0)).with_post_add("first_norm", norm())
            },
            branch("second", BranchInput::Residual).with_post_add("second_norm", norm()),
            branch("late", BranchInput::LayerInput),
        ],
    };
    let layer = layer(&spec);
    let on_stream = |branch: usize, x: Tensor<3>| layer.branches[branch].post_add.as_ref().unwrap().norm.forward(x);
    let x = input();
    let both = feed(&layer, "first", x.clone()) + feed(&layer, "parallel", x.clone()) * 0.5;
    let h = on_stream(1, x.clone() + both);
    let h = on_stream(2, h.clone() + feed(&layer, "second", h));
    check(run(&layer), h + feed(&layer, "late", x));
}

#[test]
fn parameters_have_the_names_of_branches_and_norms() {
    let mlp = branch("mlp", BranchInput::Residual).with_pre("input_layernorm", norm());
    let spec = LayerSpec { branches: vec![mlp.with_post_add("stream_layernorm", norm())] };
    let mut paths = Vec::new();
    parameters::visit(&layer(&spec), &mut |path, _| paths.push(path.to_owned()));
    let norms = ["input_layernorm.weight", "stream_layernorm.weight"];
    assert_eq!(paths, [["mlp.up_proj.weight", "mlp.down_proj.weight"], norms].concat());
}

#[test]
fn a_state_that_is_missing_is_an_error() {
    let attention = automodel_registry::spec::AttentionSpec::new(2, 1, 3);
    let spec = LayerSpec { branches: vec![Branch::mix(automodel_registry::spec::Mixer::Attention(attention))] };
    let layer = layer(&spec);
    let positions = automodel_attention::Positions { query_start: 0, key_start: 0, padding: vec![0, 0] };
    let backend = automodel_attention::SdpaBackend::Math;
    let pass = Pass::Tokens { positions, ropes: &[], backend };
    assert!(matches!(layer.forward(input(), &mut [], &pass), Err(ModelError::ForeignCache { layer: 0 })));
    assert_eq!(layer.new_states(&CacheOptions::default()).count(), 1);
}
