//! Queries: which tasks, models, data sets or projects, and in which order.
//!
//! A [`Query`] is a tree of typed tests on named fields. It comes from one line of text
//! ([`parse`], `docs/queries.md`), from the JSON of [`task_filter`], or from code; it prints
//! as the text that gives it again. What it means is said once, by [`Filter::accepts`] and
//! [`Query::compare`] over a plain [`Record`]; the store must agree with them.
//!
//! Logic has two values. A test of something that is missing fails, and a test with `!=`,
//! `!~` or `not in` is the opposite of the one without, so that `not` always means the rest.

mod ast;
mod evaluate;
mod field;
mod moment;
mod parse;
mod pattern;
mod request;
mod tags;
mod task_filter;
#[cfg(test)]
mod tests;

pub use ast::{Comparison, Condition, Direction, Filter, Order, Query, Test, Value};
pub use evaluate::{Cell, Record};
pub use field::{Column, Entity, Field, Kind, Statistic};
pub use moment::print as print_time;
pub use parse::{SyntaxError, parse};
pub use pattern::{InvalidPattern, Literal, Pattern};
pub use request::{Request, RequestError, fields};
pub use task_filter::{FilterError, MAX_PAGE_SIZE, TaskFilter};

/// Most bytes of a query's text.
pub const MAX_TEXT_BYTES: usize = 16 << 10;
/// Most parentheses and `not` inside each other.
pub const MAX_DEPTH: usize = 32;
/// Most tests of one query: the databases bound the depth of an expression.
pub const MAX_TESTS: usize = 300;
/// Most values of one query: the databases bound the places of a statement.
pub const MAX_VALUES: usize = 5_000;
/// Most fields to order by.
pub const MAX_ORDERS: usize = 8;
/// Most tasks, models, data sets or projects of one page.
pub const MAX_LIMIT: u32 = 1_000;
/// Most fields that are asked for.
pub const MAX_FIELDS: usize = 200;
