//! What tasks need beside themselves.

use std::collections::BTreeSet;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Encode, FromRow, Type};

use crate::transfer::Key;

/// Keys of one statement.
const KEYS: usize = 200;

/// Tasks, and everything that is needed to read and to repeat them: the trials of experiments,
/// data sets and models with those that they came from, components, contents.
#[derive(Debug, Default)]
pub(super) struct Closure {
    pub(super) tasks: BTreeSet<String>,
    pub(super) experiments: BTreeSet<String>,
    pub(super) datasets: BTreeSet<i64>,
    pub(super) models: BTreeSet<i64>,
    pub(super) projects: BTreeSet<String>,
    pub(super) plugins: BTreeSet<String>,
    pub(super) files: BTreeSet<String>,
}

impl Closure {
    /// Looks for what `tasks` need. All of it is in `workspace`.
    pub(super) async fn of(
        connection: &mut AnyConnection,
        workspace: &str,
        tasks: BTreeSet<String>,
    ) -> Result<Self, sqlx::Error> {
        let mut look = Look {
            connection,
            workspace,
        };
        let mut found = Self {
            tasks,
            ..Self::default()
        };
        found.experiments = look.up("experiment", "task", "task", &found.tasks).await?;
        let trials = look.up("trial", "task", "experiment", &found.experiments);
        found.tasks.extend(trials.await?);

        let tasks = &found.tasks;
        found.datasets = look.up("task", "dataset", "id", tasks).await?;
        let made = look.up("dataset", "id", "task", tasks).await?;
        found.datasets.extend::<BTreeSet<i64>>(made);
        found.datasets = look.with_parents("dataset", found.datasets).await?;

        found.models = look.up("task", "checkpoint", "id", tasks).await?;
        for (table, column, by) in [
            ("model", "id", "task"),
            ("task_model", "model", "task"),
            ("trial", "model", "task"),
            ("trial_checkpoint", "model", "task"),
        ] {
            let more: BTreeSet<i64> = look.up(table, column, by, tasks).await?;
            found.models.extend(more);
        }
        found.models = look.with_parents("model", found.models).await?;

        found.projects = look.up("task", "project", "id", tasks).await?;
        let of_models: BTreeSet<String> = look.up("model", "project", "id", &found.models).await?;
        let of_datasets = look.up("dataset", "project", "id", &found.datasets);
        let of_datasets: BTreeSet<String> = of_datasets.await?;
        found.projects.extend(of_models);
        found.projects.extend(of_datasets);

        let run: BTreeSet<String> = look.up("task", "plugin_digest", "id", tasks).await?;
        found.plugins = look.up("plugin", "digest", "digest", &run).await?;

        found.files.extend(found.plugins.iter().cloned());
        let of_models: BTreeSet<String> = look.up("model", "sha256", "id", &found.models).await?;
        let of_datasets = look.up("dataset_file", "sha256", "dataset", &found.datasets);
        let of_datasets: BTreeSet<String> = of_datasets.await?;
        found.files.extend(of_models);
        found.files.extend(of_datasets);
        for table in ["plot", "sample", "artifact", "trial_checkpoint"] {
            let more: BTreeSet<String> = look.up(table, "sha256", "task", tasks).await?;
            found.files.extend(more);
        }
        Ok(found)
    }

    /// The values by which the rows of a table are chosen, in groups of one statement each.
    pub(super) fn keys(&self, key: Key) -> Vec<Keys> {
        let texts = |set: &BTreeSet<String>| groups(set, Keys::Texts);
        match key {
            Key::Project => texts(&self.projects),
            Key::File => texts(&self.files),
            Key::Plugin => texts(&self.plugins),
            Key::Task => texts(&self.tasks),
            Key::Experiment => texts(&self.experiments),
            Key::Dataset => groups(&self.datasets, Keys::Numbers),
            Key::Model => groups(&self.models, Keys::Numbers),
            Key::Owner => {
                let numbers = |set: &BTreeSet<i64>| set.iter().map(i64::to_string).collect();
                let mut all: BTreeSet<String> = numbers(&self.datasets);
                all.extend::<BTreeSet<String>>(numbers(&self.models));
                all.extend(self.tasks.iter().cloned());
                all.extend(self.projects.iter().cloned());
                groups(&all, Keys::Texts)
            }
        }
    }

