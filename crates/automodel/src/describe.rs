//! Describes specifications in the words of papers and model cards.

use automodel_registry::spec::{
    Activation, AttentionMask, AttentionSpec, Branch, BranchInput, FeedForward, GateActivation, GateExtent, Gating,
    GroupScore, KeyValues, LayerSpec, Mixer, MlaSpec, MlpSpec, MoeSpec, NormKind, Normalize, Operation, OutputGate,
    QkNormExtent, RopePairing, RopeScaling, RopeSpec, RouterScore, RouterSpec, Weighted,
};

/// Heads, mask, positions, and what is unusual.
pub(crate) fn mixer(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attention(attention) => attention_words(attention),
        Mixer::Mla(mla) => mla_words(mla),
        Mixer::ShortConv(conv) => format!("gated convolution over {} positions", conv.kernel_size),
    }
}

fn attention_words(attention: &AttentionSpec) -> String {
    let heads = format!(
        "attention {}/{} heads of {}",
        attention.num_attention_heads, attention.num_key_value_heads, attention.head_dim
    );
    let positions = match (&attention.rope, attention.alibi) {
        (Some(spec), _) => rope(spec, attention.head_dim),
        (None, Some(_)) => "ALiBi".to_owned(),
        (None, None) => "no rope".to_owned(),
    };
    let parts = [heads, mask(attention.mask), positions].into_iter().chain(unusual(attention));
    parts.collect::<Vec<_>>().join(", ")
}

fn mla_words(mla: &MlaSpec) -> String {
    let heads = format!(
        "latent attention {} heads of {} + {} and {}",
        mla.num_attention_heads, mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.v_head_dim
    );
    let latents = match mla.q_lora_rank {
        Some(rank) => format!("latents of {} and {rank} for queries", mla.kv_lora_rank),
        None => format!("latents of {}", mla.kv_lora_rank),
    };
    let positions = mla.rope.as_ref().map_or("no rope".to_owned(), |spec| rope(spec, mla.qk_rope_head_dim));
    let scaled = mla.latent_scale.map(|scale| format!("latents scaled by {scale}"));
    let indexed = mla
        .indexer
        .as_ref()
        .map(|indexer| format!("best {} keys by {} heads of {}", indexer.top_k, indexer.num_heads, indexer.head_dim));
    let tempered = mla.query_temperature.map(|_| "query temperature".to_owned());
    let parts = [heads, latents, mask(mla.mask), positions].into_iter().chain(scaled).chain(tempered).chain(indexed);
    parts.collect::<Vec<_>>().join(", ")
}

/// Kind, width and activation.
pub(crate) fn feed_forward(mlp: &FeedForward) -> String {
    match mlp {
        FeedForward::Gated(mlp) => format!("gated {}", width(mlp)),
        FeedForward::Plain(mlp) => width(mlp),
        FeedForward::Moe(moe) => experts(moe),
    }
}

/// What a layer computes at each position: its MLPs, and what it does with embeddings of its own.
pub(crate) fn feed_forwards(layer: &LayerSpec) -> impl Iterator<Item = String> {
    layer.branches.iter().filter_map(|branch| match &branch.operation {
        Operation::Mix(_) => None,
        Operation::Feed(feed) => Some(feed_forward(feed)),
        Operation::LayerEmbedding(embedding) => Some(format!("layer embedding of {}", embedding.width)),
    })
}

/// Kind and place.
pub(crate) fn norms(layer: &LayerSpec) -> String {
    let mut kinds: Vec<&str> = layer.norms().map(|named| norm(named.norm.kind)).collect();
    kinds.dedup();
    format!("{}, {}", listed(kinds.into_iter().map(str::to_owned)), placement(layer))
}

/// Several parts of a layer as one; "none" without any.
pub(crate) fn listed(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(" + ") }
}

fn mask(mask: AttentionMask) -> String {
    match mask {
        AttentionMask::Full => "full".to_owned(),
        AttentionMask::Sliding { window } => format!("sliding window of {window}"),
        AttentionMask::Chunked { size } => format!("chunks of {size}"),
        AttentionMask::Bidirectional => "bidirectional".to_owned(),
    }
}

