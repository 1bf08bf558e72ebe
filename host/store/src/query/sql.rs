//! Writing statements. This is the one place where SQL is put together: names of tables and
//! columns are our own, and everything that comes from outside is bound.

use std::fmt::Write as _;

use futures::stream::BoxStream;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query as SqlQuery;
use sqlx::{Any, AnyPool, AssertSqlSafe};
use trainshed_core::query::{
    Comparison, Condition, Direction, Entity, Field, Kind as FieldKind, Literal, Test, Value,
};

use super::cursor::{Cursor, KeyValue};
use super::resolve::Node;
use super::source::{Key, KeyKind, Other, Source, names_of_tasks, number, source, table};
use super::{Phase, Resolved};
use crate::database::Kind;
use crate::file::bigint;
use crate::workspace::Workspace;

/// A statement with what is bound to its places.
pub(super) struct Statement {
    kind: Kind,
    text: String,
    values: Vec<Bound>,
}

enum Bound {
    Text(String),
    Integer(i64),
    Real(f64),
}

/// What a test compares: a text, a number, or whichever of both the value is.
struct Operand<'a> {
    text: &'a str,
    number: Option<&'a str>,
}

impl Statement {
    /// The ids and keys of a part of what fits `query`.
    pub(super) fn page(
        kind: Kind,
        workspace: &Workspace,
        query: &Resolved,
        few: Option<&Node>,
        (phase, after): (Phase, Option<&Cursor>),
        (limit, skip): (u64, u64),
    ) -> Self {
        let mut statement = Self::new(kind, workspace);
        let table = table(query.entity);
        let given = usize::from(phase == Phase::Missing);
        // A metric or parameter that rows are ordered by leads to them through its own index.
        let leading = match few {
            None => statement.leading(query, phase),
            Some(_) => None,
        };
        let mut expressions = Vec::new();
        for (index, key) in query.keys.iter().enumerate() {
            expressions.push(match &leading {
                Some(leading) if index == 0 => leading.value.to_owned(),
                _ => statement.key(query.entity, key),
            });
        }
        let mut text = format!("select {}.id", table.name);
        for (index, expression) in expressions.iter().enumerate().skip(given) {
            write_to(&mut text, format_args!(", {expression} as k{index}"));
        }
        match &leading {
            Some(leading) => {
                let rows = statement.rows(leading);
                write_to(
                    &mut text,
                    format_args!(
                        " from {} cross join {} where {rows} and {} = {} and ",
                        leading.from, table.name, leading.key, leading.owner
                    ),
                );
            }
            None => {
                let (rows, link) = statement.from(query.entity, few);
                write_to(&mut text, format_args!(" from {rows} where {link}"));
            }
        }
        statement.text = text;
        statement.push_filter(query, phase, &expressions);
        if let Some(after) = after {
            let condition = statement.after(query, phase, &expressions, after);
            statement.push(&format!(" and {condition}"));
        }
        statement.push(" order by ");
        for (index, key) in query.keys.iter().enumerate().skip(given) {
            if key.nullable && !(index == 0 && phase == Phase::Present) {
                statement.push(&format!("({} is null), ", expressions[index]));
            }
            let expression = statement.collated(&expressions[index], key.kind);
            statement.push(&format!("{expression}{}, ", suffix(key.direction)));
        }
        let limit = statement.bind(Bound::Integer(bigint(limit)));
        statement.push(&format!(
            "{}.id{} limit {limit}",
            table.name,
            suffix(query.direction)
        ));
        if skip > 0 {
            let skip = statement.bind(Bound::Integer(bigint(skip)));
            statement.push(&format!(" offset {skip}"));
        }
        statement
    }

