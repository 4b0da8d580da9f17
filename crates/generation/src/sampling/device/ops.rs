//! The operation behind the sampler: a backend extension.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};
use burn_cubecl::CubeBackend;

use super::{launch, rules::Rules};

/// The choice of tokens by a kernel.
#[backend_extension(Cube: cfg(feature = "cube"), Fusion: cfg(feature = "cube"))]
pub(crate) trait ChooseOps: Backend {
    /// Chooses a token for each row of float32 `logits` `[rows, vocab]`; writes them to `tokens` and notes them in `seen`, and hands
    /// back the same memory. The integers are 32 bits wide.
    ///
    /// `tokens` is `[rows]` and gets -1 where no token can be chosen. `seen` is `[rows * ceil(vocab / 32)]`, a bit for each token, and
    /// `uniforms` has random words, of which that at `first_uniform` is for the first row; what rules do not ask for is not
    /// looked at.
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
