//! The tree of a query, and how it is written.

use std::fmt;

use super::field::{Entity, Field, Kind};
use super::pattern::Pattern;
use super::{moment, parse};
use crate::time::Timestamp;

/// Which of them, and in which order.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is wanted.
    pub filter: Filter,
    /// The most important first. What is equal in all of them is ordered by id, in the
    /// direction of the last; without any, the newest come first.
    pub order: Vec<Order>,
}

/// Which ones.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them hold; of none at all, everything is wanted.
    All(Vec<Self>),
    /// At least one holds; of none at all, nothing is wanted.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// One field.
    Test(Test),
}

/// A condition of one field, which it fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    field: Field,
    condition: Condition,
}

/// What is asked of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// How it compares with a value. A field without a value is only [`Comparison::NotEqual`].
    Compare(Comparison, Value),
    /// Whether it is one of these, or with `negated` none of them.
    In {
        /// `not in`.
        negated: bool,
        /// At least one.
        values: Vec<Value>,
    },
    /// Whether the pattern is found in it, or with `negated` is not.
    Match {
        /// `!~`.
        negated: bool,
        /// What is looked for.
        pattern: Pattern,
    },
    /// Whether it is missing, or with `negated` is there.
    Null {
        /// `is not null`.
        negated: bool,
    },
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value in a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of texts, choices, projects, sets of texts and what is typed.
    Text(String),
    /// Of whole numbers and sets of them.
    Integer(i64),
    /// Of measured numbers and what is typed; never NaN.
    Real(f64),
    /// Of times.
    Time(Timestamp),
}

/// A field to order by. What has no value comes last in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Not a set.
    pub field: Field,
    /// Which end comes first.
    pub direction: Direction,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The least.
    Ascending,
    /// The greatest.
    Descending,
}

impl Query {
    /// Everything, the newest first.
    pub fn everything() -> Self {
        Self {
            filter: Filter::everything(),
            order: Vec::new(),
        }
    }

    /// The order with its default: never empty.
    pub fn effective_order(&self, entity: Entity) -> Vec<Order> {
        if !self.order.is_empty() {
            return self.order.clone();
        }
        vec![Order {
            field: Field::column(entity, "created"),
            direction: Direction::Descending,
        }]
    }
}

impl Filter {
    /// No restriction.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// All of `filters`; a single one stands for itself.
    pub fn all(filters: Vec<Self>) -> Self {
        match <[Self; 1]>::try_from(filters) {
            Ok([filter]) => filter,
            Err(filters) => Self::All(filters),
        }
    }

    /// Any of `filters`; a single one stands for itself.
    pub fn any(filters: Vec<Self>) -> Self {
        match <[Self; 1]>::try_from(filters) {
            Ok([filter]) => filter,
            Err(filters) => Self::Any(filters),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        let mut filters = Vec::new();
        for filter in [self, other] {
            match filter {
                Self::All(inner) => filters.extend(inner),
                other => filters.push(other),
            }
        }
        Self::all(filters)
    }

    /// What it does not want.
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// All tests in it, in order.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().flat_map(Self::tests).collect()
            }
            Self::Not(filter) => filter.tests(),
            Self::Test(test) => vec![test],
        }
    }
}

impl Test {
    /// A test, if the field can be asked that.
    ///
    /// # Errors
    /// What would be right instead, after the word `expected`.
    pub fn new(field: Field, condition: Condition) -> Result<Self, String> {
        let kind = field.kind();
        match &condition {
            Condition::Compare(comparison, value) => {
                if !comparison.is_equality() && !kind.is_ordered() {
                    return Err(operators(kind));
                }
                check_value(kind, value)?;
            }
            Condition::In { values, .. } => {
                if values.is_empty() {
                    return Err("at least one value".to_owned());
                }
                values
                    .iter()
                    .try_for_each(|value| check_value(kind, value))?;
            }
            Condition::Match { .. } if !kind.is_text() => return Err(operators(kind)),
            Condition::Match { .. } | Condition::Null { .. } => {}
        }
        Ok(Self { field, condition })
    }

    /// What is asked about.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// What is asked.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }
}

/// The operators that a field of this kind has.
pub(crate) fn operators(kind: Kind) -> String {
    let mut operators = vec!["`=`", "`!=`"];
    if kind.is_ordered() {
        operators.extend(["`<`", "`<=`", "`>`", "`>=`"]);
    }
    if kind.is_text() {
        operators.extend(["`~`", "`!~`"]);
    }
    operators.extend(["`in`", "`not in`", "`is null`"]);
    let last = operators.pop().unwrap_or_default();
    format!("{} or {last}", operators.join(", "))
}

