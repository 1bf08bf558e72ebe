//! Where the fields of queries are in the tables.

use crate::database::Kind;
use trainshed_core::query::{Direction, Entity, Field, Kind as FieldKind, Order, Statistic};

/// The table of what a query is about.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What holds for the rows that may be seen.
    pub(super) visible: &'static str,
    pub(super) has_number_ids: bool,
}

/// Where a field is. `$1` is the workspace everywhere.
pub(super) enum Source {
    /// An expression over a row of the table.
    Own { sql: String, nullable: bool },
    /// A value in rows of another table.
    Other(Other),
}

/// Rows of another table that belong to a row of ours.
pub(super) struct Other {
    /// The table, with a short name for it.
    pub(super) from: &'static str,
    /// Which of its rows, before what belongs to which; `?` stands for a text of `names`.
    pub(super) rows: String,
    pub(super) names: Vec<String>,
    /// The column that names ours.
    pub(super) key: &'static str,
    /// Ours, by that name, and whether it can be missing.
    pub(super) owner: String,
    pub(super) owner_nullable: bool,
    /// The value, which may be null in a row.
    pub(super) value: &'static str,
    /// Whether it can be a number and a text; [`number`] has it as a number.
    pub(super) is_typed: bool,
}

/// Something to order by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// The field and the direction, for cursors.
    pub(super) name: String,
    pub(super) field: Field,
    pub(super) kind: KeyKind,
    /// Which of the two keys of a field that has numbers and texts.
    pub(super) is_text_of_typed: bool,
    pub(super) nullable: bool,
    pub(super) direction: Direction,
}

/// What the values of a key are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text,
    Integer,
    Real,
}

pub(super) fn table(entity: Entity) -> Table {
    match entity {
        Entity::Task => Table {
            name: "task",
            visible: "",
            has_number_ids: false,
        },
        Entity::Model => Table {
            name: "model",
            visible: " and model.state = 'visible'",
            has_number_ids: true,
        },
        Entity::Dataset => Table {
            name: "dataset",
            visible: " and dataset.state = 'visible'",
            has_number_ids: true,
        },
        Entity::Project => Table {
            name: "project",
            visible: "",
            has_number_ids: false,
        },
    }
}

/// The value of a row `p` as a number, where its type and its text say that it is one: what
/// a cast would refuse, or round to nothing, is none.
pub(super) fn number(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => {
            "case when p.type in ('int', 'integer', 'float') and json_valid(p.value)
                   and json_type(p.value) in ('integer', 'real')
              then cast(p.value as double precision) end"
        }
        Kind::Postgres => {
            "case when p.type in ('int', 'integer', 'float') and length(p.value) <= 300 and p.value ~ \
                '^-?([0-9]+(\\.[0-9]+)?|[0-9](\\.[0-9]{1,20})?[eE][+-]?([0-9]{1,2}|[12][0-9]{2}|30[0-7]))$'
              then cast(p.value as double precision) end"
        }
    }
}

/// Where `field` is. Metrics that are named by hashes have been resolved before.
pub(super) fn source(entity: Entity, field: &Field) -> Source {
    let names = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect();
    match field {
        Field::Column(column) => match column.kind {
            FieldKind::Texts | FieldKind::Integers => Source::Other(set(entity, column.name)),
            _ => own(entity, column.name),
        },
        Field::Parameter { section, name } => Source::Other(Other {
            from: "parameter as p",
            rows: "p.workspace = $1 and p.section = ? and p.name = ?".to_owned(),
            names: names(&[section, name]),
            key: "p.task",
            owner: "task.id".to_owned(),
            owner_nullable: false,
            value: "p.value",
            is_typed: true,
        }),
        Field::Metadata { key } => Source::Other(Other {
            from: "model_metadata as p",
            rows: "p.workspace = $1 and p.key = ?".to_owned(),
            names: names(&[key]),
            key: "p.model",
            owner: "model.id".to_owned(),
            owner_nullable: false,
            value: "p.value",
            is_typed: true,
        }),
        Field::Metric {
            title,
            series,
            statistic,
        }
        | Field::HashedMetric {
            title,
            series,
            statistic,
        } => Source::Other(Other {
            from: "series as s",
            rows: "s.workspace = $1 and s.title = ? and s.series = ?".to_owned(),
            names: names(&[title, series]),
            key: "s.task",
            owner: "task.id".to_owned(),
            owner_nullable: false,
            value: match statistic {
                Statistic::Last => "s.last_value",
                Statistic::Min => "s.min_value",
                Statistic::Max => "s.max_value",
            },
            is_typed: false,
        }),
        Field::Single { name } => Source::Other(Other {
            from: "single as s",
            rows: "s.workspace = $1 and s.name = ?".to_owned(),
            names: names(&[name]),
            key: "s.task",
            owner: "task.id".to_owned(),
            owner_nullable: false,
            value: "s.value",
            is_typed: false,
        }),
    }
}

