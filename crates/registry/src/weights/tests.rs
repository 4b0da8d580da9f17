//! Layouts against what they are for: every element of a checkpoint fills one place of one parameter.

use super::*;
use crate::families::BUILTIN;
use crate::spec::*;
use crate::template::{Keys, Template};
use crate::{FamilyConfig, Registry};
use automodel_config::{Overrides, RawConfig, ResolvedConfig};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn config(changes: Value) -> ResolvedConfig {
    let mut config = json!({
        "model_type": "llama", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let raw = RawConfig::from_value(config).unwrap();
    let defaults = Registry::builtin().class_defaults(&raw).unwrap();
    raw.resolve(defaults, &Overrides::new()).unwrap()
}

/// Two layers with four query heads and two key-value heads of width 2, and biases.
fn spec(feed: Option<FeedForward>) -> ModelSpec {
    let config = config(json!({}));
    let mut template = Template::read(&FamilyConfig::new(&config), &Keys::LLAMA).unwrap();
    template.attention.bias = AttentionBias::qkv_o(true, true);
    if let Some(feed) = feed {
        template.mlp = feed;
    }
    template.build_uniform().unwrap()
}

fn experts() -> FeedForward {
    FeedForward::Moe(MoeSpec {
        num_experts: 3,
        num_experts_per_tok: 1,
        expert: MlpSpec { bias: true, ..MlpSpec::new(5, Activation::Silu) },
        router: RouterSpec::new(RouterScore::Softmax),
        shared_expert: None,
    })
}

/// The places in its tensor from which the elements of a parameter come, in order.
fn places(piece: &SourcePiece) -> Vec<usize> {
    let view = piece.strided().unwrap();
    let axes = view.shape.iter().zip(&view.strides);
    axes.fold(vec![view.offset], |places, (&size, &stride)| {
        places.iter().flat_map(|&place| (0..size).map(move |i| place + i * stride)).collect()
    })
}

/// Every element of every tensor is read once, and parameters are filled.
fn check_bijection(map: &WeightMap) -> BTreeMap<String, Vec<usize>> {
    let mut tensors: BTreeMap<String, (Vec<usize>, BTreeSet<usize>)> = BTreeMap::new();
    for parameter in &map.parameters {
        let mut filled = 0;
        for piece in &parameter.pieces {
            let (shape, read) =
                tensors.entry(piece.tensor.clone()).or_insert_with(|| (piece.tensor_shape.clone(), BTreeSet::new()));
            assert_eq!(*shape, piece.tensor_shape, "{}", piece.tensor);
            for place in places(piece) {
                assert!(read.insert(place), "element {place} of {} is read twice", piece.tensor);
                filled += 1;
            }
        }
        assert_eq!(filled, parameter.shape.iter().product::<usize>(), "{}", parameter.path);
    }
    for (name, (shape, read)) in &tensors {
        assert_eq!(read.len(), shape.iter().product::<usize>(), "elements of {name} that nothing reads");
    }
    tensors.into_iter().map(|(name, (shape, _))| (name, shape)).collect()
}

fn map(rules: &'static [Rule], feed: Option<FeedForward>) -> WeightMap {
    Layout { rules, ..Layout::LLAMA }.weight_map(&spec(feed))
}

fn rows(map: &WeightMap, path: &str) -> (String, Vec<usize>) {
    let parameter = map.parameters.iter().find(|parameter| parameter.path == path).unwrap();
    let [piece] = &parameter.pieces[..] else { panic!("one piece") };
    let width: usize = parameter.shape[1..].iter().product();
    let places = places(piece);
    (piece.tensor.clone(), places.iter().step_by(width.max(1)).map(|place| place / width.max(1)).collect())
}

#[test]
fn each_order_of_packed_rows_reads_its_own() {
    const Q: &str = "model.layers.1.self_attn.q_proj.weight";
    const V: &str = "model.layers.1.self_attn.v_proj.weight";
    const QKV: &str = "model.layers.1.self_attn.qkv.weight";
    let in_rows = map(const { &[packed_qkv("self_attn.qkv", PackOrder::Rows)] }, None);
    assert_eq!(rows(&in_rows, Q), (QKV.to_owned(), (0..8).collect()));
    assert_eq!(rows(&in_rows, V), (QKV.to_owned(), vec![12, 13, 14, 15]));
    // Two query heads, their keys and their values; then the other group.
    let grouped = map(const { &[packed_qkv("self_attn.qkv", PackOrder::PerGroup)] }, None);
    assert_eq!(rows(&grouped, Q).1, [0, 1, 2, 3, 8, 9, 10, 11]);
    assert_eq!(rows(&grouped, V).1, [6, 7, 14, 15]);
    assert_eq!(rows(&grouped, "model.layers.1.self_attn.v_proj.bias").1, [6, 7, 14, 15]);
    const GATE_UP: Rule =
        Rule::Pack { parts: &["mlp.gate_proj", "mlp.up_proj"], into: "mlp.both", order: PackOrder::Interleaved };
    let interleaved = map(&[GATE_UP], None);
    assert_eq!(rows(&interleaved, "model.layers.0.mlp.up_proj.weight").1, [1, 3, 5, 7, 9, 11]);
    for map in [in_rows, grouped, interleaved] {
        check_bijection(&map);
    }
}

#[test]
fn heads_that_are_alike_are_packed_by_head() {
    let config = config(json!({"model_type": "gpt_neox", "num_key_value_heads": null, "hidden_size": 32}));
    let spec =
        (BUILTIN.iter().find(|family| family.model_type == "gpt_neox").unwrap().lower)(&FamilyConfig::new(&config));
    let layout = Layout { rules: const { &[packed_qkv("self_attn.qkv", PackOrder::PerHead)] }, ..Layout::LLAMA };
    let map = layout.weight_map(&spec.unwrap());
    assert_eq!(rows(&map, "model.layers.0.self_attn.k_proj.weight").1[6..10], [14, 15, 32, 33]);
    check_bijection(&map);
}

#[test]
fn slices_hold_the_parts_in_the_order_of_the_rule() {
    const RULES: &[Rule] = &[Rule::Pack {
        parts: &["self_attn.q_proj", "self_attn.v_proj", "self_attn.k_proj"],
        into: "self_attn.qkv",
        order: PackOrder::Slices(2),
    }];
    let map = map(RULES, None);
    // Of each slice four rows of queries, two of values, two of keys.
    let of = |part: &str| rows(&map, &format!("model.layers.1.self_attn.{part}_proj.weight")).1;
    assert_eq!(of("q"), [0, 1, 2, 3, 8, 9, 10, 11]);
    assert_eq!(of("v"), [4, 5, 12, 13]);
    assert_eq!(of("k"), [6, 7, 14, 15]);
    check_bijection(&map);
}

/// gpt-oss: gate and up take turns, matrices are transposed, and experts are stacked.
#[test]
fn experts_are_stacked_transposed_and_interleaved() {
    const RULES: &[Rule] = &[
        Rule::Pack { parts: &["gate_proj", "up_proj"], into: "gate_up_proj", order: PackOrder::Interleaved },
        Rule::Transpose(".experts."),
        Rule::Stack { over: "mlp.experts", into: "mlp.experts" },
    ];
    let map = map(RULES, Some(experts()));
    let tensors = check_bijection(&map);
    let shape = |name: &str| tensors[&format!("model.layers.1.mlp.experts.{name}")].clone();
    assert_eq!(shape("gate_up_proj"), [3, 8, 10]);
    assert_eq!(shape("gate_up_proj_bias"), [3, 10]);
    assert_eq!(shape("down_proj"), [3, 5, 8]);
    assert_eq!(shape("down_proj_bias"), [3, 8]);
    let up = map.parameters.iter().find(|parameter| parameter.path == "model.layers.1.mlp.experts.2.up_proj.weight");
    // Row 1 of expert 2: column 3 of [8, 10] behind two such matrices.
    let places = places(&up.unwrap().pieces[0]);
    assert_eq!(&places[8..10], [2 * 80 + 3, 2 * 80 + 13]);
    assert!(map.transposed_projections);
}

/// Dense MLPs and shared experts have projections of the same names.
#[test]
fn projections_of_experts_alone_are_packed() {
    let FeedForward::Moe(mut moe) = experts() else { panic!("a mixture") };
    moe.shared_expert = Some(SharedExpert { mlp: moe.expert.clone(), gate: false, norms: None });
    let mut spec = spec(Some(FeedForward::Moe(moe)));
    let dense = FeedForward::Gated(MlpSpec::new(6, Activation::Silu));
    spec.backbone.layers[0].branches[1].operation = Operation::Feed(dense);
    let layout = Layout { rules: &[PACKED_EXPERTS, STACKED_EXPERTS], ..Layout::LLAMA };
    let map = layout.weight_map(&spec);
    let tensors = check_bijection(&map);
    let names = |layer: &str| -> Vec<&str> {
        tensors
            .keys()
            .filter_map(|name| name.strip_prefix(layer)?.strip_suffix(".weight").or(name.strip_prefix(layer)))
            .collect()
    };
    assert_eq!(names("model.layers.0.mlp."), ["down_proj", "gate_proj", "up_proj"]);
    assert!(names("model.layers.1.mlp.experts.").starts_with(&["down_proj", "down_proj_bias", "gate_up_proj"]));
    assert!(tensors.contains_key("model.layers.1.mlp.shared_expert.gate_proj.weight"));
    // What the layout itself says is no alternative.
    assert!(map.alternatives.is_empty());
    let apart = Layout::LLAMA.weight_map(&spec);
    let paths: Vec<&String> = apart.alternatives.keys().collect();
    assert_eq!(paths.len(), 3 * 3 * 2, "{paths:?}");
    for slot in &map.parameters {
        let alternative = apart.alternatives.get(&slot.path);
        assert_eq!(slot.path.contains(".experts."), alternative.is_some(), "{}", slot.path);
        assert!(alternative.is_none_or(|pieces| *pieces == slot.pieces), "{}", slot.path);
    }
}

/// DBRX: the rows of all experts are one matrix, for the last projection transposed.
#[test]
fn rows_of_all_experts_may_be_one_matrix() {
    const RULES: &[Rule] = &[Rule::Transpose(".down_proj."), STACKED_EXPERTS, Rule::JoinedAxes("mlp.experts.")];
    let FeedForward::Moe(mut moe) = experts() else { panic!("a mixture") };
    moe.expert.bias = false;
    let map = map(RULES, Some(FeedForward::Moe(moe)));
    let tensors = check_bijection(&map);
    for name in ["gate_proj", "up_proj", "down_proj"] {
        assert_eq!(tensors[&format!("model.layers.1.mlp.experts.{name}")], [15, 8], "{name}");
    }
    let down =
        map.parameters.iter().find(|parameter| parameter.path == "model.layers.1.mlp.experts.2.down_proj.weight");
    assert_eq!(places(&down.unwrap().pieces[0])[..6], [80, 88, 96, 104, 112, 81]);
}

/// Gemma 4: experts in two tensors, beside dense MLPs whose projections are not joined.
#[test]
fn gated_experts_are_two_tensors() {
    let gated = |rules| {
        let FeedForward::Moe(mut moe) = experts() else { panic!("a mixture") };
        moe.expert.bias = false;
        let mlp = MlpSpec::new(7, Activation::Silu);
        moe.shared_expert = Some(SharedExpert { mlp, gate: false, norms: None });
        map(rules, Some(FeedForward::Moe(moe)))
    };
    let map = gated(&[PACKED_EXPERTS, Rule::Stack { over: "mlp.experts", into: "experts" }]);
    let tensors = check_bijection(&map);
    assert_eq!(tensors["model.layers.1.experts.gate_up_proj"], [3, 10, 8]);
    assert_eq!(tensors["model.layers.1.experts.down_proj"], [3, 8, 5]);
    assert_eq!(tensors["model.layers.1.mlp.shared_expert.up_proj.weight"], [7, 8]);
    let up = map.parameters.iter().find(|p| p.path == "model.layers.1.mlp.experts.2.up_proj.weight").unwrap();
    // Row 1 of expert 2: row 6 of [10, 8] behind two such matrices.
    assert_eq!(&places(&up.pieces[0])[8..10], [160 + 48, 160 + 49]);
}

/// ERNIE 4.5: the correction is one row, stays float32, and has another place.
#[test]
fn a_vector_may_be_stored_as_one_row() {
    let FeedForward::Moe(mut moe) = experts() else { panic!("a mixture") };
    moe.router.correction_bias = true;
    let layout = Layout {
        rules: &[
            Rule::Rename("mlp.gate.e_score_correction_bias", "mlp.statics.bias"),
            Rule::LeadingAxis("mlp.statics.bias"),
        ],
        keep_float32: &["mlp.gate.e_score_correction_bias"],
        ..Layout::LLAMA
    };
    let map = layout.weight_map(&spec(Some(FeedForward::Moe(moe))));
    assert_eq!(check_bijection(&map)["model.layers.1.mlp.statics.bias"], [1, 3]);
    let kept: Vec<_> = map.parameters.iter().filter(|slot| slot.keep_float32).map(|slot| slot.path.as_str()).collect();
    assert_eq!(kept, [0, 1].map(|layer| format!("model.layers.{layer}.mlp.gate.e_score_correction_bias")));
}

#[test]
fn layers_without_a_part_keep_the_others_under_their_names() {
    let mut spec = spec(None);
    // A layer of attention alone.
    spec.backbone.layers[0].branches.pop();
    let layout = Layout { rules: &[PACKED_GATE_UP], ..Layout::LLAMA };
    let tensors = check_bijection(&layout.weight_map(&spec));
    assert!(tensors.contains_key("model.layers.1.mlp.gate_up_proj.weight"));
    assert!(!tensors.keys().any(|name| name.starts_with("model.layers.0.mlp")));
}

#[test]
fn a_task_without_head_has_neither_head_nor_tie() {
    let spec = ModelSpec { task: Task::Embed, ..spec(None) };
    let map = Layout::LLAMA.weight_map(&spec);
    assert!(map.ties.is_empty() && !map.parameters.iter().any(|parameter| parameter.role == ParameterRole::OutputHead));
    assert_eq!(map.parameters.last().unwrap().path, "model.norm.weight");
}

#[test]
fn layouts_of_families_read_every_element_once() {
    for family in BUILTIN {
        let changes = json!({"model_type": family.model_type, "hidden_size": 32, "head_dim": 8, "n_inner": 6, "qk_layernorm": true,
            "num_local_experts": 3, "num_experts": 3, "num_experts_per_tok": 2, "n_routed_experts": 3, "n_shared_experts": 1,
            "moe_intermediate_size": 4, "shared_expert_intermediate_size": 4, "decoder_sparse_step": 1, "pad_token_id": 0,
            "use_qk_norm": true, "rotary_dim": 4, "ffn_dim": 6, "attention_layers": ["global", "local"],
            "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 61, "global_head_dim": 8, "enable_moe_block": true,
            "top_k_experts": 2});
        let mut changes = changes;
        if family.defaults.values.iter().any(|(key, _)| *key == "kv_lora_rank") {
            let latent = json!({"num_key_value_heads": 4, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6, "v_head_dim": 10,
                "kv_lora_rank": 16, "q_lora_rank": 12, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "index_head_dim": 12,
                "index_n_heads": 2, "num_layers": 2, "ffn_hidden_size": 6, "expert_ffn_hidden_size": 4, "moe_topk": 2,
                "num_hidden_layers": if family.model_type == "longcat_flash" { 4 } else { 2 }});
            changes.as_object_mut().unwrap().extend(latent.as_object().unwrap().clone());
        }
        let config = config(changes);
        let spec = (family.lower)(&FamilyConfig::new(&config)).unwrap_or_else(|error| panic!("{error}"));
        let map = family.layout.weight_map(&spec);
        check_bijection(&map);
        let pieces: usize = map.parameters.iter().map(|parameter| parameter.pieces.len()).sum();
        assert_eq!(family.layout.piece_count(&spec), pieces, "{}", family.model_type);
    }
}
