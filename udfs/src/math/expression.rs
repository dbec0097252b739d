//! The value of one expression: numbers, letters, fractions, roots, powers and functions, with or without units behind.

use super::latex::Token;
use super::polynomial::{Polynomial, Ratio};

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

const MAX_DEPTH: usize = 40;

pub(super) fn is_command(token: &Token, name: &str) -> bool {
    matches!(token, Token::Command(command) if command == name)
}

/// The value of an expression with nothing but units behind it.
pub(super) fn value(tokens: &[Token]) -> Option<Polynomial> {
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