/// The keys by which `order` orders.
pub(super) fn keys(entity: Entity, order: &Order) -> Vec<Key> {
    let kind = match order.field.kind() {
        FieldKind::Integer | FieldKind::Time => KeyKind::Integer,
        FieldKind::Real | FieldKind::Typed => KeyKind::Real,
        _ => KeyKind::Text,
    };
    let nullable = match source(entity, &order.field) {
        Source::Own { nullable, .. } => nullable,
        Source::Other(_) => true,
    };
    let mark = match order.direction {
        Direction::Ascending => '+',
        Direction::Descending => '-',
    };
    let key = Key {
        name: format!("{mark}{}", order.field),
        field: order.field.clone(),
        kind,
        is_text_of_typed: false,
        nullable,
        direction: order.direction,
    };
    match order.field.kind() {
        FieldKind::Typed => {
            let texts = Key {
                name: format!("{}~", key.name),
                kind: KeyKind::Text,
                is_text_of_typed: true,
                ..key.clone()
            };
            vec![key, texts]
        }
        _ => vec![key],
    }
}

fn own(entity: Entity, name: &str) -> Source {
    let table = table(entity).name;
    let (sql, nullable) = match (entity, name) {
        (Entity::Project, "name" | "path") => ("project.path".to_owned(), false),
        (Entity::Project, "default_output") => ("project.default_output".to_owned(), true),
        (_, "project" | "project.path") => (
            format!(
                "(select project.path from project \
                   where project.workspace = {table}.workspace and project.id = {table}.project)"
            ),
            entity != Entity::Task,
        ),
        (_, "project.id") => (format!("{table}.project"), entity != Entity::Task),
        (_, "user") => (format!("nullif({table}.creator, '')"), true),
        (Entity::Task, "action") => ("nullif(task.action, '')".to_owned(), true),
        (Entity::Task, "status") => ("task.state".to_owned(), false),
        (Entity::Task, "status_reason") => ("task.state_reason".to_owned(), false),
        (Entity::Task, "status_message") => ("task.state_message".to_owned(), false),
        (Entity::Task, "status_changed") => ("task.state_changed".to_owned(), false),
        (Entity::Task, "completed") => ("task.ended".to_owned(), true),
        (Entity::Task, "plugin") => ("task.plugin_name".to_owned(), true),
        (Entity::Task, "plugin.version") => ("task.plugin_version".to_owned(), true),
        (Entity::Task, "plugin.digest") => ("task.plugin_digest".to_owned(), true),
        (Entity::Task, "queue.id") => ("task.queue".to_owned(), true),
        (Entity::Task, "queue") => (
            "(select queue.name from queue \
               where queue.workspace = task.workspace and queue.id = task.queue)"
                .to_owned(),
            true,
        ),
        (Entity::Task, "agent") => (
            "(select agent.name from agent \
               where agent.workspace = task.workspace and agent.id = task.agent)"
                .to_owned(),
            true,
        ),
        (Entity::Model, "digest") => ("model.sha256".to_owned(), true),
        (Entity::Model, "published") => ("model.ready".to_owned(), true),
        (_, same) => {
            let nullable = matches!(
                (entity, same),
                (
                    Entity::Task,
                    "parent"
                        | "dataset"
                        | "checkpoint"
                        | "seed"
                        | "queued"
                        | "started"
                        | "published"
                ) | (Entity::Model, "task" | "parent" | "uri")
                    | (Entity::Dataset, "task" | "parent" | "published")
            );
            (format!("{table}.{same}"), nullable)
        }
    };
    Source::Own { sql, nullable }
}

/// The names of tasks, as if they were in a table of their own: so the planner of a statement
/// that begins with a name goes by its index, and not by that of the order.
pub(super) fn names_of_tasks() -> Other {
    Other {
        from: "task as n",
        rows: "n.workspace = $1".to_owned(),
        names: Vec::new(),
        key: "n.id",
        owner: "task.id".to_owned(),
        owner_nullable: false,
        value: "n.name",
        is_typed: false,
    }
}

fn set(entity: Entity, name: &str) -> Other {
    let table = table(entity);
    match name {
        "models.input" | "models.output" => {
            let role = if name == "models.input" {
                "input"
            } else {
                "output"
            };
            Other {
                from: "task_model as m",
                rows: format!("m.workspace = $1 and m.role = '{role}'"),
                names: Vec::new(),
                key: "m.task",
                owner: "task.id".to_owned(),
                owner_nullable: false,
                value: "m.model",
                is_typed: false,
            }
        }
        "artifacts" => Other {
            from: "artifact as a",
            rows: "a.workspace = $1 and a.replaced is null".to_owned(),
            names: Vec::new(),
            key: "a.task",
            owner: "task.id".to_owned(),
            owner_nullable: false,
            value: "a.name",
            is_typed: false,
        },
        _ => {
            let is_system = u8::from(name == "system_tags");
            let kind = table.name;
            let owner = match table.has_number_ids {
                true => format!("cast({kind}.id as text)"),
                false => format!("{kind}.id"),
            };
            Other {
                from: "tag as t",
                rows: format!(
                    "t.workspace = $1 and t.kind = '{kind}' and t.is_system = {is_system}"
                ),
                names: Vec::new(),
                key: "t.owner",
                owner,
                owner_nullable: false,
                value: "t.tag",
                is_typed: false,
            }
        }
    }
}
