//! What can be asked about: the fields of tasks, models, data sets and projects.

use std::fmt;

use crate::name::{MAX_NAME_BYTES, nearest};
use crate::task::{TaskState, TaskType};

/// What a query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Tasks, with their parameters and metrics.
    Task,
    /// Models, with their metadata.
    Model,
    /// Versions of data sets.
    Dataset,
    /// Projects.
    Project,
}

/// What the values of a field are, which decides what can be asked about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A text, ordered by its code points.
    Text,
    /// The state of a task.
    State,
    /// The type of a task.
    TaskType,
    /// The path of a project: equal to it is what lies in the project or in one below it.
    Project,
    /// A whole number.
    Integer,
    /// A measured number; NaN counts as missing.
    Real,
    /// A point in time.
    Time,
    /// A set of texts: equal to one of them is enough, and all `!=` must hold.
    Texts,
    /// A set of whole numbers.
    Integers,
    /// A text that is a number too where its type says so: a parameter, a piece of metadata.
    Typed,
}

/// A field that everything of one kind has.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// As it is written in queries.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
}

/// Something that can be asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// What everything of one kind has.
    Column(&'static Column),
    /// A parameter of a task: `params.<section>/<name>`.
    Parameter {
        /// `General` for `params.<name>`.
        section: String,
        /// Keys of nested objects are joined by `/`.
        name: String,
    },
    /// A curve of a task: `metrics.<title>/<series>`, with `.min` or `.max`.
    Metric {
        /// The chart.
        title: String,
        /// The curve in it.
        series: String,
        /// Which value of the curve.
        statistic: Statistic,
    },
    /// A curve, named as the ClearML protocol does: by the MD5 of its title and series.
    HashedMetric {
        /// 32 lower-case hexadecimal digits.
        title: String,
        /// 32 lower-case hexadecimal digits.
        series: String,
        /// Which value of the curve.
        statistic: Statistic,
    },
    /// A value without a curve: `metrics.<name>`.
    Single {
        /// Its name.
        name: String,
    },
    /// What is kept with a model: `metadata.<key>`.
    Metadata {
        /// Its key.
        key: String,
    },
}

/// Which value of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statistic {
    /// At the greatest iteration.
    Last,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

macro_rules! columns {
    ($($name:literal $kind:ident),* $(,)?) => {
        &[$(Column { name: $name, kind: Kind::$kind }),*]
    };
}

const TASK: &[Column] = columns![
    "id" Text, "name" Text, "project" Project, "project.path" Text, "project.id" Text,
    "type" TaskType, "status" State, "status_reason" Text, "status_message" Text,
    "tags" Texts, "system_tags" Texts, "user" Text, "parent" Text, "comment" Text,
    "action" Text, "queue" Text, "queue.id" Text, "agent" Text,
    "plugin" Text, "plugin.version" Text, "plugin.digest" Text,
    "dataset" Integer, "checkpoint" Integer, "seed" Text,
    "models.input" Integers, "models.output" Integers, "artifacts" Texts,
    "last_iteration" Integer,
    "created" Time, "queued" Time, "started" Time, "completed" Time, "published" Time,
    "status_changed" Time, "last_update" Time,
];

const MODEL: &[Column] = columns![
    "id" Integer, "uuid" Text, "name" Text, "project" Project, "project.path" Text,
    "project.id" Text, "task" Text, "user" Text, "comment" Text, "parent" Integer,
    "iteration" Integer, "digest" Text, "uri" Text, "size_bytes" Integer, "framework" Text,
    "tags" Texts, "system_tags" Texts, "created" Time, "published" Time, "last_update" Time,
];

const DATASET: &[Column] = columns![
    "id" Integer, "uuid" Text, "name" Text, "number" Integer, "project" Project,
    "project.path" Text, "project.id" Text, "task" Text, "user" Text, "description" Text,
    "parent" Integer, "digest" Text, "file_count" Integer, "size_bytes" Integer,
    "tags" Texts, "system_tags" Texts, "created" Time, "published" Time, "last_update" Time,
];

