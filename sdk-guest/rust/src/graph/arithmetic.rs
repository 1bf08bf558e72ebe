//! Operations of two values, with broadcasting, and the operators for them.

use std::ops;

use super::Var;
use crate::DType;

impl Var {
    /// The larger of the two; NaN when one is.
    pub fn maximum(&self, other: &Self) -> Self {
        self.numbers("maximum", other)
    }

    /// The smaller of the two; NaN when one is.
    pub fn minimum(&self, other: &Self) -> Self {
        self.numbers("minimum", other)
    }

    /// Itself to the power of `exponent`. For floats.
    pub fn power(&self, exponent: &Self) -> Self {
        self.floats("power", exponent)
    }

    /// The angle of the point with itself as its ordinate and `abscissa`, from -π to π.
    /// For floats.
    pub fn atan2(&self, abscissa: &Self) -> Self {
        self.floats("atan2", abscissa)
    }

    /// `minimum(maximum(x, low), high)`.
    pub fn clamp(&self, low: f64, high: f64) -> Self {
        if self.dtype == DType::Bool {
            return self.refused("clamp", "numbers");
        }
        let bounds = [low, high].map(|bound| self.beside(bound));
        let operands = [self, &bounds[0], &bounds[1]];
        self.graph
            .emit("clamp", &operands, vec![], self.dtype, &self.shape)
    }

    /// Whether the two are equal.
    pub fn equal(&self, other: &Self) -> Self {
        self.compared("equal", other)
    }

    /// Whether the two differ; so they do when one is NaN.
    pub fn not_equal(&self, other: &Self) -> Self {
        self.compared("not-equal", other)
    }

    /// Whether it is less than `other`.
    pub fn less(&self, other: &Self) -> Self {
        self.compared("less", other)
    }

    /// Whether it is less than `other` or equal to it.
    pub fn less_equal(&self, other: &Self) -> Self {
        self.compared("less-equal", other)
    }

    /// Whether it is greater than `other`.
    pub fn greater(&self, other: &Self) -> Self {
        self.compared("greater", other)
    }

    /// Whether it is greater than `other` or equal to it.
    pub fn greater_equal(&self, other: &Self) -> Self {
        self.compared("greater-equal", other)
    }

    /// Whether both are true; of integers, the bits that both have.
    pub fn and(&self, other: &Self) -> Self {
        self.logical("and", other)
    }

    /// Whether one of the two is true, or both; of integers, the bits that one has.
    pub fn or(&self, other: &Self) -> Self {
        self.logical("or", other)
    }

    /// Whether just one of the two is true; of integers, the bits that just one has.
    pub fn xor(&self, other: &Self) -> Self {
        self.logical("xor", other)
    }

    /// The elements of `chosen` where it is true, those of `other` elsewhere.
    pub fn select(&self, chosen: &Self, other: &Self) -> Self {
        if self.dtype != DType::Bool {
            return self.refused("select", "a bool condition");
        }
        let Some((chosen, other)) = chosen.paired("select", other) else {
            return chosen.clone();
        };
        let Some(shape) = self.common_shape(&chosen) else {
            return chosen;
        };
        let operands = [self, &chosen, &other].map(|operand| operand.broadcast_to(&shape));
        self.graph
            .emit("select", &operands.each_ref(), vec![], chosen.dtype, &shape)
    }

    fn numbers(&self, op: &str, other: &Self) -> Self {
        if self.dtype == DType::Bool {
            return self.refused(op, "numbers");
        }
        self.elementwise(op, other, self.dtype)
    }

    fn floats(&self, op: &str, other: &Self) -> Self {
        if !self.dtype.is_float() {
            return self.refused(op, "floats");
        }
        self.elementwise(op, other, self.dtype)
    }

    fn compared(&self, op: &str, other: &Self) -> Self {
        self.elementwise(op, other, DType::Bool)
    }

    fn logical(&self, op: &str, other: &Self) -> Self {
        if self.dtype.is_float() {
            return self.refused(op, "bool or integers");
        }
        self.elementwise(op, other, self.dtype)
    }

    fn elementwise(&self, op: &str, other: &Self, dtype: DType) -> Self {
        match self.paired(op, other) {
            Some((left, right)) => {
                let shape = left.shape.clone();
                self.graph.emit(op, &[&left, &right], vec![], dtype, &shape)
            }
            None => self.clone(),
        }
    }

    /// Both broadcast to one shape; none, and a mistake, when they do not fit.
    fn paired(&self, op: &str, other: &Self) -> Option<(Self, Self)> {
        if self.dtype != other.dtype {
            let (left, right) = (self.described(), other.described());
            self.graph.fail(format!(
                "`{op}` takes two of one type, but got {left} and {right}"
            ));
            return None;
        }
        let shape = self.common_shape(other)?;
        Some((self.broadcast_to(&shape), other.broadcast_to(&shape)))
    }

    /// A scalar that stands beside it in an expression.
    fn beside(&self, number: f64) -> Self {
        if !self.dtype.is_float() && number.fract() != 0.0 {
            let found = self.described();
            self.graph
                .fail(format!("{number} cannot stand beside {found}"));
        }
        self.full_like(number)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:literal) => {
        impl ops::$trait<&Var> for &Var {
            type Output = Var;

            fn $method(self, other: &Var) -> Var {
                self.numbers($op, other)
            }
        }

        impl ops::$trait<Var> for &Var {
            type Output = Var;

            fn $method(self, other: Var) -> Var {
                self.numbers($op, &other)
            }
        }

        impl ops::$trait<&Var> for Var {
            type Output = Var;

            fn $method(self, other: &Var) -> Var {
                self.numbers($op, other)
            }
        }

        impl ops::$trait<Var> for Var {
            type Output = Var;

            fn $method(self, other: Var) -> Var {
                self.numbers($op, &other)
            }
        }

        impl ops::$trait<f64> for &Var {
            type Output = Var;

            fn $method(self, other: f64) -> Var {
                self.numbers($op, &self.beside(other))
            }
        }

        impl ops::$trait<f64> for Var {
            type Output = Var;

            fn $method(self, other: f64) -> Var {
                self.numbers($op, &self.beside(other))
            }
        }

        impl ops::$trait<&Var> for f64 {
            type Output = Var;

            fn $method(self, other: &Var) -> Var {
                other.beside(self).numbers($op, other)
            }
        }

        impl ops::$trait<Var> for f64 {
            type Output = Var;

            fn $method(self, other: Var) -> Var {
                other.beside(self).numbers($op, &other)
            }
        }
    };
}

operator!(Add, add, "add");
operator!(Sub, sub, "subtract");
operator!(Mul, mul, "multiply");
operator!(Div, div, "divide");
operator!(Rem, rem, "remainder");

impl ops::Neg for &Var {
    type Output = Var;

    fn neg(self) -> Var {
        if self.dtype == DType::Bool {
            return self.refused("negate", "numbers");
        }
        self.graph
            .emit("negate", &[self], vec![], self.dtype, &self.shape)
    }
}

impl ops::Neg for Var {
    type Output = Var;

    fn neg(self) -> Var {
        -&self
    }
}
