//! From the registry's vocabulary to the attention crate's, which knows nothing of ours.

use automodel_attention as attention;
use automodel_registry::spec;

pub(crate) fn mask(mask: spec::AttentionMask) -> attention::AttentionMask {
    match mask {
        spec::AttentionMask::Full => attention::AttentionMask::Full,
        spec::AttentionMask::Sliding { window } => attention::AttentionMask::Sliding { window },
        spec::AttentionMask::Chunked { size } => attention::AttentionMask::Chunked { size },
        spec::AttentionMask::Bidirectional => attention::AttentionMask::Bidirectional,
    }
}

pub(crate) fn rope(head_dim: usize, rope: &spec::RopeSpec) -> attention::RopeConfig {
    attention::RopeConfig {
        head_dim,
        rotary_dim: rope.rotary_dim,
        theta: rope.theta,
        pairing: match rope.pairing {
            spec::RopePairing::HalfSplit => attention::RopePairing::HalfSplit,
            spec::RopePairing::HalfSplitSwapped => attention::RopePairing::HalfSplitSwapped,
            spec::RopePairing::Interleaved => attention::RopePairing::Interleaved,
        },
        scaling: scaling(&rope.scaling),
    }
}

fn scaling(scaling: &spec::RopeScaling) -> attention::RopeScaling {
    use spec::RopeScaling as Spec;
    match scaling.clone() {
        Spec::Default => attention::RopeScaling::Default,
        Spec::Linear { factor } => attention::RopeScaling::Linear { factor },
        Spec::Dynamic { factor, original_max_position_embeddings } => {
            attention::RopeScaling::Dynamic { factor, original_max_position_embeddings }
        }
        Spec::Yarn(yarn) => attention::RopeScaling::Yarn {
            factor: yarn.factor,
            beta_fast: yarn.beta_fast,
            beta_slow: yarn.beta_slow,
            original_max_position_embeddings: yarn.original_max_position_embeddings,
            attention_factor: yarn.attention_factor,
            truncate: yarn.truncate,
        },
        Spec::LongRope(long) => attention::RopeScaling::LongRope {
            short_factor: long.short_factor,
            long_factor: long.long_factor,
            original_max_position_embeddings: long.original_max_position_embeddings,
            attention_factor: long.attention_factor,
            long_attention_factor: long.long_attention_factor,
        },
        Spec::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            attention::RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }
        }
        Spec::Proportional { factor, head_dim } => attention::RopeScaling::Proportional { factor, head_dim },
    }
}