    /// Whether the owner of a tag is among what is here: ids of models and data sets are alike.
    pub(super) fn has_owner(&self, kind: &str, owner: &str) -> bool {
        let number = owner.parse::<i64>();
        match kind {
            "task" => self.tasks.contains(owner),
            "project" => self.projects.contains(owner),
            "model" => number.is_ok_and(|id| self.models.contains(&id)),
            "dataset" => number.is_ok_and(|id| self.datasets.contains(&id)),
            _ => false,
        }
    }
}

/// Values that a statement compares a column with.
#[derive(Debug)]
pub(super) enum Keys {
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

fn groups<K: Clone>(set: &BTreeSet<K>, kind: impl Fn(Vec<K>) -> Keys) -> Vec<Keys> {
    let all: Vec<K> = set.iter().cloned().collect();
    all.chunks(KEYS).map(|keys| kind(keys.to_vec())).collect()
}

impl Keys {
    /// A statement for the rows of `table` whose `column` is one of these; the workspace is its
    /// first value.
    pub(super) fn statement(&self, table: &str, column: &str) -> String {
        let count = match self {
            Self::Texts(keys) => keys.len(),
            Self::Numbers(keys) => keys.len(),
        };
        format!(
            "select * from {table} where workspace = $1 and {column} in ({})",
            places(count)
        )
    }

    /// Gives a statement these values, after those that it has.
    pub(super) fn bind<'q>(
        self,
        query: Query<'q, Any, AnyArguments>,
    ) -> Query<'q, Any, AnyArguments> {
        match self {
            Self::Texts(keys) => keys.into_iter().fold(query, |query, key| query.bind(key)),
            Self::Numbers(keys) => keys.into_iter().fold(query, |query, key| query.bind(key)),
        }
    }
}

/// `$2, $3` and so on.
fn places(count: usize) -> String {
    let places = (0..count).map(|index| format!("${}", index + 2));
    places.collect::<Vec<_>>().join(", ")
}

/// Follows references.
struct Look<'a> {
    connection: &'a mut AnyConnection,
    workspace: &'a str,
}

impl Look<'_> {
    /// The values of `wanted` in the rows of `table` whose `column` is one of `keys`.
    async fn up<K, V>(
        &mut self,
        table: &str,
        wanted: &str,
        column: &str,
        keys: &BTreeSet<K>,
    ) -> Result<BTreeSet<V>, sqlx::Error>
    where
        K: Clone + Send + Sync + Type<Any> + for<'q> Encode<'q, Any> + 'static,
        V: Ord + Send + Unpin,
        (V,): for<'r> FromRow<'r, AnyRow>,
    {
        let keys: Vec<K> = keys.iter().cloned().collect();
        let mut found = BTreeSet::new();
        for keys in keys.chunks(KEYS) {
            // The names are those of the functions above.
            let statement = format!(
                "select distinct {wanted} from {table}
                  where workspace = $1 and {wanted} is not null and {column} in ({})",
                places(keys.len())
            );
            let mut query =
                sqlx::query_as(AssertSqlSafe(statement)).bind(self.workspace.to_owned());
            for key in keys {
                query = query.bind(key.clone());
            }
            let rows: Vec<(V,)> = query.fetch_all(&mut *self.connection).await?;
            found.extend(rows.into_iter().map(|(value,)| value));
        }
        Ok(found)
    }

    /// With those that they came from, and so on.
    async fn with_parents(
        &mut self,
        table: &str,
        found: BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, sqlx::Error> {
        // A parent that is not there any more is left out.
        let mut all: BTreeSet<i64> = self.up(table, "id", "id", &found).await?;
        let mut fresh = all.clone();
        while !fresh.is_empty() {
            let parents: BTreeSet<i64> = self.up(table, "parent", "id", &fresh).await?;
            let parents: BTreeSet<i64> = self.up(table, "id", "id", &parents).await?;
            fresh = parents.difference(&all).copied().collect();
            all.extend(&fresh);
        }
        Ok(all)
    }
}
