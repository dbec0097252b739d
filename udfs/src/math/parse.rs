//! Tokens to a [`MathKey`]: sets, tuples, intervals, equations and inequalities around expressions with a value.

use super::latex::{Token, answer_part, tokens};
use super::polynomial::{Polynomial, Ratio};
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

/// Words behind a number that say what is counted. The value is compared without them.
const UNITS: &[&str] = &[
    "apples",
    "books",
    "boxes",
    "bytes",
    "cats",
    "cent",
    "centimeter",
    "centimeters",
    "centimetres",
    "cents",
    "children",
    "cm",
    "coins",
    "cubic",
    "cups",
    "day",
    "days",
    "deg",
    "degree",
    "degrees",
    "digits",
    "dogs",
    "dollar",
    "dollars",
    "edges",
    "euro",
    "euros",
    "feet",
    "foot",
    "ft",
    "gallon",
    "gallons",
    "games",
    "gm",
    "gram",
    "grams",
    "hour",
    "hours",
    "hrs",
    "inch",
    "inches",
    "integers",
    "items",
    "kg",
    "kilogram",
    "kilograms",
    "kilometer",
    "kilometers",
    "kilometres",
    "km",
    "kmh",
    "liter",
    "liters",
    "litres",
    "marbles",
    "meals",
    "meter",
    "meters",
    "metres",
    "mile",
    "miles",
    "min",
    "minute",
    "minutes",
    "mins",
    "ml",
    "mm",
    "month",
    "months",
    "mph",
    "ounces",
    "pages",
    "people",
    "percent",
    "pieces",
    "point",
    "points",
    "pound",
    "pounds",
    "second",
    "seconds",
    "sec",
    "square",
    "students",
    "times",
    "units",
    "ways",
    "week",
    "weeks",
    "years",
];

pub(super) fn is_unit(word: &str) -> bool {
    UNITS.binary_search(&word.to_lowercase().as_str()).is_ok()
}

const MAX_LENGTH: usize = 2000;
const MAX_DEPTH: usize = 40;
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

fn is_command(token: &Token, name: &str) -> bool {
    matches!(token, Token::Command(command) if command == name)
}

