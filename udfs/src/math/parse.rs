//! Tokens to a [`MathKey`]: sets, tuples, intervals, equations and inequalities around expressions with a value.

use super::expression::{is_command, value};
use super::latex::{Token, answer_part, tokens};
use super::polynomial::Polynomial;
use crate::same_text::AnswerKey;

/// What a mathematical answer is compared by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum MathKey {
    Value(Value),
    /// Several values in any order: `1, 2`, `\{1, 2\}`, `x = \pm 1`.
    Set(Vec<MathKey>),
    /// Values in an order, with their brackets: points, tuples and intervals.
    Ordered(char, Vec<MathKey>, char),
    /// `A \cup B`, in any order.
    Union(Vec<MathKey>),
    /// `left < right` and its kin, as a sum compared with 0.
    Relation(&'static str, Value),
    /// What has no value: compared as `same_text` does.
    Text(String),
    /// A number beyond what is computed with.
    Long(String),
}

/// The normal form of an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value(Polynomial);

const MAX_LENGTH: usize = 2000;
/// Each `\pm` doubles the values.
const MAX_SIGNS: usize = 3;

impl MathKey {
    pub fn of(text: &str) -> Self {
        let as_text = || match AnswerKey::of(text) {
            AnswerKey::Number(number) => MathKey::Long(format!("{number:?}")),
            AnswerKey::Text(text) | AnswerKey::Exact(text) => MathKey::Text(text),
        };
        if text.len() > MAX_LENGTH {
            return as_text();
        }
        let part = answer_part(text);
        let tokens = tokens(part);
        if let [Token::Text(text)] = tokens.as_slice() {
            return MathKey::of_words(text);
        }
        let formula = |token: &Token| match token {
            Token::Number(_) => true,
            Token::Command(name) => name != "{" && name != "}",
            Token::Sign(sign) => matches!(sign, '+' | '*' | '/' | '^' | '=' | '<' | '>' | '≤' | '≥' | '√' | '∞'),
            Token::Letter('π') => true,
            _ => false,
        };
        // Words alone are words: '(A)', 'no', 'x'.
        if !tokens.iter().any(formula) {
            return if part.len() == text.len() { as_text() } else { MathKey::of_words(part) };
        }
        key(&tokens).unwrap_or_else(|| if part.len() == text.len() { as_text() } else { MathKey::of_words(part) })
    }

    fn of_words(text: &str) -> Self {
        match AnswerKey::of(text) {
            // A number in `\text{}` is a number.
            AnswerKey::Number(number) => key(&tokens(text)).unwrap_or_else(|| MathKey::Long(format!("{number:?}"))),
            AnswerKey::Text(text) | AnswerKey::Exact(text) => MathKey::Text(text),
        }
    }

    fn set(mut items: Vec<MathKey>) -> Self {
        items.sort();
        items.dedup();
        match items.len() {
            1 => items.remove(0),
            _ => MathKey::Set(items),
        }
    }
}

/// The key of a whole answer, or None where it is no mathematics that is read here.
fn key(tokens: &[Token]) -> Option<MathKey> {
    let unions = split(tokens, |token| is_command(token, "cup") || *token == Token::Sign('∪'));
    if unions.len() > 1 {
        let mut parts = unions.into_iter().map(item).collect::<Option<Vec<_>>>()?;
        parts.sort();
        return Some(MathKey::Union(parts));
    }
    let separates = |token: &Token| match token {
        Token::Sign(',' | ';') => true,
        Token::Text(word) | Token::Word(word) => {
            matches!(word.trim_matches([',', ' ']).to_lowercase().as_str(), "and" | "or")
        }
        _ => false,
    };
    let items = split(tokens, separates);
    match items.as_slice() {
        [one] => item(one),
        // 'x = 1, 2': the name stands once. 'a, and b' leaves nothing between comma and 'and'.
        _ => Some(MathKey::set(
            items.into_iter().filter(|tokens| !tokens.is_empty()).map(item).collect::<Option<Vec<_>>>()?,
        )),
    }
}

/// The parts between separators that stand in no bracket.
fn split(tokens: &[Token], separates: impl Fn(&Token) -> bool) -> Vec<&[Token]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0i32);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Command(name) if name == "{" => depth += 1,
            Token::Command(name) if name == "}" => depth -= 1,
            _ if depth == 0 && separates(token) => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