fn rope(rope: &RopeSpec, head_dim: usize) -> String {
    let part =
        if rope.rotary_dim < head_dim { format!(" on {} of {head_dim}", rope.rotary_dim) } else { String::new() };
    let pairing = match rope.pairing {
        RopePairing::HalfSplit => "",
        RopePairing::HalfSplitSwapped => "backward ",
        RopePairing::Interleaved => "interleaved ",
    };
    format!("{pairing}rope{part}, theta {}{}", rope.theta, scaling(&rope.scaling))
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::Default => String::new(),
        RopeScaling::Linear { factor } => format!(", linear scaling by {factor}"),
        RopeScaling::Dynamic { factor, .. } => format!(", dynamic NTK scaling by {factor}"),
        RopeScaling::Yarn(yarn) => format!(", YaRN scaling by {}", yarn.factor),
        RopeScaling::LongRope(_) => ", LongRoPE".to_owned(),
        RopeScaling::Llama3 { factor, .. } => format!(", Llama 3 scaling by {factor}"),
        RopeScaling::Proportional { factor, .. } => format!(", proportional scaling by {factor}"),
    }
}

/// What most attentions do not have. All fields are named, so that a new one is told, here or by the caller.
fn unusual(attention: &AttentionSpec) -> impl Iterator<Item = String> {
    let AttentionSpec {
        num_attention_heads: _,
        num_key_value_heads: _,
        head_dim: _,
        bias: _,
        qk_norm,
        scale: _,
        softcap,
        mask: _,
        rope: _,
        sinks,
        clip_qkv,
        query_temperature,
        key_values,
        value_norm,
        sub_norm,
        alibi: _,
        value_head_dim,
        value_scale,
        output_gate: gate,
    } = attention;
    let qk_norm = qk_norm.as_ref().map(|qk| {
        let extent = match qk.extent {
            QkNormExtent::Head => "each head",
            QkNormExtent::HeadOwnWeight => "each head with its own weight",
            QkNormExtent::Projection => "whole projections",
        };
        format!("QK norm on {extent}{}", if qk.after_rope { " after rope" } else { "" })
    });
    let parts = [
        qk_norm,
        softcap.map(|cap| format!("softcap {cap}")),
        sinks.then(|| "attention sinks".to_owned()),
        clip_qkv.map(|clip| format!("QKV clipped to {clip}")),
        query_temperature.map(|_| "query temperature".to_owned()),
        match key_values {
            KeyValues::Projected => None,
            KeyValues::OneProjection => Some("values are keys".to_owned()),
            KeyValues::OfLayer(layer) => Some(format!("keys and values of layer {layer}")),
        },
        value_norm.map(|_| "norm on values".to_owned()),
        sub_norm.map(|_| "norm before the output projection".to_owned()),
        value_head_dim.map(|width| format!("values of {width}")),
        value_scale.map(|scale| format!("values scaled by {scale}")),
        gate.map(output_gate),
    ];
    parts.into_iter().flatten()
}

fn output_gate(gate: OutputGate) -> String {
    let extent = match gate.extent {
        GateExtent::Element => "each element",
        GateExtent::Head => "each head",
    };
    let activation = match gate.activation {
        GateActivation::Sigmoid => "sigmoid",
        GateActivation::Softplus => "softplus",
    };
    format!("{activation} gate on {extent} of the output")
}

fn width(mlp: &MlpSpec) -> String {
    let norm = mlp.sub_norm.map_or("", |_| ", norm before the last projection");
    format!("MLP of {}, {}{}{norm}", mlp.intermediate_size, activation(mlp.activation), gating(&mlp.gating))
}

fn gating(gating: &Gating) -> String {
    let limit = gating.limit.map(|limit| format!(", clamped to {limit}"));
    let offset = Some(gating.up_offset).filter(|&offset| offset != 0.0).map(|offset| format!(", up + {offset}"));
    limit.into_iter().chain(offset).collect()
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "SiLU",
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU (tanh)",
        Activation::QuickGelu => "quick GELU",
        Activation::Relu => "ReLU",
        Activation::Relu2 => "squared ReLU",
        Activation::Xielu => "xIELU",
    }
}