const PROJECT: &[Column] = columns![
    "id" Text, "name" Project, "path" Text, "description" Text, "tags" Texts,
    "system_tags" Texts, "default_output" Text, "created" Time, "last_update" Time,
];

/// Other names of columns, of this product and of the ClearML protocol.
const ALIASES: &[(Entity, &str, &str)] = &[
    (Entity::Task, "creator", "user"),
    (Entity::Task, "state", "status"),
    (Entity::Task, "ended", "completed"),
    (Entity::Task, "plugin.name", "plugin"),
    (Entity::Model, "creator", "user"),
    (Entity::Model, "sha256", "digest"),
    (Entity::Dataset, "creator", "user"),
    (Entity::Dataset, "version", "number"),
];

/// A character of a word, and whether it was quoted.
pub(crate) type Letter = (char, bool);

/// The section of parameters that are named without one.
const DEFAULT_SECTION: &str = "General";

impl Entity {
    /// Every kind of thing that queries find.
    pub const ALL: [Self; 4] = [Self::Task, Self::Model, Self::Dataset, Self::Project];

    /// The fields that each of them has.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Task => TASK,
            Self::Model => MODEL,
            Self::Dataset => DATASET,
            Self::Project => PROJECT,
        }
    }

    /// The column of this name, or of this other name for it.
    pub fn column(self, name: &str) -> Option<&'static Column> {
        let named = |name: &str| self.columns().iter().find(|column| column.name == name);
        named(name).or_else(|| {
            let alias = ALIASES
                .iter()
                .find(|(entity, alias, _)| *entity == self && *alias == name);
            alias.and_then(|(_, _, name)| named(name))
        })
    }

    /// What they are called in sentences.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Task => "tasks",
            Self::Model => "models",
            Self::Dataset => "data sets",
            Self::Project => "projects",
        }
    }
}

impl Kind {
    /// The only texts that a value can be, if it is bound to some.
    pub fn choices(self) -> Option<Vec<&'static str>> {
        match self {
            Self::State => Some(TaskState::ALL.map(TaskState::as_str).to_vec()),
            Self::TaskType => Some(TaskType::ALL.map(TaskType::as_str).to_vec()),
            _ => None,
        }
    }

    /// Whether a field of this kind has many values at once.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Texts | Self::Integers)
    }

    /// Whether `<` and the like make sense.
    pub fn is_ordered(self) -> bool {
        matches!(
            self,
            Self::Text | Self::Integer | Self::Real | Self::Time | Self::Typed
        )
    }

    /// Whether regular expressions make sense.
    pub fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Integer | Self::Real | Self::Time | Self::Integers
        )
    }
}

impl Statistic {
    /// The name it has in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    fn protocol_name(self) -> &'static str {
        match self {
            Self::Last => "value",
            Self::Min => "min_value",
            Self::Max => "max_value",
        }
    }

    fn of_protocol(name: &str) -> Option<Self> {
        [Self::Last, Self::Min, Self::Max]
            .into_iter()
            .find(|statistic| statistic.protocol_name() == name)
    }
}

impl Field {
    /// The column `name`.
    ///
    /// # Panics
    /// When there is none: names come from [`Entity::columns`].
    pub fn column(entity: Entity, name: &str) -> Self {
        let column = entity.column(name);
        Self::Column(column.expect("the name of a column is written in our own code"))
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Column(column) => column.kind,
            Self::Parameter { .. } | Self::Metadata { .. } => Kind::Typed,
            Self::Metric { .. } | Self::HashedMetric { .. } | Self::Single { .. } => Kind::Real,
        }
    }

    /// The field that `text` names, written as in a query.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(entity: Entity, text: &str) -> Result<Self, String> {
        super::parse::field(entity, text)
    }

    /// The field that a word names. Dots and slashes that were quoted are part of a name.
    pub(crate) fn named(entity: Entity, word: &[Letter]) -> Result<Self, String> {
        let text: String = word.iter().map(|(character, _)| character).collect();
        let is_bare = word.iter().all(|(_, quoted)| !quoted);
        if is_bare && let Some(column) = entity.column(&text) {
            return Ok(Self::Column(column));
        }
        let dot = word.iter().position(|part| *part == ('.', false));
        if let Some(dot) = dot {
            let (head, rest) = (&word[..dot], &word[dot + 1..]);
            let head: String = head.iter().map(|(character, _)| character).collect();
            match (entity, head.as_str()) {
                (Entity::Task, "params") => return parameter(rest),
                (Entity::Task, "metrics") => return metric(rest),
                (Entity::Task, "last_metrics") => return hashed_metric(rest),
                (Entity::Model, "metadata") => {
                    let key = name_of(rest, "the key")?;
                    return Ok(Self::Metadata { key });
                }
                _ => {}
            }
        }
        Err(unknown(entity, &text))
    }
}

