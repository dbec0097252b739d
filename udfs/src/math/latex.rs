//! The tokens of a mathematical answer, in LaTeX or as people type it. What only sets type is left out here: spaces,
//! `\left` and `\right`, dollar signs, fonts, the mark of degrees, a full stop at the end.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Digits with at most one decimal point.
    Number(String),
    /// One letter.
    Letter(char),
    /// A run of letters, but for two or three right behind a number, which are Letters: `3xy`.
    Word(String),
    /// `\name`, without the backslash.
    Command(String),
    /// The content of `\text{…}` and its like.
    Text(String),
    /// Any other character.
    Sign(char),
}

/// Commands that change how a formula looks and not what it says.
const SILENT: [&str; 16] = [
    "left",
    "right",
    "displaystyle",
    "quad",
    "qquad",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "limits",
    "ldots",
    "dots",
    "cdots",
    "hline",
];

/// Commands whose argument is read as if it stood there alone.
const TRANSPARENT: [&str; 8] = ["boxed", "fbox", "overline", "mathbf", "boldsymbol", "mathit", "mathbb", "mathcal"];

/// Commands whose argument is prose.
const PROSE: [&str; 7] = ["text", "textbf", "textit", "textrm", "mbox", "mathrm", "hbox"];

/// What of a text is the answer: the last `\boxed{…}`, else what stands between dollar signs, else all of it.
pub(super) fn answer_part(text: &str) -> &str {
    if let Some(start) = text.rfind("\\boxed{").map(|at| at + "\\boxed{".len())
        && let Some(end) = closing_brace(&text[start..])
    {
        return &text[start..start + end];
    }
    let mut text = text.trim().trim_end_matches(['.', ',', ';']).trim();
    for (open, close) in [("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")] {
        // '$5 and $6' are prices: what is mathematics does not end in a space, and a price has no second sign.
        if let Some((_, rest)) = text.split_once(open)
            && let Some((inside, _)) = rest.split_once(close)
            && !inside.is_empty()
            && inside.trim() == inside
        {
            text = inside;
            break;
        }
    }
    text.trim()
}

fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().map(plain).collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        let after = |offset: usize| chars.get(at + offset).copied();
        match char {
            '\\' if after(1).is_some_and(|c| c.is_ascii_alphabetic()) => {
                let name: String = chars[at + 1..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
                at += 1 + name.len();
                if PROSE.contains(&name.as_str()) && chars.get(at) == Some(&'{') {
                    let rest: String = chars[at + 1..].iter().collect();
                    let end = closing_brace(&rest).unwrap_or(rest.len());
                    at += 1 + rest[..end].chars().count() + 1;
                    tokens.push(Token::Text(rest[..end].trim().to_owned()));
                } else if !SILENT.contains(&name.as_str()) && !TRANSPARENT.contains(&name.as_str()) {
                    tokens.push(Token::Command(name));
                }
            }
            '\\' => {
                // `\{`, `\}` and `\%` are signs, `\\` ends a row; `\,` `\!` `\;` `\:` `\ ` and `\$` are nothing.
                match after(1) {
                    Some(sign @ ('{' | '}')) => tokens.push(Token::Command(sign.to_string())),
                    Some('\\') => tokens.push(Token::Command("\\".into())),
                    Some('%') => tokens.push(Token::Sign('%')),
                    _ => {}
                }
                at += 2;
            }
            '0'..='9' | '.' if char != '.' || after(1).is_some_and(|c| c.is_ascii_digit()) => {
                // '\frac12' and '\sqrt3x' take single digits, as in LaTeX.
                let alone = match tokens.as_slice() {
                    [.., Token::Command(name)] => name.ends_with("frac") || name == "sqrt",
                    [.., Token::Command(name), Token::Number(above)] => name.ends_with("frac") && above.len() == 1,
                    _ => false,
                };
                let (number, length) = if alone { (char.to_string(), 1) } else { number(&chars[at..]) };
                at += length;
                tokens.push(Token::Number(number));
            }
            _ if char.is_alphabetic() => {
                let word: String = chars[at..].iter().take_while(|c| c.is_alphabetic()).collect();
                let length = word.chars().count();
                let joined = at > 0 && (chars[at - 1].is_ascii_digit() || matches!(chars[at - 1], ')' | '}'));
                if length == 1 || (joined && length <= 3 && !super::expression::is_unit(&word)) {
                    tokens.extend(word.chars().map(Token::Letter));
                } else {
                    tokens.push(Token::Word(word));
                }
                at += length;
            }
            '$' | '€' | '£' | '¥' | '~' | '"' => at += 1,
            _ if char.is_whitespace() => at += 1,
            _ => {
                tokens.push(Token::Sign(char));
                at += 1;
            }
        }
    }
    tokens
}

/// A number at the head of `chars` without its thousands separators, and how many characters it takes. `{,}` and `,\!`
/// are separators too, as LaTeX has them.
fn number(chars: &[char]) -> (String, usize) {
    let mut number = String::new();
    // The digits since the last separator, and whether there was one.
    let (mut at, mut group, mut grouped, mut decimal) = (0, 0, false, false);
    while let Some(&char) = chars.get(at) {
        if char.is_ascii_digit() {
            number.push(char);
            (at, group) = (at + 1, group + 1);
        } else if char == '.' && !decimal && chars.get(at + 1).is_some_and(char::is_ascii_digit) {
            number.push(char);
            (at, decimal) = (at + 1, true);
        } else {
            let rest: String = chars[at..].iter().take(3).collect();
            let Some(separator) = [",\\!", "{,}", ","].into_iter().find(|sign| rest.starts_with(sign)) else { break };
            let next = at + separator.len();
            let digits = chars[next.min(chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count();
            let fits = if grouped { group == 3 } else { (1..=3).contains(&group) && !number.starts_with('0') };
            if decimal || digits != 3 || !fits {
                break;
            }
            (at, group, grouped) = (next, 0, true);
        }
    }
    (number, at)
}

fn plain(char: char) -> char {
    match char {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '×' | '·' | '⋅' | '∗' => '*',
        '÷' => '/',
        _ => char,
    }
}