/// The value of an expression with nothing but units behind it.
fn value(tokens: &[Token]) -> Option<Polynomial> {
    let mut reader = Reader { tokens, at: 0, depth: 0 };
    let value = reader.sum()?;
    reader.skip_units();
    (reader.at == tokens.len()).then_some(value)
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: char) -> bool {
        self.take(&Token::Sign(sign))
    }

    fn skip_units(&mut self) {
        let start = self.at;
        while let Some(token) = self.peek() {
            match token {
                Token::Text(_) => self.at += 1,
                Token::Word(word) if is_unit(word) => self.at += 1,
                Token::Letter(letter) if is_unit(&letter.to_string()) => self.at += 1,
                Token::Sign('°' | '%') => self.at += 1,
                // 'm^2', 'km/h', 'cm^{3}'
                Token::Sign('^') if self.at > start => {
                    self.at += 1;
                    if self.take_sign('{') {
                        self.at += 1;
                        self.take_sign('}');
                    } else {
                        self.at += 1;
                    }
                }
                Token::Sign('/') if self.at > start => self.at += 2,
                _ => break,
            }
        }
        self.at = self.at.min(self.tokens.len());
    }

    fn sum(&mut self) -> Option<Polynomial> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut sum = if self.take_sign('-') {
            self.product()?.negated()
        } else {
            self.take_sign('+');
            self.product()?
        };
        loop {
            if self.take_sign('+') {
                sum = sum.plus(&self.product()?)?;
            } else if self.take_sign('-') {
                sum = sum.minus(&self.product()?)?;
            } else {
                break;
            }
        }
        self.depth -= 1;
        Some(sum)
    }

    fn product(&mut self) -> Option<Polynomial> {
        let mut product = self.factor()?;
        loop {
            match self.peek() {
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    // '**' is a power.
                    if self.take_sign('*') {
                        product = product.power(&self.factor()?)?;
                    } else {
                        product = product.times(&self.factor()?)?;
                    }
                }
                Some(Token::Command(name)) if matches!(name.as_str(), "cdot" | "times" | "ast") => {
                    self.at += 1;
                    product = product.times(&self.factor()?)?;
                }
                Some(Token::Sign('/')) => {
                    self.at += 1;
                    product = product.times(&self.factor()?.inverse()?)?;
                }
                Some(Token::Command(name)) if name == "div" => {
                    self.at += 1;
                    product = product.times(&self.factor()?.inverse()?)?;
                }
                // '5 m' is a number with its unit, where nothing else follows.
                Some(_) if product.as_number().is_some() && self.only_units_follow() => break,
                // '1 \frac{1}{2}' and '1 1/2' are mixed numbers.
                Some(token) if product.as_number().is_some_and(|n| n.below == 1) && starts_fraction(token) => {
                    let fraction = self.mixed_fraction();
                    match fraction {
                        Some(fraction) if product.as_number()?.above >= 0 => product = product.plus(&fraction)?,
                        _ => product = product.times(&self.factor()?)?,
                    }
                }
                Some(token) if starts_factor(token) => product = product.times(&self.factor()?)?,
                _ => break,
            }
        }
        Some(product)
    }

    fn only_units_follow(&self) -> bool {
        let mut ahead = Reader { tokens: self.tokens, at: self.at, depth: self.depth };
        ahead.skip_units();
        ahead.at == self.tokens.len() && ahead.at > self.at
    }

    /// The fraction of a mixed number; the place stays where there is none.
    fn mixed_fraction(&mut self) -> Option<Polynomial> {
        let start = self.at;
        let fraction = match self.peek()? {
            Token::Command(_) => self.base(),
            _ => match self.tokens.get(self.at..self.at + 3) {
                Some([Token::Number(above), Token::Sign('/'), Token::Number(below)]) => {
                    self.at += 3;
                    number(above)?.times(&number(below)?.inverse()?)
                }
                _ => None,
            },
        };
        let value = fraction.as_ref().and_then(Polynomial::as_number);
        if value.is_some_and(|value| value.above > 0 && value.below > value.above) {
            return fraction;
        }
        self.at = start;
        None
    }

    fn factor(&mut self) -> Option<Polynomial> {
        if self.take_sign('-') {
            return self.factor().map(Polynomial::negated);
        }
        let mut factor = self.base()?;
        loop {
            if self.take_sign('^') {
                // '^\circ' and '^{\circ}' are degrees, which are left out like other units.
                if self.take(&Token::Command("circ".into())) {
                    continue;
                }
                let start = self.at;
                if self.take_sign('{') && self.take(&Token::Command("circ".into())) && self.take_sign('}') {
                    continue;
                }
                self.at = start;
                let exponent = if self.take_sign('-') { self.base()?.negated() } else { self.base()? };
                factor = factor.power(&exponent)?;
            } else if self.take_sign('!') {
                let n = factor.as_number().filter(|n| n.below == 1 && (0..=30).contains(&n.above))?.above;
                factor = Polynomial::number(Ratio::whole((1..=n).product()));
            } else if !(self.take_sign('°') || self.take_sign('%')) {
                break;
            }
        }
        Some(factor)
    }

    fn base(&mut self) -> Option<Polynomial> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(digits) => number(&digits),
            Token::Letter('e' | 'E')
                if matches!(self.tokens.get(self.at.wrapping_sub(2)), Some(Token::Number(_)))
                    && matches!(self.peek(), Some(Token::Number(_) | Token::Sign('-' | '+'))) =>
            {
                // '1e3': the number before it is a factor already.
                let negative = self.take_sign('-');
                self.take_sign('+');
                let Some(Token::Number(digits)) = self.peek().cloned() else { return None };
                self.at += 1;
                let exponent = number(&digits)?;
                let exponent = if negative { exponent.negated() } else { exponent };
                Polynomial::number(Ratio::whole(10)).power(&exponent)
            }
            Token::Letter('π') => Some(Polynomial::atom("pi")),
            Token::Letter(letter) => self.subscripted(letter.to_string()),
            Token::Word(word) => match word.to_lowercase().as_str() {
                "pi" => Some(Polynomial::atom("pi")),
                "sqrt" => self.argument()?.root(),
                "infinity" | "inf" => Some(Polynomial::atom("infinity")),
                function @ ("sin" | "cos" | "tan" | "log" | "ln" | "exp") => self.function(function),
                _ => self.subscripted(word),
            },
            Token::Sign('∞') => Some(Polynomial::atom("infinity")),
            Token::Sign('√') => self.argument()?.root(),
            Token::Sign('(') => self.closed(')'),
            Token::Sign('[') => self.closed(']'),
            Token::Sign('{') => self.closed('}'),
            Token::Sign('|') => {
                let inside = self.closed('|')?;
                Some(match inside.as_number() {
                    Some(n) if n.above < 0 => inside.negated(),
                    Some(_) => inside,
                    None => Polynomial::atom(format!("|{inside}|")),
                })
            }
            Token::Command(name) => self.command(&name),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }

    fn closed(&mut self, close: char) -> Option<Polynomial> {
        let inside = self.sum()?;
        self.take_sign(close).then_some(inside)
    }

    fn command(&mut self, name: &str) -> Option<Polynomial> {
        match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" => {
                let (above, below) = (self.argument()?, self.argument()?);
                above.times(&below.inverse()?)
            }
            "sqrt" => {
                if self.take_sign('[') {
                    let degree = self.closed(']')?;
                    return self.argument()?.power(&degree.inverse()?);
                }
                self.argument()?.root()
            }
            "pi" | "theta" | "alpha" | "beta" | "gamma" | "delta" | "lambda" | "mu" | "phi" | "omega" | "sigma"
            | "rho" => self.subscripted(name.to_owned()),
            "infty" => Some(Polynomial::atom("infinity")),
            "sin" | "cos" | "tan" | "cot" | "sec" | "csc" | "arcsin" | "arccos" | "arctan" | "log" | "ln" | "exp" => {
                self.function(name)
            }
            "binom" | "dbinom" | "tbinom" => {
                let (n, k) = (self.argument()?, self.argument()?);
                Some(Polynomial::atom(format!("binom({n},{k})")))
            }
            _ => None,
        }
    }

    /// A function and its argument; `\sin^2 x` and `\log_2 x` keep their marks.
    fn function(&mut self, name: &str) -> Option<Polynomial> {
        let base = if self.take_sign('_') { self.argument()?.to_string() } else { String::new() };
        let power = if self.take_sign('^') { Some(self.argument()?) } else { None };
        let of = self.factor()?;
        let value = Polynomial::atom(format!("{name}_{base}({of})"));
        power.map_or(Some(value.clone()), |power| value.power(&power))
    }

    fn subscripted(&mut self, name: String) -> Option<Polynomial> {
        if self.take_sign('_') {
            let index = self.argument()?;
            return Some(Polynomial::atom(format!("{name}_({index})")));
        }
        Some(Polynomial::atom(name))
    }

    /// What a command is applied to: a group in braces or brackets, or one token (of digits one: see `latex`).
    fn argument(&mut self) -> Option<Polynomial> {
        self.base()
    }
}

fn starts_fraction(token: &Token) -> bool {
    match token {
        Token::Number(digits) => !digits.contains('.'),
        Token::Command(name) => matches!(name.as_str(), "frac" | "dfrac" | "tfrac"),
        _ => false,
    }
}

fn starts_factor(token: &Token) -> bool {
    match token {
        Token::Letter(_) | Token::Word(_) => true,
        Token::Sign(sign) => matches!(sign, '(' | '{' | '[' | '√' | '∞'),
        Token::Command(name) => !matches!(name.as_str(), "{" | "}" | "\\" | "pm" | "cup"),
        Token::Number(_) | Token::Text(_) => false,
    }
}

/// `0.75` as 3/4.
fn number(digits: &str) -> Option<Polynomial> {
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    let above: i128 = format!("{whole}{decimals}").parse().ok()?;
    let below = 10i128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
    Some(Polynomial::number(Ratio::new(above, below).unwrap_or(Ratio::whole(0))))
}
