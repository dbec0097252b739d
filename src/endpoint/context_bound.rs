//! Whether a request surely cannot fit into a model's context, known before it is sent and without its tokenizer.

use super::Request;

/// Letters and digits that one token holds at most, in a text without spaces. No vocabulary in use comes near it for
/// more than a few tokens; the price of a wrong refusal is a row that could have been answered.
const CHARACTERS_A_TOKEN: usize = 32;

/// Tokens that the request takes at least, prompt and `max_tokens` together: a lower bound for any tokenizer that
/// splits at spaces, as those of all usual models do. Every word is one token at least, whatever the vocabulary; English
/// takes about 1.3 tokens a word. What this bound lets through, the server refuses itself.
pub(super) fn least_tokens(request: &Request) -> u64 {
    let prompt: u64 = request.messages.iter().map(|message| least_tokens_of(&message.content)).sum();
    prompt + u64::from(request.parameters.max_tokens.unwrap_or(0))
}

fn least_tokens_of(text: &str) -> u64 {
    let letters = |word: &str| word.chars().filter(|c| c.is_alphanumeric()).count();
    text.split_whitespace().map(|word| letters(word).div_ceil(CHARACTERS_A_TOKEN) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_counts_words_and_very_long_words_by_their_length() {
        assert_eq!(least_tokens_of("Why is the sky blue?"), 5);
        assert_eq!(least_tokens_of("  ---   \n\n ***** "), 0, "a run of signs may be one token or none");
        assert_eq!(least_tokens_of(&"a".repeat(3200)), 100);
        assert_eq!(least_tokens_of(""), 0);
    }
}
