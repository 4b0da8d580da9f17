//! A walk over the projections that may be quantised.

use crate::{Attention, Decoder, DecoderLayer, FeedForward, GatedMlp, Linear, MixerModule, PlainMlp, SparseMoe};

/// Modules with projections.
pub(crate) trait Linears {
    /// Calls `visit` with the path of each projection below `path`, and the projection.
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear));
}

/// Visits fields by name.
macro_rules! visit_fields {
    ($self:ident, $path:ident, $visit:ident: $($field:ident)*) => {
        $($visit(&format!("{}.{}", $path, stringify!($field)), &mut $self.$field);)*
    };
}

impl Linears for Attention {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        visit_fields!(self, path, visit: q_proj k_proj v_proj o_proj);
    }
}

impl Linears for GatedMlp {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        visit_fields!(self, path, visit: gate_proj up_proj down_proj);
    }
}

impl Linears for PlainMlp {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        visit_fields!(self, path, visit: up_proj down_proj);
    }
}

impl Linears for SparseMoe {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, expert) in self.experts_mut().iter_mut().enumerate() {
            expert.for_each_linear(&format!("{path}.experts.{index}"), visit);
        }
        if let Some(shared) = &mut self.shared_expert {
            shared.for_each_linear(&format!("{path}.shared_expert"), visit);
        }
        if let Some(gate) = &mut self.shared_expert_gate {
            visit(&format!("{path}.shared_expert_gate"), gate);
        }
    }
}

impl Linears for DecoderLayer {
    fn for_each_linear(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        let MixerModule::Attention(attention) = &mut self.self_attn;
        attention.for_each_linear(&format!("{path}.self_attn"), visit);
        let path = format!("{path}.mlp");
        match &mut self.mlp {
            FeedForward::Gated(mlp) => mlp.for_each_linear(&path, visit),
            FeedForward::Plain(mlp) => mlp.for_each_linear(&path, visit),
            FeedForward::Moe(moe) => moe.for_each_linear(&path, visit),
        }
    }
}

impl Linears for Decoder {
    fn for_each_linear(&mut self, _path: &str, visit: &mut dyn FnMut(&str, &mut Linear)) {
        for (index, layer) in self.model.layers.iter_mut().enumerate() {
            layer.for_each_linear(&format!("model.layers.{index}"), visit);
        }
        visit("lm_head", &mut self.lm_head);
    }
}
