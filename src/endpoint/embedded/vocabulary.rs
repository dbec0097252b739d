//! The tokenizer of a GGUF file and the bytes behind each of its tokens.
//! In: text. Out: token ids; and for the grammar, which ids spell which bytes.

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{PostProcessorWrapper, Tokenizer};
use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// GGUF's token type of ordinary text (`LLAMA_TOKEN_TYPE_NORMAL`).
const NORMAL: u64 = 1;

pub(super) struct Vocabulary {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl Vocabulary {
    /// Reads a byte-level BPE tokenizer (`tokenizer.ggml.model = gpt2`); the error says what the file lacks.
    pub(super) fn from_gguf(content: &Content) -> Result<Vocabulary, String> {
        let mut tokenizer = Tokenizer::from_gguf(content).map_err(|e| format!("the GGUF file's tokenizer: {e}"))?;
        let pre = content.metadata.get("tokenizer.ggml.pre").and_then(|pre| pre.to_string().ok());
        if let Some(pre_tokenizer) = pre_tokenizer(pre.map_or("gpt-2", String::as_str)) {
            tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        }
        tokenizer.with_post_processor(None::<PostProcessorWrapper>);
        // `<|im_end|>` in a data set's text is text, not the end of a turn.
        tokenizer.set_encode_special_tokens(true);

        let array = |key: &str| match content.metadata.get(key) {
            Some(Value::Array(values)) => Ok(values.as_slice()),
            _ => Err(format!("the GGUF file has no list {key}")),
        };
        let tokens = array("tokenizer.ggml.tokens")?;
        let types = array("tokenizer.ggml.token_type").unwrap_or_default();
        let bytes_of = byte_alphabet();
        let spelled = |(id, token): (usize, &Value)| -> Result<Vec<u8>, String> {
            let token = token.to_string().map_err(|_| format!("token {id} of the GGUF file is no text"))?;
            let normal = types.get(id).is_none_or(|kind| integer(kind) == Some(NORMAL));
            let bytes: Option<Vec<u8>> = token.chars().map(|c| bytes_of.get(c as usize).copied().flatten()).collect();
            Ok(match bytes.filter(|_| normal) {
                Some(bytes) => bytes,
                None => [&[TokTrie::SPECIAL_TOKEN_MARKER], token.as_bytes()].concat(),
            })
        };
        let words = tokens.iter().enumerate().map(spelled).collect::<Result<Vec<_>, _>>()?;
        let eos = content.metadata.get("tokenizer.ggml.eos_token_id").and_then(integer);
        let eos = eos.filter(|id| (*id as usize) < words.len());
        let eos = eos.ok_or("the GGUF file names no end-of-text token (tokenizer.ggml.eos_token_id)")?;
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, eos as u32), &words);
        Ok(Vocabulary { tokenizer, trie })
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|e| format!("the prompt: {e}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The bytes of an ordinary token; `None` for a special one, which ends free text.
    pub(super) fn bytes(&self, token: u32) -> Option<&[u8]> {
        let known = (token as usize) < self.trie.vocab_size() && !self.trie.is_special_token(token);
        known.then(|| self.trie.token(token))
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.encode(text).unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }
}

fn integer(value: &Value) -> Option<u64> {
    value.to_u64().ok().or_else(|| value.to_i32().ok().and_then(|i| u64::try_from(i).ok()))
}

/// How llama.cpp splits text for a `tokenizer.ggml.pre` (src/llama-vocab.cpp, `llm_tokenizer_bpe`), for the kinds
/// where candle would put a space before the text.
fn pre_tokenizer(pre: &str) -> Option<PreTokenizerWrapper> {
    let byte_level = ByteLevel::new(false, true, true);
    match pre {
        "qwen2" | "smaug-bpe" | "lfm2" | "llama3" => None,
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            Some(Sequence::new(vec![Digits::new(true).into(), byte_level.into()]).into())
        }
        _ => Some(byte_level.into()),
    }
}

/// The byte that a character of a byte-level vocabulary stands for, by code point (GPT-2's `bytes_to_unicode`).
pub(super) fn byte_alphabet() -> Vec<Option<u8>> {
    let mut bytes = vec![None; 0x200];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            bytes[byte as usize] = Some(byte);
        } else {
            bytes[next] = Some(byte);
            next += 1;
        }
    }
    bytes
}