fn check_value(kind: Kind, value: &Value) -> Result<(), String> {
    let fits = match value {
        Value::Text(text) => match kind.choices() {
            Some(choices) => choices.contains(&text.as_str()),
            None => matches!(kind, Kind::Text | Kind::Project | Kind::Texts | Kind::Typed),
        },
        Value::Integer(_) => matches!(kind, Kind::Integer | Kind::Integers),
        Value::Real(number) => matches!(kind, Kind::Real | Kind::Typed) && !number.is_nan(),
        Value::Time(_) => kind == Kind::Time,
    };
    if fits {
        Ok(())
    } else {
        Err(expected_value(kind))
    }
}

/// What a value of this kind looks like.
pub(crate) fn expected_value(kind: Kind) -> String {
    if let Some(choices) = kind.choices() {
        return format!("one of {}", choices.join(", "));
    }
    match kind {
        Kind::Integer | Kind::Integers => "a whole number".to_owned(),
        Kind::Real => "a number".to_owned(),
        Kind::Time => moment::EXPECTED.to_owned(),
        _ => "a value".to_owned(),
    }
}

impl Value {
    /// The value of a field of this kind that `text` stands for; a `quoted` text is never a
    /// number where it could be a text.
    ///
    /// # Errors
    /// What would be right, after the word `expected`.
    pub fn read(kind: Kind, text: &str, quoted: bool, now: Timestamp) -> Result<Self, String> {
        let value = match kind {
            Kind::Integer | Kind::Integers => text.parse().ok().map(Self::Integer),
            Kind::Real => number(text).map(Self::Real),
            Kind::Time => moment::parse(text, now).map(Self::Time),
            Kind::Typed if !quoted && number(text).is_some() => number(text).map(Self::Real),
            _ => Some(Self::Text(text.to_owned())),
        };
        let value = value.ok_or_else(|| expected_value(kind))?;
        check_value(kind, &value)?;
        Ok(value)
    }
}

/// The number that `text` is: digits, or an infinity.
pub(crate) fn number(text: &str) -> Option<f64> {
    match text {
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => {
            let digits = text.trim_start_matches(['-', '+', '.']);
            if !digits.starts_with(|first: char| first.is_ascii_digit()) {
                return None;
            }
            text.parse().ok().filter(|number: &f64| number.is_finite())
        }
    }
}

impl Comparison {
    /// Whether it needs no order.
    pub fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    /// The operator, as it is written here and in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.filter != Filter::everything() {
            write!(formatter, "{}", self.filter)?;
            if !self.order.is_empty() {
                formatter.write_str(" ")?;
            }
        }
        for (index, order) in self.order.iter().enumerate() {
            formatter.write_str(if index == 0 { "order by " } else { ", " })?;
            write!(formatter, "{}", order.field)?;
            if order.direction == Direction::Descending {
                formatter.write_str(" desc")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(filters) if filters.is_empty() => formatter.write_str("true"),
            Self::Any(filters) if filters.is_empty() => formatter.write_str("false"),
            Self::All(filters) => joined(formatter, filters, " and "),
            Self::Any(filters) => joined(formatter, filters, " or "),
            Self::Not(filter) => write!(formatter, "not {}", Operand(filter)),
            Self::Test(test) => write!(formatter, "{test}"),
        }
    }
}

fn joined(formatter: &mut fmt::Formatter<'_>, filters: &[Filter], separator: &str) -> fmt::Result {
    for (index, filter) in filters.iter().enumerate() {
        if index > 0 {
            formatter.write_str(separator)?;
        }
        write!(formatter, "{}", Operand(filter))?;
    }
    Ok(())
}

/// A filter as a part of another: in parentheses where its parts would fall apart.
struct Operand<'a>(&'a Filter);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Filter::All(filters) | Filter::Any(filters) if !filters.is_empty() => {
                write!(formatter, "({})", self.0)
            }
            other => write!(formatter, "{other}"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.field)?;
        match &self.condition {
            Condition::Compare(comparison, value) => {
                write!(formatter, "{} {value}", comparison.as_str())
            }
            Condition::In { negated, values } => {
                formatter.write_str(if *negated { "not in (" } else { "in (" })?;
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        formatter.write_str(", ")?;
                    }
                    write!(formatter, "{value}")?;
                }
                formatter.write_str(")")
            }
            Condition::Match { negated, pattern } => {
                let operator = if *negated { "!~" } else { "~" };
                let pattern = parse::quoted(&pattern.expression());
                write!(formatter, "{operator} {pattern}")
            }
            Condition::Null { negated: false } => formatter.write_str("is null"),
            Condition::Null { negated: true } => formatter.write_str("is not null"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if parse::is_plain_value(text) => formatter.write_str(text),
            Self::Text(text) => formatter.write_str(&parse::quoted(text)),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Real(f64::INFINITY) => formatter.write_str("Infinity"),
            Self::Real(f64::NEG_INFINITY) => formatter.write_str("-Infinity"),
            Self::Real(number) => write!(formatter, "{number:?}"),
            Self::Time(time) => formatter.write_str(&moment::print(*time)),
        }
    }
}