    /// How many fit `query`, from `after` on.
    pub(super) fn count(
        kind: Kind,
        workspace: &Workspace,
        query: &Resolved,
        few: Option<&Node>,
        (phase, after): (Phase, Option<&Cursor>),
    ) -> Self {
        let mut statement = Self::new(kind, workspace);
        // Only what the text has places for may be bound.
        let needed = match (phase, after) {
            (Phase::All, None) => 0,
            (_, None) => 1,
            (_, Some(_)) => query.keys.len(),
        };
        let keys = query.keys.iter().take(needed);
        let expressions: Vec<String> = keys.map(|key| statement.key(query.entity, key)).collect();
        let (rows, link) = statement.from(query.entity, few);
        statement.push(&format!("select count(*) from {rows} where {link}"));
        statement.push_filter(query, phase, &expressions);
        if let Some(after) = after {
            let condition = statement.after(query, phase, &expressions, after);
            statement.push(&format!(" and {condition}"));
        }
        statement
    }

    /// How many rows of another table pass a test, as far as `most`; `None` for tests of which
    /// no index tells that.
    pub(super) fn few(
        kind: Kind,
        workspace: &Workspace,
        entity: Entity,
        test: &Test,
        most: i64,
    ) -> Option<Self> {
        let mut statement = Self::new(kind, workspace);
        let (other, passes) = statement.counted(entity, test)?;
        let most = statement.bind(Bound::Integer(most));
        statement.text = format!(
            "select count(*) from (select 1 from {} where {passes} limit {most}) as few",
            other.from
        );
        Some(statement)
    }

    /// The values of a field with the ids of the rows that have them, as far as they have
    /// `required` in them.
    pub(super) fn values(
        kind: Kind,
        workspace: &Workspace,
        entity: Entity,
        field: &Field,
        required: &str,
    ) -> Self {
        let mut statement = Self::new(kind, workspace);
        let value = match source(entity, field) {
            Source::Own { sql, .. } => {
                let table = table(entity);
                statement.push(&format!(
                    "select {0}.id, {sql} from {0} where {0}.workspace = $1{1} and {sql} is not null",
                    table.name, table.visible
                ));
                sql
            }
            Source::Other(other) => {
                let rows = statement.rows(&other);
                statement.push(&format!(
                    "select {}, {} from {} where {rows}",
                    other.key, other.value, other.from
                ));
                other.value.to_owned()
            }
        };
        if !required.is_empty() {
            let part = Literal::Part(required.to_owned());
            let condition = statement.literal(&value, &part);
            statement.push(&format!(" and {condition}"));
        }
        statement
    }

    /// The fields that are expressions of a row, for the rows with `ids`; the id comes first.
    pub(super) fn cells(
        kind: Kind,
        workspace: &Workspace,
        entity: Entity,
        expressions: &[&str],
        ids: &[String],
    ) -> Self {
        let mut statement = Self::new(kind, workspace);
        let table = table(entity);
        let list = statement.list(ids, table.has_number_ids);
        let id = match table.has_number_ids {
            true => format!("cast({}.id as text)", table.name),
            false => format!("{}.id", table.name),
        };
        let columns: String = expressions.iter().map(|sql| format!(", {sql}")).collect();
        statement.push(&format!(
            "select {id}{columns} from {0} where {0}.workspace = $1 and {0}.id in {list}",
            table.name
        ));
        statement
    }

    /// The values of a field in another table for the rows with `ids`: the id as a text, the
    /// value, and the value as a number.
    pub(super) fn other_cells(
        kind: Kind,
        workspace: &Workspace,
        entity: Entity,
        other: &Other,
        ids: &[String],
    ) -> Self {
        let mut statement = Self::new(kind, workspace);
        let numbers = table(entity).has_number_ids && other.key != "t.owner";
        let list = statement.list(ids, numbers);
        let rows = statement.rows(other);
        let number = match other.is_typed {
            true => format!(", {}", number(kind)),
            false => String::new(),
        };
        statement.push(&format!(
            "select cast({0} as text), {1}{number} from {2} where {rows} and {0} in {list} \
              order by {0}, {1}",
            other.key, other.value, other.from
        ));
        statement
    }

    pub(super) async fn fetch_all(&self, pool: &AnyPool) -> Result<Vec<AnyRow>, sqlx::Error> {
        self.bound().fetch_all(pool).await
    }