fn item(tokens: &[Token]) -> Option<MathKey> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    let inside = tokens.get(1..tokens.len() - 1).unwrap_or_default();
    if is_command(first, "{") && is_command(last, "}") {
        let items = split(inside, |token| *token == Token::Sign(','));
        return Some(MathKey::set(items.into_iter().map(item).collect::<Option<Vec<_>>>()?));
    }
    if let (Token::Sign(open @ ('(' | '[')), Token::Sign(close @ (')' | ']'))) = (first, last) {
        let items = split(inside, |token| *token == Token::Sign(','));
        if items.len() > 1 {
            return Some(MathKey::Ordered(*open, items.into_iter().map(item).collect::<Option<Vec<_>>>()?, *close));
        }
    }
    relation(tokens)
}

/// The sign of a relation, and whether its sides change places.
fn relation_sign(token: &Token) -> Option<(&'static str, bool)> {
    Some(match token {
        Token::Sign('=') => ("=", false),
        Token::Sign('<') => ("<", false),
        Token::Sign('>') => ("<", true),
        Token::Sign('≤') => ("<=", false),
        Token::Sign('≥') => ("<=", true),
        Token::Sign('≠') => ("!=", false),
        Token::Command(name) => match name.as_str() {
            "lt" => ("<", false),
            "gt" => ("<", true),
            "le" | "leq" | "leqslant" => ("<=", false),
            "ge" | "geq" | "geqslant" => ("<=", true),
            "ne" | "neq" => ("!=", false),
            "in" => ("in", false),
            _ => return None,
        },
        _ => return None,
    })
}

fn relation(tokens: &[Token]) -> Option<MathKey> {
    let Some(at) = tokens.iter().position(|token| relation_sign(token).is_some()) else { return plus_minus(tokens) };
    let (mut sign, swapped) = relation_sign(&tokens[at])?;
    let mut start = at + 1;
    // '<=' typed as two signs.
    if sign == "<" && tokens.get(start) == Some(&Token::Sign('=')) {
        (sign, start) = ("<=", start + 1);
    }
    let (left, right) = (&tokens[..at], &tokens[start..]);
    if matches!(sign, "=" | "in") && names_a_thing(left) {
        return key(right);
    }
    if let Some(next) = right.iter().position(|token| relation_sign(token).is_some()) {
        if sign == "=" {
            // 'a = b = c' says c.
            return relation(&right[next + 1..]);
        }
        // 'a < x < b' is both.
        let both = [&tokens[..start + next], right];
        return Some(MathKey::set(both.into_iter().map(relation).collect::<Option<Vec<_>>>()?));
    }
    let (left, right) = (value(left)?, value(right)?);
    if sign == "=" && left == right {
        return Some(MathKey::Value(Value(right)));
    }
    let (less, more) = if swapped { (right, left) } else { (left, right) };
    let (scale, scaled) = less.minus(&more)?.scaled()?;
    Some(match sign {
        "=" | "!=" => MathKey::Relation(sign, Value(scaled)),
        // Dividing by what is negative would turn the sign around.
        _ => MathKey::Relation(sign, Value(if scale.above < 0 { scaled.negated() } else { scaled })),
    })
}

/// `x`, `f(x)`, `\angle ABC`, `area`: what an answer is said to be the value of.
fn names_a_thing(tokens: &[Token]) -> bool {
    let is_name = |token: &Token| match token {
        Token::Letter(_) | Token::Word(_) | Token::Text(_) => true,
        Token::Command(name) => !matches!(name.as_str(), "frac" | "sqrt" | "dfrac" | "tfrac" | "cdot" | "times"),
        Token::Sign('(' | ')' | '_' | '{' | '}' | '\'') => true,
        _ => false,
    };
    let letters = tokens.iter().filter(|token| matches!(token, Token::Letter(_))).count();
    !tokens.is_empty() && tokens.iter().all(is_name) && (letters <= 2 || tokens.contains(&Token::Sign('(')))
}

/// `a \pm b` is a + b and a - b.
fn plus_minus(tokens: &[Token]) -> Option<MathKey> {
    let Some(at) = tokens.iter().position(|token| is_command(token, "pm") || *token == Token::Sign('±')) else {
        return value(tokens).map(|value| MathKey::Value(Value(value)));
    };
    if tokens.iter().filter(|token| **token == tokens[at]).count() > MAX_SIGNS {
        return None;
    }
    let mut both = Vec::new();
    for sign in ['+', '-'] {
        let mut signed = tokens.to_vec();
        signed[at] = Token::Sign(sign);
        both.push(plus_minus(&signed)?);
    }
    Some(MathKey::set(both))
}
