//! Attention in plain loops and float64, and the cases that are computed both ways.

use automodel_attention::{Alibi, AttentionError, AttentionMask, AttentionParams, Positions, SdpaBackend, attention};
use burn::tensor::{DType, Device, Tensor, TensorData, bf16};

/// One call of attention.
#[derive(Clone, Debug)]
pub struct Case {
    pub batch: usize,
    pub kv_heads: usize,
    pub group: usize,
    pub queries: usize,
    pub keys: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub sinks: bool,
    pub params: AttentionParams,
    pub positions: Positions,
    pub seed: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            batch: 2,
            kv_heads: 2,
            group: 3,
            queries: 7,
            keys: 7,
            head_dim: 8,
            value_dim: 5,
            sinks: false,
            params: AttentionParams::new(0.4, AttentionMask::Full),
            positions: Positions::default(),
            seed: 1,
        }
    }
}

/// Numbers in -2 .. 2 (a linear congruential generator).
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0 - 2.0
        })
        .collect()
}

impl Case {
    pub fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn q(&self) -> Vec<f32> {
        numbers(self.batch * self.heads() * self.queries * self.head_dim, self.seed)
    }

    fn k(&self) -> Vec<f32> {
        numbers(self.batch * self.kv_heads * self.keys * self.head_dim, self.seed + 1)
    }

    fn v(&self) -> Vec<f32> {
        numbers(self.batch * self.kv_heads * self.keys * self.value_dim, self.seed + 2)
    }

    fn sink_values(&self) -> Option<Vec<f32>> {
        self.sinks.then(|| numbers(self.heads(), self.seed + 3))
    }

    /// The output of the crate, in float32.
    pub fn compute(&self, backend: SdpaBackend, dtype: DType, device: &Device) -> Result<Vec<f32>, AttentionError> {
        let tensor = |values: Vec<f32>, shape: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values, shape), (device, DType::F32)).cast(dtype)
        };
        let q = tensor(self.q(), [self.batch, self.heads(), self.queries, self.head_dim]);
        let k = tensor(self.k(), [self.batch, self.kv_heads, self.keys, self.head_dim]);
        let v = tensor(self.v(), [self.batch, self.kv_heads, self.keys, self.value_dim]);
        let sinks = self.sink_values().map(|sinks| {
            Tensor::<1>::from_data(TensorData::new(sinks, [self.heads()]), (device, DType::F32)).cast(dtype)
        });
        let output = attention(backend, q, k, v, sinks, &self.params, &self.positions)?;
        assert_eq!(output.dims(), [self.batch, self.heads(), self.queries, self.value_dim]);
        assert_eq!(output.dtype(), dtype);
        Ok(output.cast(DType::F32).into_data().try_to_vec().expect("float32 was asked for"))
    }

    /// Whether the mask shows key `j` to query `i`, both absolute, by the definitions of transformers'
    /// `masking_utils.py`.
    fn sees(&self, row: usize, i: usize, j: usize) -> bool {
        let padding = self.positions.padding.get(row).copied().unwrap_or(0);
        let (i, j, padding) = (i as i64, j as i64, padding as i64);
        let overlay = match self.params.mask {
            AttentionMask::Full | AttentionMask::Bidirectional => true,
            AttentionMask::Sliding { window } => j > i - window as i64,
            AttentionMask::Chunked { size } => {
                (j - padding).div_euclid(size as i64) == (i - padding).div_euclid(size as i64)
            }
        };
        let causal = self.params.mask != AttentionMask::Bidirectional;
        (j <= i || !causal) && j >= padding && i >= padding && overlay
    }

    /// The same by definition.
    pub fn expected(&self) -> Vec<f64> {
        let (q, k, v, sinks) = (self.q(), self.k(), self.v(), self.sink_values());
        let mut output = Vec::new();
        for row in 0..self.batch {
            for head in 0..self.heads() {
                let kv_head = row * self.kv_heads + head / self.group;
                for query in 0..self.queries {
                    let q_start = ((row * self.heads() + head) * self.queries + query) * self.head_dim;
                    let mut scores = Vec::new();
                    for key in 0..self.keys {
                        let k_start = (kv_head * self.keys + key) * self.head_dim;
                        let dot: f64 =
                            (0..self.head_dim).map(|d| f64::from(q[q_start + d]) * f64::from(k[k_start + d])).sum();
                        let mut score = dot * self.params.scale;
                        if let Some(cap) = self.params.softcap {
                            score = cap * (score / cap).tanh();
                        }
                        let (i, j) = (self.positions.query_start + query, self.positions.key_start + key);
                        if let Some(alibi) = self.params.alibi {
                            let position = j.saturating_sub(self.positions.row_padding(row));
                            let slope = f64::from(Alibi::slopes(self.heads())[head]);
                            score += if alibi.in_bfloat16 {
                                // Whole numbers below 256 and slopes of few bits: the product alone is rounded.
                                alibi.factor
                                    * f64::from(bf16::from_f64(f64::from(bf16::from_f64(slope)) * position as f64))
                            } else {
                                alibi.factor * slope * position as f64
                            };
                        }
                        scores.push(if self.sees(row, i, j) { score } else { f64::NEG_INFINITY });
                    }
                    let sink = sinks.as_ref().map(|sinks| f64::from(sinks[head]));
                    let weights = softmax(&scores, sink);
                    for d in 0..self.value_dim {
                        let value = |key: usize| f64::from(v[(kv_head * self.keys + key) * self.value_dim + d]);
                        output.push(weights.iter().enumerate().map(|(key, weight)| weight * value(key)).sum());
                    }
                }
            }
        }
        output
    }

    /// Computes with a backend and compares.
    pub fn check(&self, backend: SdpaBackend, dtype: DType, tolerance: f64, device: &Device) {
        let found = self.compute(backend, dtype, device).unwrap_or_else(|error| panic!("{backend}: {error}: {self:?}"));
        let expected = self.expected();
        assert_eq!(found.len(), expected.len());
        for (index, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
            let error = (f64::from(found) - expected).abs();
            // Written so that NaN fails.
            assert!(error <= tolerance, "{backend}, {dtype:?}: [{index}] is {found}, expected {expected}: {self:?}");
        }
    }
}

fn softmax(scores: &[f64], sink: Option<f64>) -> Vec<f64> {
    let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return vec![0.0; scores.len()];
    }
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink - max).exp());
    weights.into_iter().map(|weight| weight / sum).collect()
}
