//! The forward pass of a llama-architecture model over quantized weights, on one core.
//! In: token ids and a cache of the keys and values before them. Out: the last token's hidden state or logits.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, gguf_file};
use candle_core::{DType, Device, Module, Result, Tensor, bail};

/// Keys and values are kept in steps of this many positions, so that a growing answer is seldom copied.
const CACHE_STEP: usize = 128;

/// From so many rows on a quantized product is slower than turning the matrix into floats first: candle's Q8_0
/// kernel makes 7 billion products a second for any number of rows, its float kernel 23 billion from 16 rows on,
/// and the turning costs 0.7 ns a weight (measured, AVX-512).
const FLOAT_ROWS: usize = 8;

/// The weights, shared by every worker.
///
/// The pass is written over candle's quantized matrix product instead of
/// `candle_transformers::models::quantized_llama` for three reasons: that cache cannot be truncated, so no prompt
/// could reuse another's prefix; it copies all keys and values (three times over for grouped heads) at each token;
/// and its softmax, norms and rotations go through rayon's global pool, where the workers would queue.
pub(super) struct Llama {
    embeddings: QMatMul,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: QMatMul,
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    norm_epsilon: f32,
    rotation: Rotation,
    /// The longest context that the model was trained for, in tokens.
    pub(super) context_length: usize,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: QMatMul,
    key: QMatMul,
    value: QMatMul,
    attention_output: QMatMul,
    ffn_norm: Vec<f32>,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

/// Inverse frequencies of the rotary position embedding (Su et al. 2021, RoFormer), in the interleaved order that
/// GGUF files of llama models use.
struct Rotation {
    inverse_frequencies: Vec<f32>,
}

impl Rotation {
    /// The angles' cosines and sines at `position`.
    fn at(&self, position: usize) -> Vec<(f32, f32)> {
        self.inverse_frequencies
            .iter()
            .map(|frequency| {
                let angle = position as f32 * frequency;
                (angle.cos(), angle.sin())
            })
            .collect()
    }
}

fn rotate(head: &mut [f32], angles: &[(f32, f32)]) {
    for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
        let (even, odd) = (pair[0], pair[1]);
        pair[0] = even * cos - odd * sin;
        pair[1] = even * sin + odd * cos;
    }
}

/// Keys and values of the tokens fed so far.
pub(super) struct KvCache {
    /// A layer's keys and values, each (kv heads, capacity, head width).
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
    capacity: usize,
}

