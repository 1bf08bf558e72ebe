//! What a query means, over plain values.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::ast::{Comparison, Condition, Direction, Filter, Order, Query, Test, Value};
use super::field::{Entity, Field, Kind};

/// Something that queries are asked about.
pub trait Record {
    /// What it has in a field.
    fn cell(&self, field: &Field) -> Cell;
}

/// What something has in a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing, or NaN.
    Missing,
    /// A text, a choice, or the path of a project.
    Text(String),
    /// A whole number, or a time in milliseconds.
    Integer(i64),
    /// A measured number, not NaN.
    Real(f64),
    /// A set of texts.
    Texts(BTreeSet<String>),
    /// A set of whole numbers.
    Integers(BTreeSet<i64>),
    /// A text with a type.
    Typed {
        /// As it is stored.
        text: String,
        /// What it is as a number, if its type is one.
        number: Option<f64>,
    },
}

impl Filter {
    /// Whether it wants `record`.
    pub fn accepts(&self, record: &impl Record) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.accepts(record)),
            Self::Any(filters) => filters.iter().any(|filter| filter.accepts(record)),
            Self::Not(filter) => !filter.accepts(record),
            Self::Test(test) => test.accepts(&record.cell(test.field())),
        }
    }
}

impl Test {
    /// Whether a field with this value passes.
    pub fn accepts(&self, cell: &Cell) -> bool {
        let kind = self.field().kind();
        match self.condition() {
            Condition::Null { negated } => is_missing(cell) != *negated,
            Condition::Compare(Comparison::NotEqual, value) => {
                !compares(kind, cell, Comparison::Equal, value)
            }
            Condition::Compare(comparison, value) => compares(kind, cell, *comparison, value),
            Condition::In { negated, values } => {
                let equal = |value| compares(kind, cell, Comparison::Equal, value);
                values.iter().any(equal) != *negated
            }
            Condition::Match { negated, pattern } => {
                let found = match cell {
                    Cell::Text(text) | Cell::Typed { text, .. } => pattern.is_match(text),
                    Cell::Texts(texts) => texts.iter().any(|text| pattern.is_match(text)),
                    _ => false,
                };
                found != *negated
            }
        }
    }
}

fn is_missing(cell: &Cell) -> bool {
    match cell {
        Cell::Missing => true,
        Cell::Texts(texts) => texts.is_empty(),
        Cell::Integers(numbers) => numbers.is_empty(),
        _ => false,
    }
}

fn compares(kind: Kind, cell: &Cell, comparison: Comparison, value: &Value) -> bool {
    let ordering = match (cell, value) {
        (Cell::Text(path), Value::Text(project)) if kind == Kind::Project => {
            let rest = path.strip_prefix(project.as_str());
            return rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        (Cell::Texts(texts), Value::Text(text)) => return texts.contains(text),
        (Cell::Integers(numbers), Value::Integer(number)) => return numbers.contains(number),
        (Cell::Text(left) | Cell::Typed { text: left, .. }, Value::Text(right)) => {
            Some(left.cmp(right))
        }
        (Cell::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        (Cell::Integer(left), Value::Time(right)) => Some(left.cmp(&right.as_millis())),
        (Cell::Real(left), Value::Real(right)) => left.partial_cmp(right),
        (Cell::Typed { number, .. }, Value::Real(right)) => {
            number.and_then(|left| left.partial_cmp(right))
        }
        _ => None,
    };
    ordering.is_some_and(|ordering| match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::NotEqual => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

impl Query {
    /// Which of two records comes first.
    pub fn compare(&self, entity: Entity, left: &impl Record, right: &impl Record) -> Ordering {
        let mut order = self.effective_order(entity);
        let direction = order
            .last()
            .map_or(Direction::Ascending, |last| last.direction);
        let field = Field::column(entity, "id");
        order.push(Order { field, direction });
        for Order { field, direction } in order {
            let ordering = compare(&left.cell(&field), &right.cell(&field), direction);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }
}

/// What is missing comes last in both directions, and before it, where a field has numbers
/// and texts, the texts.
fn compare(left: &Cell, right: &Cell, direction: Direction) -> Ordering {
    let rank = |cell: &Cell| match cell {
        cell if is_missing(cell) => 2,
        Cell::Typed { number: None, .. } => 1,
        _ => 0,
    };
    let ordering = match (left, right) {
        _ if rank(left) != rank(right) => return rank(left).cmp(&rank(right)),
        (
            Cell::Real(left)
            | Cell::Typed {
                number: Some(left), ..
            },
            Cell::Real(right)
            | Cell::Typed {
                number: Some(right),
                ..
            },
        ) => left.partial_cmp(right).unwrap_or(Ordering::Equal),
        (
            Cell::Text(left) | Cell::Typed { text: left, .. },
            Cell::Text(right) | Cell::Typed { text: right, .. },
        ) => left.cmp(right),
        (Cell::Integer(left), Cell::Integer(right)) => left.cmp(right),
        _ => Ordering::Equal,
    };
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}