fn parameter(rest: &[Letter]) -> Result<Field, String> {
    let (section, name) = match split(rest, '/') {
        Some((section, name)) => (name_of(section, "the section")?, name),
        None => (DEFAULT_SECTION.to_owned(), rest),
    };
    let name = name_of(name, "the parameter's name")?;
    Ok(Field::Parameter { section, name })
}

fn metric(rest: &[Letter]) -> Result<Field, String> {
    let (rest, statistic) = without_statistic(rest);
    let Some((title, series)) = split(rest, '/') else {
        let name = name_of(rest, "the metric's name")?;
        return match statistic {
            None | Some(Statistic::Last) => Ok(Field::Single { name }),
            Some(_) => Err(format!(
                "a curve `metrics.TITLE/SERIES`: the single value `{name}` has no {}",
                statistic.unwrap_or(Statistic::Last).as_str()
            )),
        };
    };
    Ok(Field::Metric {
        title: name_of(title, "the title")?,
        series: name_of(series, "the series")?,
        statistic: statistic.unwrap_or(Statistic::Last),
    })
}

fn hashed_metric(rest: &[Letter]) -> Result<Field, String> {
    let text: String = rest.iter().map(|(character, _)| character).collect();
    let parts: Vec<&str> = text.split('.').collect();
    let is_hash = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match parts[..] {
        [title, series, value]
            if is_hash(title)
                && is_hash(series)
                && let Some(statistic) = Statistic::of_protocol(value) =>
        {
            Ok(Field::HashedMetric {
                title: title.to_ascii_lowercase(),
                series: series.to_ascii_lowercase(),
                statistic,
            })
        }
        _ => Err(
            "`last_metrics.<MD5 of the title>.<MD5 of the series>.` and `value`, `min_value` or `max_value`"
                .to_owned(),
        ),
    }
}

/// What stands before and after the first `separator` that is not quoted.
fn split(word: &[Letter], separator: char) -> Option<(&[Letter], &[Letter])> {
    let at = word.iter().position(|part| *part == (separator, false))?;
    Some((&word[..at], &word[at + 1..]))
}

fn without_statistic(word: &[Letter]) -> (&[Letter], Option<Statistic>) {
    for statistic in [Statistic::Last, Statistic::Min, Statistic::Max] {
        let suffix = [".", statistic.as_str()].concat();
        let Some(start) = word.len().checked_sub(suffix.len()) else {
            continue;
        };
        let is_suffix = word[start..]
            .iter()
            .zip(suffix.chars())
            .all(|(part, expected)| *part == (expected, false));
        if is_suffix {
            return (&word[..start], Some(statistic));
        }
    }
    (word, None)
}

fn name_of(part: &[Letter], what: &str) -> Result<String, String> {
    let name: String = part.iter().map(|(character, _)| character).collect();
    // Names of nested parameters are longer than others.
    if name.is_empty() || name.len() > 5 * MAX_NAME_BYTES {
        return Err(format!("{what} to have 1 to {} bytes", 5 * MAX_NAME_BYTES));
    }
    Ok(name)
}