impl KvCache {
    pub(super) fn new() -> Self {
        KvCache { layers: Vec::new(), len: 0, capacity: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many positions have memory.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A cache of its own of the first `len` tokens.
    pub(super) fn copy(&self, len: usize) -> Result<KvCache> {
        let len = len.min(self.len);
        let capacity = (len.div_ceil(CACHE_STEP) * CACHE_STEP).min(self.capacity);
        let copied = |tensor: &Tensor| tensor.narrow(1, 0, capacity)?.force_contiguous();
        let layers =
            self.layers.iter().map(|(keys, values)| Ok((copied(keys)?, copied(values)?))).collect::<Result<_>>()?;
        Ok(KvCache { layers, len, capacity })
    }

    fn reserve(&mut self, model: &Llama, len: usize) -> Result<()> {
        if len <= self.capacity {
            return Ok(());
        }
        let capacity = len.div_ceil(CACHE_STEP) * CACHE_STEP;
        let shape = (model.kv_heads, capacity, model.head_dim);
        let mut layers = Vec::with_capacity(model.layers.len());
        for index in 0..model.layers.len() {
            let grown = |old: Option<&Tensor>| -> Result<Tensor> {
                let new = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
                if let Some(old) = old
                    && self.len > 0
                {
                    new.slice_set(&old.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
                }
                Ok(new)
            };
            let old = self.layers.get(index);
            layers.push((grown(old.map(|(keys, _)| keys))?, grown(old.map(|(_, values)| values))?));
        }
        self.layers = layers;
        self.capacity = capacity;
        Ok(())
    }
}

impl Llama {
    /// Reads the weights out of a GGUF file of architecture `llama`.
    pub(super) fn from_gguf<R: std::io::Read + std::io::Seek>(
        content: &gguf_file::Content,
        file: &mut R,
    ) -> Result<Llama> {
        let metadata = |key: &str| match content.metadata.get(key) {
            Some(value) => Ok(value),
            None => bail!("the GGUF file has no {key}"),
        };
        let architecture = metadata("general.architecture")?.to_string()?;
        if architecture != "llama" {
            bail!("the GGUF file holds a {architecture} model; the embedded engine runs the architecture llama");
        }
        let count = |key: &str| -> Result<usize> { Ok(metadata(key)?.to_u64()? as usize) };
        let experts = count("llama.expert_count").unwrap_or(0);
        if experts > 1 {
            bail!("the GGUF file is a mixture of {experts} experts; the embedded engine runs dense models only");
        }
        let width = count("llama.embedding_length")?;
        let heads = count("llama.attention.head_count")?;
        let kv_heads = count("llama.attention.head_count_kv").unwrap_or(heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) || !width.is_multiple_of(heads) {
            bail!("the GGUF file's {heads} heads, {kv_heads} key-value heads and width {width} do not fit together");
        }
        let head_dim = width / heads;
        let rotated = count("llama.rope.dimension_count").unwrap_or(head_dim).min(head_dim);
        let base = metadata("llama.rope.freq_base").and_then(|value| value.to_f32()).unwrap_or(10_000.0);
        let inverse_frequencies = (0..rotated).step_by(2).map(|i| 1.0 / base.powf(i as f32 / rotated as f32)).collect();

        let mut tensor = |name: &str| content.tensor(file, name, &Device::Cpu);
        let embeddings = Arc::new(tensor("token_embd.weight")?);
        let output = match content.tensor_infos.contains_key("output.weight") {
            true => Arc::new(tensor("output.weight")?),
            false => Arc::clone(&embeddings),
        };
        let mut layers = Vec::new();
        for index in 0..count("llama.block_count")? {
            let mut matrix = |name: &str| tensor(&format!("blk.{index}.{name}.weight")).and_then(QMatMul::from_qtensor);
            let (query, key, value) = (matrix("attn_q")?, matrix("attn_k")?, matrix("attn_v")?);
            let (attention_output, gate) = (matrix("attn_output")?, matrix("ffn_gate")?);
            let (up, down) = (matrix("ffn_up")?, matrix("ffn_down")?);
            let mut norm = |name: &str| -> Result<Vec<f32>> {
                tensor(&format!("blk.{index}.{name}.weight"))?.dequantize(&Device::Cpu)?.to_vec1()
            };
            let (attention_norm, ffn_norm) = (norm("attn_norm")?, norm("ffn_norm")?);
            layers.push(Layer { attention_norm, query, key, value, attention_output, ffn_norm, gate, up, down });
        }
        Ok(Llama {
            norm: tensor("output_norm.weight")?.dequantize(&Device::Cpu)?.to_vec1()?,
            embeddings: QMatMul::from_arc(embeddings)?,
            output: QMatMul::from_arc(output)?,
            layers,
            width,
            heads,
            kv_heads,
            head_dim,
            norm_epsilon: metadata("llama.attention.layer_norm_rms_epsilon")?.to_f32()?,
            rotation: Rotation { inverse_frequencies },
            context_length: count("llama.context_length")?,
        })
    }

    /// Appends `tokens` (at least one) to the cache and returns the last one's hidden state.
    pub(super) fn feed(&self, cache: &mut KvCache, tokens: &[u32]) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            bail!("no tokens to feed");
        }
        let (start, n) = (cache.len, tokens.len());
        cache.reserve(self, start + n)?;
        let angles: Vec<_> = (start..start + n).map(|position| self.rotation.at(position)).collect();
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut states = self.embeddings.embedding(&ids)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (layer, (keys, values)) in self.layers.iter().zip(&cache.layers) {
            let normed = self.normed(&states, &layer.attention_norm)?;
            let attended = self.attend(layer, keys, values, &normed, start, &angles)?;
            add(&mut states, &product(&layer.attention_output, &attended)?)?;
            let normed = self.normed(&states, &layer.ffn_norm)?;
            let gated = (product(&layer.gate, &normed)?.silu()? * product(&layer.up, &normed)?)?;
            add(&mut states, &product(&layer.down, &gated)?)?;
        }
        cache.len = start + n;
        Ok(states.split_off((n - 1) * self.width))
    }

    /// One score for each token of the vocabulary, from a hidden state of `feed`.
    pub(super) fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        self.output.forward(&self.normed(hidden, &self.norm)?)?.flatten_all()?.to_vec1()
    }