fn experts(moe: &MoeSpec) -> String {
    let shared = moe.shared_expert.as_ref().map(|shared| {
        let gate = if shared.gate { " behind a gate" } else { "" };
        let norms = if shared.norms.is_some() { ", norms around both" } else { "" };
        format!(", shared expert of {}{gate}{norms}", shared.mlp.intermediate_size)
    });
    format!(
        "mixture, {} of {} experts of {}, {}{}, {}{}",
        moe.num_experts_per_tok,
        moe.num_experts,
        moe.expert.intermediate_size,
        activation(moe.expert.activation),
        gating(&moe.expert.gating),
        router(&moe.router),
        shared.unwrap_or_default()
    )
}

fn router(router: &RouterSpec) -> String {
    let normalize = router.normalize != Normalize::No;
    let score = match router.score {
        RouterScore::Softmax if normalize => "normalised softmax",
        RouterScore::Softmax => "softmax",
        RouterScore::TopkSoftmax => "top-k softmax",
        RouterScore::Sigmoid if normalize => "normalised sigmoid",
        RouterScore::Sigmoid => "sigmoid",
        RouterScore::TopkSigmoid if normalize => "normalised top-k sigmoid",
        RouterScore::TopkSigmoid => "top-k sigmoid",
        RouterScore::SoftmaxNearBest { .. } => "SparseMixer",
    };
    let parts = [
        Some(format!("{score} router")),
        router.correction_bias.then(|| "correction bias".to_owned()),
        router.groups.map(|groups| {
            let by = match groups.score {
                GroupScore::BestTwo => "",
                GroupScore::Best => " by their best expert",
            };
            format!("{} of {} groups{by}", groups.chosen, groups.count)
        }),
        (router.zero_experts > 0).then(|| format!("{} choices that return their input", router.zero_experts)),
        router.logit_softcap.map(|cap| format!("logits capped at {cap}")),
        (router.weighted == Weighted::Inputs).then(|| "weights on the inputs".to_owned()),
        router.scale.filter(|&scale| scale != 1.0).map(|scale| format!("weights scaled by {scale}")),
        router.expert_scales.then(|| "weights scaled by expert".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The kind of a norm.
pub(crate) fn norm(kind: NormKind) -> &'static str {
    match kind {
        NormKind::Rms => "RMSNorm",
        NormKind::RmsProductInFloat32 => "RMSNorm (weighted in float32)",
        NormKind::RmsOneOffset => "RMSNorm (1 + weight)",
        NormKind::RmsWithoutWeight => "RMSNorm without weight",
        NormKind::LayerNorm { bias: true } => "LayerNorm",
        NormKind::LayerNorm { bias: false } => "LayerNorm without bias",
        NormKind::LayerNormInFloat32 => "LayerNorm without bias (in float32)",
        NormKind::LayerNormOneOffset => "LayerNorm (1 + weight)",
        NormKind::LayerNormWithoutParameters => "LayerNorm without parameters",
    }
}

/// Where the norms stand, if all branches have them alike.
fn placement(layer: &LayerSpec) -> &'static str {
    let all = |has: fn(&Branch) -> bool| layer.branches.iter().all(has);
    let rest = |input: BranchInput| layer.branches.iter().skip(1).all(|branch| branch.input == input);
    let sequential = all(|branch| branch.input == BranchInput::Residual);
    if layer.branches.iter().any(|branch| branch.post_add.is_some()) {
        let alone = all(|branch| branch.post_add.is_some() && branch.pre.is_none() && branch.post.is_none());
        return if alone && sequential { "on the sum after each block" } else { "by branch" };
    }
    if rest(BranchInput::SameAs(0)) && layer.branches.len() > 1 {
        return "one before the parallel blocks";
    }
    if rest(BranchInput::LayerInput) && layer.branches.len() > 1 && all(|branch| branch.pre.is_some()) {
        return "one before each of the parallel blocks";
    }
    match (all(|branch| branch.pre.is_some()), all(|branch| branch.post.is_some())) {
        (true, true) if sequential => "before and after each block",
        (true, false) if sequential => "before each block",
        (false, true) if sequential => "after each block",
        _ => "by branch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automodel_registry::spec::{
        Alibi, ExpertGroups, LongRope, NormSpec, QkNorm, QueryTemperature, SharedExpert, YarnRope,
    };

    fn attention() -> AttentionSpec {
        AttentionSpec::new(8, 2, 64)
    }

    #[test]
    fn attention_is_told_with_what_is_unusual() {
        assert_eq!(mixer(&Mixer::Attention(attention())), "attention 8/2 heads of 64, full, no rope");
        let norm = NormSpec { kind: NormKind::RmsOneOffset, eps: 1e-6 };
        let all = AttentionSpec {
            qk_norm: Some(QkNorm { norm, extent: QkNormExtent::Head, after_rope: false }),
            softcap: Some(50.0),
            mask: AttentionMask::Sliding { window: 512 },
            rope: Some(RopeSpec {
                theta: 1e4,
                rotary_dim: 32,
                pairing: RopePairing::Interleaved,
                scaling: RopeScaling::Linear { factor: 8.0 },
            }),
            sinks: true,
            clip_qkv: Some(3.0),
            key_values: KeyValues::OneProjection,
            value_norm: Some(norm),
            sub_norm: Some(norm),
            query_temperature: Some(QueryTemperature { first: 1, scale: 0.1, floor_scale: 8192.0 }),
            ..attention()
        };
        assert_eq!(
            mixer(&Mixer::Attention(all)),
            "attention 8/2 heads of 64, sliding window of 512, interleaved rope on 32 of 64, theta 10000, linear scaling by 8, \
             QK norm on each head, softcap 50, attention sinks, QKV clipped to 3, \
             query temperature, values are keys, norm on values, norm before the output projection"
        );
    }

    #[test]
    fn latents_are_told_with_their_widths() {
        let all = MlaSpec {
            num_attention_heads: 16,
            q_lora_rank: Some(96),
            kv_lora_rank: 64,
            qk_nope_head_dim: 32,
            qk_rope_head_dim: 16,
            v_head_dim: 24,
            norm: NormSpec { kind: NormKind::Rms, eps: 1e-6 },
            bias: false,
            scale: 0.1,
            latent_scale: Some(2.0),
            mask: AttentionMask::Full,
            rope: None,
            query_temperature: None,
            indexer: None,
        };
        assert_eq!(
            mixer(&Mixer::Mla(all.clone())),
            "latent attention 16 heads of 32 + 16 and 24, latents of 64 and 96 for queries, full, no rope, latents scaled by 2"
        );
        let plain = MlaSpec { q_lora_rank: None, latent_scale: None, ..all };
        assert_eq!(
            mixer(&Mixer::Mla(plain)),
            "latent attention 16 heads of 32 + 16 and 24, latents of 64, full, no rope"
        );
    }

    #[test]
    fn biases_gates_and_widths_are_told() {
        let gate = OutputGate { extent: GateExtent::Head, activation: GateActivation::Softplus };
        let biased = AttentionSpec {
            alibi: Some(Alibi { before_scale: false, in_bfloat16: false }),
            value_head_dim: Some(32),
            value_scale: Some(0.5),
            output_gate: Some(gate),
            ..attention()
        };
        assert_eq!(
            mixer(&Mixer::Attention(biased)),
            "attention 8/2 heads of 64, full, ALiBi, values of 32, values scaled by 0.5, softplus gate on each head of the output"
        );
        let router = RouterSpec {
            logit_softcap: Some(5.0),
            weighted: Weighted::Inputs,
            ..RouterSpec::new(RouterScore::Sigmoid)
        };
        assert_eq!(super::router(&router), "sigmoid router, logits capped at 5, weights on the inputs");
    }

    #[test]
    fn keys_of_another_layer_are_told() {
        let shared = AttentionSpec { key_values: KeyValues::OfLayer(3), ..attention() };
        let told = mixer(&Mixer::Attention(shared));
        assert_eq!(told, "attention 8/2 heads of 64, full, no rope, keys and values of layer 3");
    }

    #[test]
    fn mlps_are_told_with_their_activation() {
        let wide = |activation| MlpSpec::new(256, activation);
        assert_eq!(feed_forward(&FeedForward::Gated(wide(Activation::Silu))), "gated MLP of 256, SiLU");
        assert_eq!(feed_forward(&FeedForward::Plain(wide(Activation::GeluTanh))), "MLP of 256, GELU (tanh)");
        let gating = Gating { limit: Some(7.0), up_offset: 1.0 };
        let bounded = MlpSpec { gating, ..wide(Activation::QuickGelu) };
        let told = "gated MLP of 256, quick GELU, clamped to 7, up + 1";
        assert_eq!(feed_forward(&FeedForward::Gated(bounded)), told);
        let moe = MoeSpec {
            num_experts: 4,
            num_experts_per_tok: 2,
            expert: wide(Activation::Silu),
            router: RouterSpec { normalize: Normalize::Sum, ..RouterSpec::new(RouterScore::Softmax) },
            shared_expert: Some(SharedExpert { mlp: wide(Activation::Silu), gate: true, norms: None }),
        };
        let told =
            "mixture, 2 of 4 experts of 256, SiLU, normalised softmax router, shared expert of 256 behind a gate";
        assert_eq!(feed_forward(&FeedForward::Moe(moe)), told);
        let all = RouterSpec {
            scale: Some(2.5),
            correction_bias: true,
            groups: Some(ExpertGroups { count: 4, chosen: 2, score: GroupScore::BestTwo }),
            ..RouterSpec::new(RouterScore::Sigmoid)
        };
        assert_eq!(router(&all), "sigmoid router, correction bias, 2 of 4 groups, weights scaled by 2.5");
        let groups = ExpertGroups { count: 8, chosen: 3, score: GroupScore::Best };
        let best = RouterSpec { groups: Some(groups), ..RouterSpec::new(RouterScore::Softmax) };
        assert_eq!(router(&best), "softmax router, 3 of 8 groups by their best expert");
        let some = RouterSpec { zero_experts: 4, ..RouterSpec::new(RouterScore::Softmax) };
        assert_eq!(router(&some), "softmax router, 4 choices that return their input");
    }

    #[test]
    fn places_of_norms_are_told() {
        let spec = NormSpec { kind: NormKind::Rms, eps: 1e-6 };
        let wide = MlpSpec::new(256, Activation::Silu);
        let told = |layer: fn(Mixer, FeedForward, NormSpec) -> LayerSpec| {
            norms(&layer(Mixer::Attention(attention()), FeedForward::Gated(wide.clone()), spec))
        };
        assert_eq!(told(LayerSpec::pre), "RMSNorm, before each block");
        assert_eq!(told(LayerSpec::post), "RMSNorm, after each block");
        assert_eq!(told(LayerSpec::post_add), "RMSNorm, on the sum after each block");
        assert_eq!(told(LayerSpec::sandwich), "RMSNorm, before and after each block");
        assert_eq!(told(LayerSpec::parallel_shared), "RMSNorm, one before the parallel blocks");
        assert_eq!(told(LayerSpec::parallel_split), "RMSNorm, one before each of the parallel blocks");
    }

    /// Names of Rust variants are written without spaces and with capitals inside.
    #[test]
    fn no_word_is_the_name_of_a_variant() {
        let yarn = YarnRope {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_position_embeddings: 1,
            attention_factor: 1.0,
            truncate: true,
        };
        let long = LongRope {
            short_factor: vec![1.0],
            long_factor: vec![1.0],
            original_max_position_embeddings: 1,
            attention_factor: 1.0,
            long_attention_factor: None,
            cache_valid_to: None,
        };
        let scalings = [RopeScaling::Default, RopeScaling::Yarn(yarn), RopeScaling::LongRope(long)];
        let kinds = [NormKind::Rms, NormKind::RmsProductInFloat32, NormKind::LayerNorm { bias: false }];
        let activations = [Activation::QuickGelu, Activation::Relu2, Activation::GeluTanh];
        let told = (scalings.iter().map(|one| (scaling(one), format!("{one:?}"))))
            .chain(kinds.map(|one| (norm(one).to_owned(), format!("{one:?}"))))
            .chain(activations.map(|one| (activation(one).to_owned(), format!("{one:?}"))));
        for (words, debug) in told {
            assert_ne!(words, debug);
            assert!(!words.contains(['{', '_']), "{words}");
        }
    }
}
