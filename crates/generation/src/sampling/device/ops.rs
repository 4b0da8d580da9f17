//! The operation behind the sampler: a backend extension.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn_cubecl::CubeBackend;

use super::{launch, rules::Rules};

/// Sampling by a kernel.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait ChooseOps: Backend {
    /// Samples a token for each row of float32 `logits` `[rows, vocab]`; writes them to `tokens` and sets their bits in `seen`, and
    /// returns the same memory. The integers are 32 bits wide.
    ///
    /// `tokens` is `[rows]` and gets -1 if no token can be sampled. `seen` is `[rows * ceil(vocab / 32)]`, a bit for each token, and
    /// `uniforms` has random words, of which that at `first_uniform` is for the first row. Inputs that the rules do not need are
    /// not read.
    #[fusion(meta = |_logits, tokens, seen, _uniforms, _first_uniform, _rules| (tokens.clone(), seen.clone()))]
    fn choose_tokens(
        logits: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        seen: IntTensor<Self>,
        uniforms: IntTensor<Self>,
        first_uniform: usize,
        rules: Rules,
    ) -> (IntTensor<Self>, IntTensor<Self>);
}

impl ChooseOps for CubeBackend {
    fn choose_tokens(
        logits: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        seen: IntTensor<Self>,
        uniforms: IntTensor<Self>,
        first_uniform: usize,
        rules: Rules,
    ) -> (IntTensor<Self>, IntTensor<Self>) {
        launch::choose(logits, &tokens, &seen, &uniforms, first_uniform, rules);
        (tokens, seen)
    }
}