    /// Root-mean-square norm (Zhang and Sennrich 2019) of each row of `width`: (rows, width).
    fn normed(&self, states: &[f32], weight: &[f32]) -> Result<Tensor> {
        let mut normed = Vec::with_capacity(states.len());
        for row in states.chunks_exact(self.width) {
            let mean_square = row.iter().map(|x| x * x).sum::<f32>() / self.width as f32;
            let scale = 1.0 / (mean_square + self.norm_epsilon).sqrt();
            normed.extend(row.iter().zip(weight).map(|(x, w)| x * scale * w));
        }
        let rows = states.len() / self.width;
        Tensor::from_vec(normed, (rows, self.width), &Device::Cpu)
    }

    /// Causal attention with grouped key-value heads: (rows, width).
    fn attend(
        &self,
        layer: &Layer,
        keys: &Tensor,
        values: &Tensor,
        normed: &Tensor,
        start: usize,
        angles: &[Vec<(f32, f32)>],
    ) -> Result<Tensor> {
        let (n, width, head_dim) = (angles.len(), self.head_dim * self.heads, self.head_dim);
        let by_head = |projected: Tensor, heads: usize, rotated: bool| -> Result<Vec<f32>> {
            let mut rows = projected.flatten_all()?.to_vec1::<f32>()?;
            if rotated {
                for (row, angles) in rows.chunks_exact_mut(heads * head_dim).zip(angles) {
                    row.chunks_exact_mut(head_dim).for_each(|head| rotate(head, angles));
                }
            }
            Ok(transposed(&rows, n, heads, head_dim))
        };
        let query = by_head(product(&layer.query, normed)?, self.heads, true)?;
        let key = by_head(product(&layer.key, normed)?, self.kv_heads, true)?;
        let value = by_head(product(&layer.value, normed)?, self.kv_heads, false)?;
        keys.slice_set(&Tensor::from_vec(key, (self.kv_heads, n, head_dim), &Device::Cpu)?, 1, start)?;
        values.slice_set(&Tensor::from_vec(value, (self.kv_heads, n, head_dim), &Device::Cpu)?, 1, start)?;

        // The heads of a group share keys and values: as rows of one product nothing is copied.
        let len = start + n;
        let grouped = (self.kv_heads, self.heads / self.kv_heads * n, head_dim);
        let query = Tensor::from_vec(query, grouped, &Device::Cpu)?;
        let mut scores = query.matmul(&keys.narrow(1, 0, len)?.t()?)?.flatten_all()?.to_vec1::<f32>()?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (row, scores) in scores.chunks_exact_mut(len).enumerate() {
            softmax(scores, start + row % n + 1, scale);
        }
        let scores = Tensor::from_vec(scores, (self.kv_heads, grouped.1, len), &Device::Cpu)?;
        let attended = scores.matmul(&values.narrow(1, 0, len)?)?.flatten_all()?.to_vec1::<f32>()?;
        Tensor::from_vec(transposed(&attended, self.heads, n, head_dim), (n, width), &Device::Cpu)
    }
}

/// Rows times a weight matrix: (rows, outputs).
fn product(weight: &QMatMul, rows: &Tensor) -> Result<Tensor> {
    match weight {
        QMatMul::QTensor(quantized) if rows.dim(0)? >= FLOAT_ROWS => {
            let weight = quantized.dequantize(&Device::Cpu)?;
            weight.matmul(&rows.t()?)?.t()?.contiguous()
        }
        _ => weight.forward(rows),
    }
}

fn add(states: &mut [f32], change: &Tensor) -> Result<()> {
    for (state, change) in states.iter_mut().zip(change.flatten_all()?.to_vec1::<f32>()?) {
        *state += change;
    }
    Ok(())
}

/// (outer, inner, width) to (inner, outer, width).
fn transposed(rows: &[f32], outer: usize, inner: usize, width: usize) -> Vec<f32> {
    if outer == 1 || inner == 1 {
        return rows.to_vec();
    }
    let mut result = vec![0.0; rows.len()];
    for (i, row) in rows.chunks_exact(width).enumerate() {
        let target = (i % inner * outer + i / inner) * width;
        result[target..target + width].copy_from_slice(row);
    }
    result
}

/// Softmax over the first `visible` scores; a query sees nothing after itself.
fn softmax(scores: &mut [f32], visible: usize, scale: f32) {
    let (seen, unseen) = scores.split_at_mut(visible);
    let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in seen.iter_mut() {
        *score = ((*score - max) * scale).exp();
        sum += *score;
    }
    seen.iter_mut().for_each(|score| *score /= sum);
    unseen.fill(0.0);
}
