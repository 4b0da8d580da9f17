//! Both ways to compute latent attention, parts of sequences, and padding, against one pass.

use super::*;
use crate::parameters::{self, ParameterTensor};
use crate::skeleton;
use automodel_quant::{Precision, QuantLinear, Scheme};
use automodel_registry::spec::{
    AttentionMask, IndexerSpec, NormKind, NormSpec, QueryTemperature, RopePairing, RopeScaling, RopeSpec,
};
use burn::tensor::{DType, Device, TensorData};

const WIDTH: usize = 12;

fn spec(q_lora_rank: Option<usize>) -> MlaSpec {
    MlaSpec {
        num_attention_heads: 3,
        q_lora_rank,
        kv_lora_rank: 10,
        qk_nope_head_dim: 5,
        qk_rope_head_dim: 4,
        v_head_dim: 7,
        norm: NormSpec { kind: NormKind::Rms, eps: 1e-6 },
        bias: true,
        scale: 0.4,
        latent_scale: Some(1.5),
        mask: AttentionMask::Full,
        rope: Some(RopeSpec {
            theta: 100.0,
            rotary_dim: 4,
            pairing: RopePairing::Interleaved,
            scaling: RopeScaling::Default,
        }),
        query_temperature: Some(QueryTemperature { first: 0, scale: 0.3, floor_scale: 4.0 }),
        indexer: None,
    }
}

fn waves(shape: &[usize], seed: f32) -> TensorData {
    let count: usize = shape.iter().product();
    TensorData::new((0..count).map(|i| ((i as f32 + seed) * 0.7391).sin()).collect::<Vec<_>>(), shape)
}

struct Made {
    attention: LatentAttention,
    ropes: Vec<automodel_attention::Rope>,
}

fn make(spec: &MlaSpec) -> Made {
    let (device, mut ropes) = (Device::flex(), Ropes::default());
    let made = skeleton::build(
        |to| spec.declare(WIDTH, to),
        &device,
        |parameters| LatentAttention::new(spec, parameters, &mut ropes),
    );
    let attention = made.unwrap();
    let mut shapes = Vec::new();
    parameters::visit(&attention, &mut |path, shape| shapes.push((path.to_owned(), shape.to_vec())));
    let (attention, outcome) = parameters::assign(attention, &mut |path| {
        let (_, shape) = shapes.iter().find(|(known, _)| known == path)?;
        let data = waves(shape, path.bytes().map(f32::from).sum());
        Some(match shape.len() {
            1 => ParameterTensor::new(Tensor::<1>::from_data(data, (&device, DType::F32))),
            _ => ParameterTensor::new(Tensor::<2>::from_data(data, (&device, DType::F32))),
        })
    });
    outcome.unwrap();
    Made { attention, ropes: ropes.finish().unwrap() }
}

fn input(batch: usize, length: usize) -> Tensor<3> {
    Tensor::from_data(waves(&[batch, length, WIDTH], 3.0), &Device::flex())
}

impl Made {
    fn tables(&self, positions: &Positions, length: usize) -> Vec<RopeTables> {
        let rotary = positions.rotary(length);
        self.ropes.iter().map(|rope| rope.tables(&rotary, 64, &Device::flex()).unwrap()).collect()
    }

    /// The output over `x`, in parts of these lengths.
    fn run(&self, x: &Tensor<3>, parts: &[usize], padding: Vec<usize>) -> Tensor<3> {
        let mut state = self.attention.new_state(&CacheOptions { batch_size: x.dims()[0], capacity: None });
        let (mut start, mut all) = (0, Vec::new());
        for &length in parts {
            let positions = Positions { query_start: start, key_start: 0, padding: padding.clone() };
            let ropes = self.tables(&positions, length);
            let backend = SdpaBackend::EfficientAttention;
            let pass = Pass::Tokens {
                positions,
                ropes: &ropes,
                backend,
                key_values: Default::default(),
                layer_embeddings: None,
            };
            let part = x.clone().narrow(1, start, length);
            all.push(self.attention.forward(part, 0, &mut state, &pass).unwrap());
            start += length;
        }
        let MlaSpec { kv_lora_rank, qk_rope_head_dim, ref indexer, .. } = self.attention.spec;
        let indexed = indexer.as_ref().map_or(0, |indexer| indexer.head_dim);
        let MixerState::Attention(cache) = &state else { panic!("a KV cache") };
        let (latents, keys) = cache.kept().unwrap();
        assert_eq!(
            (latents.dims(), keys.dims()),
            ([x.dims()[0], 1, start, kv_lora_rank], [x.dims()[0], 1, start, qk_rope_head_dim + indexed])
        );
        Tensor::cat(all, 1)
    }

