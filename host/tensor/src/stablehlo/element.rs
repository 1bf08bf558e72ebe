//! Operations on each element.

use super::accumulator;
use super::text::{Element, Text, Val};
use crate::ir::{self, Binary, Compare, Logic, Unary};

impl Text {
    pub(super) fn elementwise(
        &mut self,
        op: ir::Element,
        operands: &[&Val],
        element: Element,
    ) -> Val {
        match (op, operands) {
            (ir::Element::Unary(op), [x]) => {
                let wide = self.widen(x);
                let result = self.unary(op, &wide);
                self.convert(&result, element)
            }
            (ir::Element::Binary(op), [a, b]) => {
                let [a, b] = [self.widen(a), self.widen(b)];
                let result = self.binary(op, &a, &b);
                self.convert(&result, element)
            }
            (ir::Element::Compare(op), [a, b]) => self.compare(direction(op), a, b),
            (ir::Element::Logic(op), [a, b]) => {
                let name = match op {
                    Logic::And => "and",
                    Logic::Or => "or",
                    Logic::Xor => "xor",
                };
                self.map(name, &[a, b])
            }
            (ir::Element::Not, [x]) => self.map("not", &[x]),
            (ir::Element::IsFinite, [x]) => self.is_finite(x),
            (ir::Element::Select, [condition, yes, no]) => self.select(condition, yes, no),
            (ir::Element::Convert, [x]) => self.convert_element(x, element),
            (op, _) => unreachable!("{op:?} has other operands after its check"),
        }
    }

    fn unary(&mut self, op: Unary, x: &Val) -> Val {
        let name = match op {
            Unary::Negate => "negate",
            Unary::Abs if !x.element.is_signed() => return x.clone(),
            Unary::Abs => "abs",
            Unary::Sign if !x.element.is_signed() => {
                let one = self.integer(x.element, &x.shape, 1);
                return self.map("minimum", &[x, &one]);
            }
            Unary::Sign => "sign",
            Unary::Square => return self.map("multiply", &[x, x]),
            Unary::Exp => "exponential",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Tanh => "tanh",
            Unary::Sigmoid => "logistic",
            Unary::Expm1 => "exponential_minus_one",
            Unary::Log1p => "log_plus_one",
            Unary::Sin => "sine",
            Unary::Cos => "cosine",
            Unary::Erf => return self.erf(x),
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round_nearest_even",
        };
        self.map(name, &[x])
    }

    fn binary(&mut self, op: Binary, a: &Val, b: &Val) -> Val {
        let name = match op {
            Binary::Add => "add",
            Binary::Subtract => "subtract",
            Binary::Multiply => "multiply",
            Binary::Divide => return self.division("divide", a, b),
            Binary::Maximum => "maximum",
            Binary::Minimum => "minimum",
            Binary::Power => "power",
            Binary::Remainder => return self.division("remainder", a, b),
            Binary::Atan2 => "atan2",
        };
        self.map(name, &[a, b])
    }

    /// For integers, 0 where `b` is 0. The smallest number divided by -1 wraps around,
    /// which StableHLO leaves open: there the divisor is 1 and the result negated.
    fn division(&mut self, name: &str, a: &Val, b: &Val) -> Val {
        if a.element.is_float() {
            return self.map(name, &[a, b]);
        }
        let [zero, one] = [0, 1].map(|value| self.integer(a.element, &a.shape, value));
        let by_zero = self.compare("EQ", b, &zero);
        let mut divisor = self.select(&by_zero, &one, b);
        let mut negated = None;
        if a.element.is_signed() {
            let minus_one = self.integer(a.element, &a.shape, -1);
            let by_minus_one = self.compare("EQ", b, &minus_one);
            divisor = self.select(&by_minus_one, &one, &divisor);
            negated = Some(by_minus_one);
        }
        let mut result = self.map(name, &[a, &divisor]);
        if let Some(by_minus_one) = negated {
            let opposite = self.map("negate", &[&result]);
            result = self.select(&by_minus_one, &opposite, &result);
        }
        self.select(&by_zero, &zero, &result)
    }

    /// From floats to integers truncates and saturates, and NaN becomes 0; integers wrap
    /// around.
    fn convert_element(&mut self, x: &Val, element: Element) -> Val {
        if element == Element::BOOL && x.element != Element::BOOL {
            let zero = self.integer(x.element, &x.shape, 0);
            return self.compare("NE", x, &zero);
        }
        if x.element.is_float() && !element.is_float() {
            return self.float_to_integer(x, element);
        }
        self.convert(x, element)
    }

    fn float_to_integer(&mut self, x: &Val, element: Element) -> Val {
        let x = self.convert(x, accumulator(x.element));
        // The bounds are powers of two (or 0), so every float type has them exactly.
        let bits = 8 * element.size();
        let (low, high) = if element.is_signed() {
            let high = 2f64.powi(exponent(bits - 1));
            (-high, high)
        } else {
            (0.0, 2f64.powi(exponent(bits)))
        };
        let low = self.number(x.element, &x.shape, low);
        let high = self.number(x.element, &x.shape, high);
        let zero = self.integer(x.element, &x.shape, 0);
        let above = self.compare("GE", &x, &high);
        // Comparisons with NaN are false, so it is not inside.
        let below = self.compare("LE", &x, &low);
        let nan = self.compare("NE", &x, &x);
        let outside = self.map("or", &[&above, &below]);
        let outside = self.map("or", &[&outside, &nan]);
        let inside = self.select(&outside, &zero, &x);
        let converted = self.convert(&inside, element);
        let [lowest, highest] = [
            self.lowest(element, &x.shape),
            self.highest(element, &x.shape),
        ];
        let converted = self.select(&above, &highest, &converted);
        self.select(&below, &lowest, &converted)
    }
}

fn direction(op: Compare) -> &'static str {
    match op {
        Compare::Equal => "EQ",
        Compare::NotEqual => "NE",
        Compare::Less => "LT",
        Compare::LessEqual => "LE",
        Compare::Greater => "GT",
        Compare::GreaterEqual => "GE",
    }
}

fn exponent(bits: usize) -> i32 {
    i32::try_from(bits).unwrap_or(i32::MAX)
}