fn unknown(entity: Entity, name: &str) -> String {
    let columns = entity.columns().iter().map(|column| column.name);
    let short: String = name.chars().take(80).collect();
    match nearest(&short, columns) {
        Some(near) => format!("a field of {}; did you mean `{near}`?", entity.plural()),
        None => {
            let names: Vec<&str> = entity.columns().iter().map(|column| column.name).collect();
            let more = match entity {
                Entity::Task => ", `params.SECTION/NAME`, `metrics.TITLE/SERIES`",
                Entity::Model => ", `metadata.KEY`",
                Entity::Dataset | Entity::Project => "",
            };
            format!(
                "a field of {} ({}{more})",
                entity.plural(),
                names.join(", ")
            )
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => formatter.write_str(column.name),
            Self::Parameter { section, name } => {
                write!(formatter, "params.{}/{}", Name(section), Name(name))
            }
            Self::Metric {
                title,
                series,
                statistic,
            } => {
                write!(formatter, "metrics.{}/{}", Name(title), Name(series))?;
                match statistic {
                    Statistic::Last => Ok(()),
                    other => write!(formatter, ".{}", other.as_str()),
                }
            }
            Self::HashedMetric {
                title,
                series,
                statistic,
            } => {
                let statistic = statistic.protocol_name();
                write!(formatter, "last_metrics.{title}.{series}.{statistic}")
            }
            Self::Single { name } => write!(formatter, "metrics.{}", Name(name)),
            Self::Metadata { key } => write!(formatter, "metadata.{}", Name(key)),
        }
    }
}

/// A name inside a field: quoted unless it is plain.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = !self.0.is_empty()
            && self
                .0
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if is_plain {
            formatter.write_str(self.0)
        } else {
            formatter.write_str(&super::parse::quoted(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, printed: &str) {
        let field = Field::parse(Entity::Task, text).unwrap();
        assert_eq!(field.to_string(), printed);
        assert_eq!(Field::parse(Entity::Task, printed), Ok(field));
    }

    #[test]
    fn fields_by_name() {
        check("status", "status");
        check("state", "status");
        check("plugin.version", "plugin.version");
        check("params.lr", "params.General/lr");
        check("params.Args/optimizer/lr", "params.Args/\"optimizer/lr\"");
        check("params.\"a/b\"/c.d", "params.\"a/b\"/\"c.d\"");
        check("metrics.val/acc", "metrics.val/acc");
        check("metrics.val/acc.last", "metrics.val/acc");
        check("metrics.val/acc.min", "metrics.val/acc.min");
        check("metrics.val/\"acc.min\"", "metrics.val/\"acc.min\"");
        check("metrics.val/acc@0.5.max", "metrics.val/\"acc@0.5\".max");
        check("metrics.f1", "metrics.f1");
        let hashed = "last_metrics.0cc175b9c0f1b6a831c399e269772661.92EB5FFEE6AE2FEC3AD71C777531578F.min_value";
        check(hashed, &hashed.to_lowercase());
    }

    #[test]
    fn an_unknown_field_is_answered_with_the_nearest() {
        let error = |text| Field::parse(Entity::Task, text).unwrap_err();
        assert_eq!(error("statu"), "a field of tasks; did you mean `status`?");
        assert!(error("zzz").starts_with("a field of tasks (id, name, project"));
        assert!(error("metrics.").starts_with("the metric's name to have 1"));
        assert!(error("metrics.f1.min").contains("the single value `f1` has no min"));
        assert!(error("metadata.x").starts_with("a field of tasks"));
        assert!(Field::parse(Entity::Model, "metadata.x").is_ok());
    }

    #[test]
    fn every_name_is_there_once_and_every_alias_leads_somewhere() {
        for entity in Entity::ALL {
            let mut names: Vec<&str> = entity.columns().iter().map(|column| column.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), entity.columns().len());
        }
        for (entity, alias, name) in ALIASES {
            assert!(!entity.columns().iter().any(|column| column.name == *alias));
            assert_eq!(entity.column(alias).unwrap().name, *name);
        }
    }
}
