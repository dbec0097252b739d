//! Sums of products with exact coefficients: the normal form in which two spellings of one value are equal. Where numbers
//! get too large or an expression too long, an operation gives None, and the answer is compared as a text.

use std::collections::BTreeMap;
use std::fmt;

/// No answer that people write has more terms.
const MAX_TERMS: usize = 200;
const MAX_POWER: i128 = 40;
/// Square factors are looked for up to this divisor.
const MAX_DIVISOR: i128 = 10_000;

/// A reduced fraction with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ratio {
    pub above: i128,
    pub below: i128,
}

impl Ratio {
    pub const ONE: Ratio = Ratio { above: 1, below: 1 };

    pub fn new(above: i128, below: i128) -> Option<Self> {
        let divisor = greatest_common_divisor(above.checked_abs()?, below.checked_abs()?);
        if below == 0 || divisor == 0 {
            return None;
        }
        let sign = if below < 0 { -1 } else { 1 };
        Some(Ratio { above: sign * (above / divisor), below: sign * (below / divisor) })
    }

    pub fn whole(value: i128) -> Self {
        Ratio { above: value, below: 1 }
    }

    fn plus(self, other: Ratio) -> Option<Ratio> {
        let above = self.above.checked_mul(other.below)?.checked_add(other.above.checked_mul(self.below)?)?;
        Ratio::new(above, self.below.checked_mul(other.below)?)
    }

    pub fn times(self, other: Ratio) -> Option<Ratio> {
        Ratio::new(self.above.checked_mul(other.above)?, self.below.checked_mul(other.below)?)
    }

    pub fn inverse(self) -> Option<Ratio> {
        Ratio::new(self.below, self.above)
    }
}

fn greatest_common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `√root · Π atom^power`; an atom is a variable, a constant such as π, or a function of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Product {
    /// Without square factors; 1 for none.
    root: i128,
    atoms: BTreeMap<String, i128>,
}

impl Product {
    fn one() -> Self {
        Product { root: 1, atoms: BTreeMap::new() }
    }

    fn times(&self, other: &Product) -> Option<(Ratio, Product)> {
        // √a · √b = g · √(ab / g²) for their greatest common divisor g, both being free of squares.
        let common = greatest_common_divisor(self.root, other.root);
        let root = (self.root / common).checked_mul(other.root / common)?;
        let mut atoms = self.atoms.clone();
        for (atom, power) in &other.atoms {
            let sum = atoms.remove(atom).unwrap_or(0).checked_add(*power)?;
            if sum != 0 {
                atoms.insert(atom.clone(), sum);
            }
        }
        Some((Ratio::whole(common), Product { root, atoms }))
    }
}

/// A sum of products, each with its coefficient, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Polynomial(BTreeMap<Product, Ratio>);

/// One text for each value, which names it inside of an atom.
impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (product, value) in &self.0 {
            write!(f, "{:+}/{}√{}", value.above, value.below, product.root)?;
            for (atom, power) in &product.atoms {
                write!(f, "*{atom}^{power}")?;
            }
        }
        Ok(())
    }
}

impl Polynomial {
    pub fn number(value: Ratio) -> Self {
        Self::term(value, Product::one())
    }

    pub fn atom(name: impl Into<String>) -> Self {
        Self::term(Ratio::ONE, Product { root: 1, atoms: BTreeMap::from([(name.into(), 1)]) })
    }

    fn term(coefficient: Ratio, product: Product) -> Self {
        if coefficient.above == 0 { Self::default() } else { Polynomial(BTreeMap::from([(product, coefficient)])) }
    }

    /// The value where it is one number.
    pub fn as_number(&self) -> Option<Ratio> {
        match self.0.iter().next() {
            None => Some(Ratio::whole(0)),
            Some((product, value)) if self.0.len() == 1 && *product == Product::one() => Some(*value),
            _ => None,
        }
    }

    pub fn plus(mut self, other: &Polynomial) -> Option<Self> {
        for (product, coefficient) in &other.0 {
            let sum = match self.0.remove(product) {
                Some(value) => value.plus(*coefficient)?,
                None => *coefficient,
            };
            if sum.above != 0 {
                self.0.insert(product.clone(), sum);
            }
        }
        (self.0.len() <= MAX_TERMS).then_some(self)
    }

    pub fn negated(mut self) -> Self {
        self.0.values_mut().for_each(|value| value.above = -value.above);
        self
    }

    pub fn minus(self, other: &Polynomial) -> Option<Self> {
        self.plus(&other.clone().negated())
    }

    pub fn times(&self, other: &Polynomial) -> Option<Self> {
        if self.0.len() * other.0.len() > MAX_TERMS {
            return None;
        }
        let mut product = Polynomial::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let (factor, both) = a.times(b)?;
                product = product.plus(&Self::term(x.times(*y)?.times(factor)?, both))?;
            }
        }
        Some(product)
    }

    pub fn inverse(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().next() {
            Some((product, value)) if self.0.len() == 1 => {
                // 1 / (c · √r · a^n) = √r / (c · r) · a^-n
                let atoms = product.atoms.iter().map(|(atom, power)| (atom.clone(), -power)).collect();
                let coefficient = value.times(Ratio::whole(product.root))?.inverse()?;
                Some(Self::term(coefficient, Product { root: product.root, atoms }))
            }
            _ => {
                // One over a sum stays as it is, but for its scale.
                let (scale, sum) = self.scaled()?;
                let inverse = Self::atom(format!("1/({sum})"));
                inverse.times(&Self::number(scale.inverse()?))
            }
        }
    }

    /// The first coefficient, and the sum divided by it.
    pub fn scaled(&self) -> Option<(Ratio, Polynomial)> {
        let scale = *self.0.values().next()?;
        Some((scale, self.times(&Self::number(scale.inverse()?))?))
    }

    pub fn power(&self, exponent: &Polynomial) -> Option<Self> {
        match exponent.as_number() {
            Some(Ratio { above, below: 1 }) if above.abs() <= MAX_POWER => {
                let mut power = Self::number(Ratio::ONE);
                for _ in 0..above.abs() {
                    power = power.times(self)?;
                }
                if above < 0 { power.inverse() } else { Some(power) }
            }
            Some(Ratio { above, below: 2 }) if self.as_number().is_some() => {
                self.root()?.power(&Self::number(Ratio::whole(above)))
            }
            _ => Some(Self::atom(format!("({self})^({exponent})"))),
        }
    }

    /// The square root.
    pub fn root(&self) -> Option<Self> {
        let Some(Ratio { above, below }) = self.as_number() else {
            return Some(Self::atom(format!("root({self})")));
        };
        if above < 0 {
            return Self::number(Ratio::new(-above, below)?).root()?.times(&Self::atom("i"));
        }
        // √(a/b) = √(ab) / b
        let (mut outside, mut inside, mut divisor) = (1i128, above.checked_mul(below)?, 2);
        while divisor <= MAX_DIVISOR && divisor * divisor <= inside {
            while inside % (divisor * divisor) == 0 {
                inside /= divisor * divisor;
                outside *= divisor;
            }
            divisor += 1;
        }
        let whole = inside.isqrt();
        if whole * whole == inside {
            (outside, inside) = (outside.checked_mul(whole)?, 1);
        }
        Some(Self::term(Ratio::new(outside, below)?, Product { root: inside.max(1), atoms: BTreeMap::new() }))
    }
}