    pub(super) fn fetch<'a>(
        &'a self,
        pool: &'a AnyPool,
    ) -> BoxStream<'a, Result<AnyRow, sqlx::Error>> {
        self.bound().fetch(pool)
    }

    fn new(kind: Kind, workspace: &Workspace) -> Self {
        Self {
            kind,
            text: String::new(),
            values: vec![Bound::Text(workspace.as_str().to_owned())],
        }
    }

    fn bound(&self) -> SqlQuery<'_, Any, AnyArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.text.clone()));
        for value in &self.values {
            query = match value {
                Bound::Text(text) => query.bind(text.clone()),
                Bound::Integer(number) => query.bind(*number),
                Bound::Real(number) => query.bind(*number),
            };
        }
        query
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The place of a bound value.
    fn bind(&mut self, value: Bound) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn bind_text(&mut self, text: &str) -> String {
        self.bind(Bound::Text(text.to_owned()))
    }

    /// The rows of another table, with their names bound.
    fn rows(&mut self, other: &Other) -> String {
        let mut names = other.names.iter();
        let mut rows = String::new();
        for (index, piece) in other.rows.split('?').enumerate() {
            if index > 0 {
                let name = names.next().map_or("", String::as_str);
                rows += &self.bind_text(name);
            }
            rows += piece;
        }
        rows
    }

    /// The table, behind the few rows that pass `few` if that is given, and what links the two.
    /// SQLite reads what is cross joined in this order.
    fn from(&mut self, entity: Entity, few: Option<&Node>) -> (String, String) {
        let table = table(entity);
        let ids = match few {
            None => None,
            Some(Node::OneOf { list, numbers, .. }) => Some(self.json_list(list.clone(), *numbers)),
            Some(Node::Test(test)) => self.counted(entity, test).map(|(other, passes)| {
                let id = match table.has_number_ids && other.key == "t.owner" {
                    true => format!("cast({} as bigint)", other.key),
                    false => other.key.to_owned(),
                };
                format!(
                    "(select distinct {id} as id from {} where {passes})",
                    other.from
                )
            }),
            Some(_) => None,
        };
        match ids {
            None => (table.name.to_owned(), String::new()),
            Some(ids) => (
                format!("{ids} as few cross join {}", table.name),
                format!("{}.id = few.id and ", table.name),
            ),
        }
    }

    /// The rows of a tag, a metric, a parameter or a name that pass a test, which an index finds.
    fn counted(&mut self, entity: Entity, test: &Test) -> Option<(Other, String)> {
        let condition = test.condition();
        let is_equality = match condition {
            Condition::Compare(comparison, _) => *comparison == Comparison::Equal,
            Condition::In { negated, .. } => !negated,
            Condition::Match { negated, pattern } => {
                !negated && matches!(pattern.literal(), Some(Literal::Equal(_)))
            }
            Condition::Null { .. } => false,
        };
        let is_positive = match condition {
            Condition::Compare(comparison, _) => *comparison != Comparison::NotEqual,
            Condition::In { negated, .. } | Condition::Match { negated, .. } => !negated,
            Condition::Null { .. } => false,
        };
        let (other, is_indexed) = match source(entity, test.field()) {
            Source::Own { sql, .. } if sql == "task.name" => (names_of_tasks(), is_equality),
            Source::Own { .. } => return None,
            Source::Other(other) => {
                let is_indexed = match other.key {
                    "t.owner" | "s.task" => is_positive,
                    // Of its texts, the index has the beginnings.
                    "p.task" => match condition {
                        Condition::Compare(_, Value::Real(_)) => is_positive,
                        Condition::Match { .. } => false,
                        _ => is_equality,
                    },
                    _ => false,
                };
                (other, is_indexed)
            }
        };
        if !is_indexed {
            return None;
        }
        let operand = self.operand(&other);
        let rows = self.rows(&other);
        let passes = self.passes(test.field().kind(), &operand, condition);
        Some((other, format!("{rows} and {passes}")))
    }

    /// The curve or the parameter by which rows are ordered first, where only those that have
    /// it are wanted.
    fn leading(&mut self, query: &Resolved, phase: Phase) -> Option<Other> {
        let first = query.keys.first()?;
        let Source::Other(other) = source(query.entity, &first.field) else {
            return None;
        };
        match first.field {
            _ if phase != Phase::Present => None,
            Field::Metric { .. } => Some(other),
            Field::Parameter { .. } if !first.is_text_of_typed => Some(Other {
                value: number(self.kind),
                is_typed: false,
                ..other
            }),
            _ => None,
        }
    }

    /// The expression of a key.
    fn key(&mut self, entity: Entity, key: &Key) -> String {
        match source(entity, &key.field) {
            Source::Own { sql, .. } => sql,
            Source::Other(other) => {
                let number = number(self.kind);
                let value = match (other.is_typed, key.is_text_of_typed) {
                    (true, true) => {
                        format!("case when ({number}) is null then {} end", other.value)
                    }
                    (true, false) => number.to_owned(),
                    (false, _) => other.value.to_owned(),
                };
                let rows = self.rows(&other);
                format!(
                    "(select {value} from {} where {rows} and {} = {})",
                    other.from, other.key, other.owner
                )
            }
        }
    }

    /// Everything that decides whether a row is wanted, but where the list goes on.
    fn push_filter(&mut self, query: &Resolved, phase: Phase, expressions: &[String]) {
        let table = table(query.entity);
        let filter = self.node(query.entity, &query.filter);
        self.push(&format!(
            "{}.workspace = $1{} and {filter}",
            table.name, table.visible
        ));
        if let Some(first) = expressions.first() {
            match phase {
                Phase::All => {}
                Phase::Present => self.push(&format!(" and {first} is not null")),
                Phase::Missing => self.push(&format!(" and {first} is null")),
            }
        }
    }

    /// What comes after the row at `after`.
    fn after(
        &mut self,
        query: &Resolved,
        phase: Phase,
        expressions: &[String],
        after: &Cursor,
    ) -> String {
        let table = table(query.entity);
        let id = match after.id.parse() {
            Ok(number) if table.has_number_ids => self.bind(Bound::Integer(number)),
            _ if table.has_number_ids => self.bind(Bound::Integer(0)),
            _ => self.bind_text(&after.id),
        };
        let mut condition = format!("{}.id {} {id}", table.name, beyond(query.direction));
        let given = usize::from(phase == Phase::Missing);
        let keys = query.keys.iter().zip(&after.values).enumerate().skip(given);
        for (index, (key, value)) in keys.rev() {
            let expression = &expressions[index];
            let value = match value {
                KeyValue::Missing => {
                    condition = format!("({expression} is null and {condition})");
                    continue;
                }
                KeyValue::Text(text) => self.bind_text(text),
                KeyValue::Integer(number) => self.bind(Bound::Integer(*number)),
                KeyValue::Real(number) => self.bind(Bound::Real(*number)),
            };
            let compared = self.collated(expression, key.kind);
            let beyond = beyond(key.direction);
            let missing_later = key.nullable && !(index == 0 && phase == Phase::Present);
            let missing = match missing_later {
                true => format!(" or {expression} is null"),
                false => String::new(),
            };
            condition = format!(
                "({compared} {beyond} {value}{missing} or ({expression} = {value} and {condition}))"
            );
            if index == 0 && !missing_later {
                // Says no more, but so that an index can be entered where the list goes on.
                condition = format!("({compared} {beyond}= {value} and {condition})");
            }
        }
        condition
    }

    fn node(&mut self, entity: Entity, node: &Node) -> String {
        match node {
            Node::All(nodes) if nodes.is_empty() => "1 = 1".to_owned(),
            Node::Any(nodes) if nodes.is_empty() => "1 = 0".to_owned(),
            Node::All(nodes) => self.joined(entity, nodes, " and "),
            Node::Any(nodes) => self.joined(entity, nodes, " or "),
            Node::Not(node) => format!("not {}", self.node(entity, node)),
            Node::Test(test) => self.test(entity, test),
            Node::OneOf {
                expression,
                nullable,
                numbers,
                list,
                ..
            } => {
                let list = self.json_list(list.clone(), *numbers);
                match nullable {
                    true => format!("({expression} is not null and {expression} in {list})"),
                    false => format!("({expression} in {list})"),
                }
            }
        }
    }

    fn joined(&mut self, entity: Entity, nodes: &[Node], separator: &str) -> String {
        let parts: Vec<String> = nodes.iter().map(|node| self.node(entity, node)).collect();
        format!("({})", parts.join(separator))
    }

    /// A test that is true or false for every row, never null.
    fn test(&mut self, entity: Entity, test: &Test) -> String {
        let (condition, negated) = match test.condition() {
            Condition::Null { negated } => {
                let missing = self.missing(entity, test.field());
                return match negated {
                    true => format!("(not {missing})"),
                    false => missing,
                };
            }
            Condition::Compare(Comparison::NotEqual, value) => {
                (Condition::Compare(Comparison::Equal, value.clone()), true)
            }
            Condition::In { negated, values } => (
                Condition::In {
                    negated: false,
                    values: values.clone(),
                },
                *negated,
            ),
            Condition::Match { negated, pattern } => (
                Condition::Match {
                    negated: false,
                    pattern: pattern.clone(),
                },
                *negated,
            ),
            other => (other.clone(), false),
        };
        let field = test.field();
        let kind = field.kind();
        let positive = match source(entity, field) {
            Source::Own { sql, nullable } => {
                let operand = Operand {
                    text: &sql,
                    number: None,
                };
                let passes = self.passes(kind, &operand, &condition);
                match nullable {
                    true => format!("({sql} is not null and {passes})"),
                    false => passes,
                }
            }
            Source::Other(other) => {
                let operand = self.operand(&other);
                let rows = self.rows(&other);
                let passes = self.passes(kind, &operand, &condition);
                format!(
                    "exists (select 1 from {} where {rows} and {} = {} and {passes})",
                    other.from, other.key, other.owner
                )
            }
        };
        match negated {
            true => format!("(not {positive})"),
            false => positive,
        }
    }

    fn operand(&self, other: &Other) -> Operand<'static> {
        Operand {
            text: other.value,
            number: other.is_typed.then(|| number(self.kind)),
        }
    }

    fn missing(&mut self, entity: Entity, field: &Field) -> String {
        match source(entity, field) {
            Source::Own { sql, .. } => format!("({sql} is null)"),
            Source::Other(other) => {
                let rows = self.rows(&other);
                format!(
                    "(not exists (select 1 from {} where {rows} and {} = {} and {} is not null))",
                    other.from, other.key, other.owner, other.value
                )
            }
        }
    }

    /// A condition on a value that is there.
    fn passes(&mut self, kind: FieldKind, operand: &Operand<'_>, condition: &Condition) -> String {
        match condition {
            Condition::Compare(comparison, value) => {
                self.compares(kind, operand, *comparison, value)
            }
            Condition::In { values, .. } => {
                let equal = |value| self.compares(kind, operand, Comparison::Equal, value);
                let any: Vec<String> = values.iter().map(equal).collect();
                format!("({})", any.join(" or "))
            }
            Condition::Match { pattern, .. } => match pattern.literal() {
                Some(literal) => self.literal(operand.text, &literal),
                None => "1 = 0".to_owned(),
            },
            Condition::Null { .. } => "1 = 1".to_owned(),
        }
    }

    fn compares(
        &mut self,
        kind: FieldKind,
        operand: &Operand<'_>,
        comparison: Comparison,
        value: &Value,
    ) -> String {
        let operator = comparison.as_str();
        match value {
            Value::Text(text) if text.contains('\0') => {
                // No text in a database has such a character: those that are greater than
                // `a\0b` are those that are greater than `a`.
                let before = Value::Text(text.split('\0').next().unwrap_or_default().to_owned());
                let comparison = match comparison {
                    Comparison::Equal | Comparison::NotEqual => return NEVER.to_owned(),
                    Comparison::Greater | Comparison::GreaterOrEqual => Comparison::Greater,
                    Comparison::Less | Comparison::LessOrEqual => Comparison::LessOrEqual,
                };
                self.compares(kind, operand, comparison, &before)
            }
            Value::Text(path) if kind == FieldKind::Project => {
                let exact = self.literal(operand.text, &Literal::Equal(path.clone()));
                let below = self.literal(operand.text, &Literal::Prefix(format!("{path}/")));
                format!("({exact} or {below})")
            }
            // An index has the beginnings of texts that can be long.
            Value::Text(text) if comparison == Comparison::Equal && operand.number.is_some() => {
                let beginning: String = text.chars().take(BEGINNING).collect();
                let beginning = self.bind_text(&beginning);
                let place = self.bind_text(text);
                format!(
                    "substr({0}, 1, {BEGINNING}) = {beginning} and {0} = {place}",
                    operand.text
                )
            }
            Value::Text(text) if comparison.is_equality() => {
                let place = self.bind_text(text);
                format!("{} {operator} {place}", operand.text)
            }
            Value::Text(text) => {
                let place = self.bind_text(text);
                let left = self.collated(operand.text, KeyKind::Text);
                format!("{left} {operator} {place}")
            }
            Value::Integer(number) => {
                let place = self.bind(Bound::Integer(*number));
                format!("{} {operator} {place}", operand.text)
            }
            Value::Time(time) => {
                let place = self.bind(Bound::Integer(time.as_millis()));
                format!("{} {operator} {place}", operand.text)
            }
            Value::Real(number) => {
                let place = self.bind(Bound::Real(*number));
                let left = operand.number.unwrap_or(operand.text);
                format!("({left}) {operator} {place}")
            }
        }
    }

    fn literal(&mut self, value: &str, literal: &Literal) -> String {
        let (Literal::Equal(text)
        | Literal::Prefix(text)
        | Literal::Suffix(text)
        | Literal::Part(text)) = literal;
        if text.contains('\0') {
            return NEVER.to_owned();
        }
        if text.is_empty() && !matches!(literal, Literal::Equal(_)) {
            return "1 = 1".to_owned();
        }
        let length = text.chars().count();
        let place = self.bind_text(text);
        match (literal, self.kind) {
            (Literal::Equal(_), _) => format!("{value} = {place}"),
            (Literal::Prefix(_), _) => format!("substr({value}, 1, {length}) = {place}"),
            (Literal::Suffix(_), Kind::Sqlite) => format!("substr({value}, -{length}) = {place}"),
            (Literal::Suffix(_), Kind::Postgres) => format!("right({value}, {length}) = {place}"),
            (Literal::Part(_), Kind::Sqlite) => format!("instr({value}, {place}) > 0"),
            (Literal::Part(_), Kind::Postgres) => format!("strpos({value}, {place}) > 0"),
        }
    }

    /// The ids as something that a row's id can be in.
    fn list(&mut self, ids: &[String], numbers: bool) -> String {
        let list = match numbers {
            true => format!("[{}]", ids.join(",")),
            false => serde_json::json!(ids).to_string(),
        };
        self.json_list(list, numbers)
    }

    /// The members of a JSON list: one place however many they are.
    fn json_list(&mut self, list: String, numbers: bool) -> String {
        let place = self.bind(Bound::Text(list));
        match (self.kind, numbers) {
            (Kind::Sqlite, _) => format!("(select value as id from json_each({place}))"),
            (Kind::Postgres, false) => {
                format!("(select json_array_elements_text({place}::json) as id)")
            }
            (Kind::Postgres, true) => {
                format!("(select json_array_elements_text({place}::json)::bigint as id)")
            }
        }
    }

    /// A text that is ordered by its code points; SQLite does that anyway.
    fn collated(&self, expression: &str, kind: KeyKind) -> String {
        match (self.kind, kind) {
            (Kind::Postgres, KeyKind::Text) => format!("{expression} collate \"C\""),
            _ => expression.to_owned(),
        }
    }
}

/// How many characters of a parameter's text its index has.
const BEGINNING: usize = 100;

/// A text with a NUL character is in no database: PostgreSQL refuses it.
const NEVER: &str = "1 = 0";

fn suffix(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => "",
        Direction::Descending => " desc",
    }
}

fn beyond(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => ">",
        Direction::Descending => "<",
    }
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a text cannot fail");
}