    /// Outputs of both ways for the last `queries` of `x`.
    fn both(&self, x: &Tensor<3>, queries: usize) -> [Tensor<4>; 2] {
        let [batch, length, _] = x.dims();
        let rows = |x: Tensor<3>| {
            let [batch, length, _] = x.dims();
            x.reshape([batch * length, WIDTH])
        };
        let positions = |query_start| Positions { query_start, key_start: 0, padding: Vec::new() };
        let ropes = self.tables(&positions(0), length);
        let (k, v) = self.attention.latents(rows(x.clone()), batch, ropes.first());
        let cached = KeysAndValues { k, v, key_start: 0 };
        let positions = positions(length - queries);
        let ropes = self.tables(&positions, queries);
        let last = rows(x.clone().narrow(1, length - queries, queries));
        let of = || self.attention.queries(self.attention.narrow_queries(last.clone()), batch, ropes.first());
        let by = Scoring { positions: &positions, backend: SdpaBackend::Math, chosen: None };
        [
            self.attention.expanded(of(), cached.clone(), &by).unwrap(),
            self.attention.absorbed(of(), cached, &by).unwrap(),
        ]
    }
}

fn apart<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> f32 {
    assert_eq!(left.dims(), right.dims());
    (left - right).abs().max().into_scalar()
}

#[test]
fn keys_of_heads_and_queries_of_latents_give_the_same() {
    for rank in [None, Some(6)] {
        let made = make(&spec(rank));
        for queries in [1, 2, 9] {
            let [expanded, absorbed] = made.both(&input(2, 9), queries);
            assert_eq!(expanded.dims(), [2, queries, 3, 7]);
            assert!(apart(expanded, absorbed) < 1e-5, "{rank:?}, {queries}");
        }
    }
}

#[test]
fn quantised_latents_are_expanded_as_they_are_absorbed() {
    let mut made = make(&spec(Some(6)));
    made.attention.for_each_linear("attn", &mut |path, linear| {
        let dense = linear.floats(DType::F32);
        let layer = QuantLinear::quantize(dense, Scheme::nf4(), None).unwrap();
        linear.set_quantized(path, layer, Precision::Exact).unwrap();
    });
    let [expanded, absorbed] = made.both(&input(2, 9), 1);
    let size: f32 = expanded.clone().abs().max().into_scalar();
    assert!(apart(expanded, absorbed) < 1e-5 * size);
}

#[test]
fn parts_of_a_sequence_give_what_the_whole_gives() {
    for mask in [AttentionMask::Full, AttentionMask::Sliding { window: 40 }] {
        let made = make(&MlaSpec { mask, ..spec(Some(6)) });
        let x = input(2, 30);
        let whole = made.run(&x, &[30], Vec::new());
        let single = [&[12, 7][..], &[1; 11]].concat();
        for parts in [vec![11, 19], single, vec![1; 30]] {
            assert!(apart(made.run(&x, &parts, Vec::new()), whole.clone()) < 1e-5, "{mask:?}, {parts:?}");
        }
    }
}

fn indexed(top_k: usize) -> MlaSpec {
    let rope = spec(None).rope.map(|rope| RopeSpec { pairing: RopePairing::HalfSplit, ..rope });
    let norm = NormSpec { kind: NormKind::LayerNorm { bias: true }, eps: 1e-6 };
    MlaSpec { indexer: Some(IndexerSpec { num_heads: 2, head_dim: 6, top_k, norm, rope }), ..spec(Some(6)) }
}

#[test]
fn chosen_keys_are_those_of_one_pass() {
    let x = input(2, 30);
    let all = make(&indexed(30)).run(&x, &[30], Vec::new());
    let some = make(&indexed(7));
    let whole = some.run(&x, &[30], Vec::new());
    // Seven positions see no more than they choose.
    assert!(apart(whole.clone().narrow(1, 0, 7), all.clone().narrow(1, 0, 7)) < 1e-5);
    assert!(apart(whole.clone().narrow(1, 7, 23), all.narrow(1, 7, 23)) > 1e-2);
    for parts in [vec![5, 25], [&[12, 7][..], &[1; 11]].concat(), vec![1; 30]] {
        assert!(apart(some.run(&x, &parts, Vec::new()), whole.clone()) < 1e-5, "{parts:?}");
    }
}

#[test]
fn rows_with_padding_are_as_by_themselves() {
    for spec in [spec(None), indexed(3)] {
        check_padding(&make(&spec));
    }
}

fn check_padding(made: &Made) {
    let (x, padded) = (input(2, 9), 4);
    let parts = [6, 1, 1, 1];
    let both = made.run(&x, &parts, vec![0, padded]);
    let first = made.run(&x.clone().narrow(0, 0, 1), &[9], Vec::new());
    assert!(apart(both.clone().narrow(0, 0, 1), first) < 1e-5);
    let second = x.narrow(0, 1, 1).narrow(1, padded, 9 - padded);
    let second = made.run(&second, &[9 - padded], Vec::new());
    assert!(apart(both.narrow(0, 1, 1).narrow(1, padded, 9 - padded), second) < 1e-5);
}

#[test]
fn prompts_are_expanded_and_single_tokens_absorbed() {
    // DeepSeek-V3's widths.
    let large = MlaSpec {
        num_attention_heads: 1,
        kv_lora_rank: 512,
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
        ..spec(None)
    };
    let attention = make(&MlaSpec { rope: None, ..large }).attention;
    for (queries, keys, absorbs) in
        [(1, 1, false), (4096, 4096, false), (512, 8192, false), (1, 8, true), (4, 4096, true)]
    {
        assert_eq!(attention.absorbs(1, queries, keys), absorbs, "{queries} of {keys}");
    }
}
