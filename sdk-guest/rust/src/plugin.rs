//! What a plugin says of itself and does: the traits to implement, the macros to export.

use std::io::Write as _;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bindings::imports::trainshed::plugin as raw;
use crate::bindings::{preprocess_part, preprocess_plugin, train_plugin, tune_part};
use crate::{Checkpoint, Dataset, Failure, ReportError, Run};

/// What a plugin is; [`about!`](crate::about) makes it of the crate's `Cargo.toml`.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// 1 to 64 bytes of `[a-z0-9-]`, beginning with a letter.
    pub name: &'static str,
    /// A semantic version, e.g. `1.2.0`.
    pub version: &'static str,
    /// What kind of work it does.
    pub category: Category,
    /// One sentence for people, at most 1,000 bytes.
    pub summary: &'static str,
    /// Names of the environment variables it reads. It sees those of them that the
    /// agent grants, and no others.
    pub environment: &'static [&'static str],
    /// Those of [`About::environment`] whose values are recorded with each task, as parameters
    /// of the section `Environment`. No others are.
    pub log_env: &'static [&'static str],
}

/// What kind of work a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Neural networks.
    NeuralNet,
    /// Other models on tables of numbers.
    Tabular,
    /// Makes data sets of data sets.
    Preprocess,
    /// Anything else.
    Other,
}

/// A plugin that trains a model.
pub trait Train {
    /// What the plugin is.
    const ABOUT: About;
    /// What training does, in one sentence for people.
    const SUMMARY: &'static str;
    /// The action's `hyperparameter` object. Its JSON Schema is published with the
    /// plugin, with the defaults that `#[serde(default)]` gives for fields whose types
    /// implement `Serialize`; fields that it does not know are ignored.
    type Hyperparameters: DeserializeOwned + JsonSchema;

    /// Trains a model and returns what belongs into the task's result.
    ///
    /// `checkpoint` is the model to go on from, when the action names one. Once
    /// [`Run::stopping`] answers true it should save what it wants to keep and return
    /// [`Failure::Stopped`].
    ///
    /// # Errors
    /// Whatever keeps it from its work; the user reads the text.
    fn train(
        run: &Run,
        dataset: &Dataset,
        hyperparameters: Self::Hyperparameters,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure>;
}

/// A plugin whose trials, when it is tuned, run something else than [`Train::train`].
///
/// Optional: a plugin without it is tuned through `train`. It is exported by
/// `export_train!(Plugin, tune)`.
pub trait Tune: Train {
    /// Runs one trial of a tuning experiment and returns what it found out: an object with the
    /// objective in it, or its number alone. [`Run::report`] tells it before.
    ///
    /// The order of the arguments is not that of [`Train::train`].
    ///
    /// # Errors
    /// Whatever keeps it from its work; the user reads the text.
    fn tune(
        hyperparameters: Self::Hyperparameters,
        run: &Run,
        dataset: &Dataset,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure>;
}

/// A plugin that makes a new version of a data set.
pub trait Preprocess {
    /// What the plugin is.
    const ABOUT: About;
    /// What the preprocessing does, in one sentence for people.
    const SUMMARY: &'static str;
    /// The action's `parameters` object; see [`Train::Hyperparameters`].
    type Parameters: DeserializeOwned + JsonSchema;

    /// Writes a new version with [`Dataset::commit_version`] and returns what belongs
    /// into the task's result.
    ///
    /// # Errors
    /// Whatever keeps it from its work; the user reads the text.
    fn preprocess(
        run: &Run,
        dataset: &Dataset,
        parameters: Self::Parameters,
    ) -> Result<Value, Failure>;
}

/// Makes an [`About`] of the name, version and description in the crate's `Cargo.toml`.
///
/// `about!(Category::NeuralNet)`, or with the environment variables that the plugin
/// reads: `about!(Category::NeuralNet, environment: ["HTTP_PROXY"])`; `log_env: ["SITE"]`
/// behind it names those whose values are recorded with each task.
#[macro_export]
macro_rules! about {
    ($category:expr) => {
        $crate::about!($category, environment: [])
    };
    ($category:expr, environment: [$($variable:expr),*]) => {
        $crate::about!($category, environment: [$($variable),*], log_env: [])
    };
    ($category:expr, environment: [$($variable:expr),*], log_env: [$($logged:expr),*]) => {
        $crate::About {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            category: $category,
            summary: env!("CARGO_PKG_DESCRIPTION"),
            environment: &[$($variable),*],
            log_env: &[$($logged),*],
        }
    };
}

/// Exports a type that implements [`Train`] as the crate's plugin.
///
/// `export_train!(Plugin, tune)` exports what it implements of [`Tune`] too,
/// `export_train!(Plugin, preprocess)` its [`Preprocess`], `export_train!(Plugin, tune,
/// preprocess)` both. Once in a crate, and not beside
/// [`export_preprocess!`](crate::export_preprocess).
#[macro_export]
macro_rules! export_train {
    ($plugin:ty) => {
        $crate::export_train!(@train $crate::plugin::TrainPlugin<$plugin>);
    };
    ($plugin:ty, tune) => {
        $crate::export_train!($plugin);
        $crate::export_train!(@tune $plugin);
    };
    ($plugin:ty, preprocess) => {
        $crate::export_train!(
            @train $crate::plugin::TrainPlugin<$plugin, $crate::plugin::AlsoPreprocess>
        );
        $crate::export_train!(@preprocess);
    };
    ($plugin:ty, tune, preprocess) => {
        $crate::export_train!($plugin, preprocess);
        $crate::export_train!(@tune $plugin);
    };
    (@train $exported:ty) => {
        type TrainshedPlugin = $exported;
        const _: () = TrainshedPlugin::EXPORTED;
        // Other linkers do not take the names of a component's exports.
        #[cfg(target_family = "wasm")]
        $crate::bindings::train_plugin::export_train_plugin!(
            TrainshedPlugin with_types_in $crate::bindings::train_plugin
        );
    };
    (@tune $plugin:ty) => {
        const _: () = $crate::plugin::is_tune::<$plugin>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::tune_part::export_tune_part!(
            TrainshedPlugin with_types_in $crate::bindings::tune_part
        );
    };
    (@preprocess) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::preprocess_part::export_preprocess_part!(
            TrainshedPlugin with_types_in $crate::bindings::preprocess_part
        );
    };
}

/// Exports a type that implements [`Preprocess`] as the crate's plugin.
///
/// Once in a crate, and not beside [`export_train!`](crate::export_train).
#[macro_export]
macro_rules! export_preprocess {
    ($plugin:ty) => {
        type TrainshedPlugin = $crate::plugin::PreprocessPlugin<$plugin>;
        const _: () = TrainshedPlugin::EXPORTED;
        // Other linkers do not take the names of a component's exports.
        #[cfg(target_family = "wasm")]
        $crate::bindings::preprocess_plugin::export_preprocess_plugin!(
            TrainshedPlugin with_types_in $crate::bindings::preprocess_plugin
        );
    };
}

/// Answers the host's calls with a [`Train`]; for [`export_train!`](crate::export_train).
#[doc(hidden)]
pub struct TrainPlugin<T, M = NothingElse>(PhantomData<(T, M)>);

impl<T: Train, M: Beside<T>> TrainPlugin<T, M> {
    /// Makes the plugin used code where there are no exports.
    pub const EXPORTED: () = ();
}

/// Makes [`Tune::tune`] used code where there are no exports.
#[doc(hidden)]
pub const fn is_tune<T: Tune>() {}

/// What a plugin has beside its `train` action.
#[doc(hidden)]
pub trait Beside<T> {
    /// The `preprocess` action, as [`Preprocess::SUMMARY`] and the schema of its parameters.
    fn preprocess() -> Option<(String, String)>;
}

/// Nothing; see [`Beside`].
#[doc(hidden)]
pub struct NothingElse;

/// The `preprocess` action; see [`Beside`].
#[doc(hidden)]
pub struct AlsoPreprocess;

impl<T> Beside<T> for NothingElse {
    fn preprocess() -> Option<(String, String)> {
        None
    }
}

impl<T: Preprocess> Beside<T> for AlsoPreprocess {
    fn preprocess() -> Option<(String, String)> {
        Some((T::SUMMARY.to_owned(), schema_of::<T::Parameters>()))
    }
}

/// Answers the host's calls with a [`Preprocess`]; for
/// [`export_preprocess!`](crate::export_preprocess).
#[doc(hidden)]
pub struct PreprocessPlugin<T>(PhantomData<T>);

impl<T: Preprocess> PreprocessPlugin<T> {
    /// Makes the plugin used code where there are no exports.
    pub const EXPORTED: () = ();
}

/// Records the environment variables that a plugin wants recorded.
fn log_environment(run: &raw::run::Run, names: &[&str]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    raw::settings::log_environment(run, &names).map_err(ReportError::from)?;
    Ok(())
}

/// Writes what was printed of a line that has no end: nobody else does when an action returns.
fn end_console() {
    // The host has stopped to listen, which it says itself.
    let _ = std::io::stdout().flush();
}

mod train_exports {
    pub(super) use super::train_plugin::exports::trainshed::plugin::{manifest, train};
}

mod preprocess_exports {
    pub(super) use super::preprocess_plugin::exports::trainshed::plugin::{manifest, preprocess};
}

impl<T: Train, M: Beside<T>> train_exports::manifest::Guest for TrainPlugin<T, M> {
    fn describe() -> train_exports::manifest::Manifest {
        use train_exports::manifest::{Action, Manifest};
        let mut actions = vec![Action {
            name: "train".to_owned(),
            summary: T::SUMMARY.to_owned(),
            schema: schema_of::<T::Hyperparameters>(),
        }];
        actions.extend(M::preprocess().map(|(summary, schema)| Action {
            name: "preprocess".to_owned(),
            summary,
            schema,
        }));
        Manifest {
            name: T::ABOUT.name.to_owned(),
            version: T::ABOUT.version.to_owned(),
            category: T::ABOUT.category.name().to_owned(),
            summary: T::ABOUT.summary.to_owned(),
            actions,
            environment: T::ABOUT
                .environment
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl<T: Train, M> train_exports::train::Guest for TrainPlugin<T, M> {
    fn train(
        run: &raw::run::Run,
        dataset: &raw::dataset::Dataset,
        hyperparameter: String,
        checkpoint: Option<&raw::checkpoint::Checkpoint>,
    ) -> Result<String, raw::types::Failure> {
        log_environment(run, T::ABOUT.log_env)?;
        let hyperparameters = parse_settings(&hyperparameter)?;
        let checkpoint = checkpoint.map(Checkpoint::new);
        let result = T::train(
            &Run::new(run),
            &Dataset::new(dataset),
            hyperparameters,
            checkpoint.as_ref(),
        );
        end_console();
        Ok(result?.to_string())
    }
}

impl<T: Tune, M> tune_part::exports::trainshed::plugin::tune::Guest for TrainPlugin<T, M> {
    fn tune(
        hyperparameter: String,
        run: &raw::run::Run,
        dataset: &raw::dataset::Dataset,
        checkpoint: Option<&raw::checkpoint::Checkpoint>,
    ) -> Result<String, raw::types::Failure> {
        log_environment(run, T::ABOUT.log_env)?;
        let hyperparameters = parse_settings(&hyperparameter)?;
        let checkpoint = checkpoint.map(Checkpoint::new);
        let result = T::tune(
            hyperparameters,
            &Run::new(run),
            &Dataset::new(dataset),
            checkpoint.as_ref(),
        );
        end_console();
        Ok(result?.to_string())
    }
}

impl<T: Train + Preprocess> preprocess_part::exports::trainshed::plugin::preprocess::Guest
    for TrainPlugin<T, AlsoPreprocess>
{
    fn preprocess(
        run: &raw::run::Run,
        dataset: &raw::dataset::Dataset,
        params: String,
    ) -> Result<String, raw::types::Failure> {
        preprocessed::<T>(run, dataset, <T as Train>::ABOUT.log_env, &params)
    }
}

impl<T: Preprocess> preprocess_exports::manifest::Guest for PreprocessPlugin<T> {
    fn describe() -> preprocess_exports::manifest::Manifest {
        use preprocess_exports::manifest::{Action, Manifest};
        Manifest {
            name: T::ABOUT.name.to_owned(),
            version: T::ABOUT.version.to_owned(),
            category: T::ABOUT.category.name().to_owned(),
            summary: T::ABOUT.summary.to_owned(),
            actions: vec![Action {
                name: "preprocess".to_owned(),
                summary: T::SUMMARY.to_owned(),
                schema: schema_of::<T::Parameters>(),
            }],
            environment: T::ABOUT
                .environment
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl<T: Preprocess> preprocess_exports::preprocess::Guest for PreprocessPlugin<T> {
    fn preprocess(
        run: &raw::run::Run,
        dataset: &raw::dataset::Dataset,
        params: String,
    ) -> Result<String, raw::types::Failure> {
        preprocessed::<T>(run, dataset, T::ABOUT.log_env, &params)
    }
}

/// Runs the `preprocess` action.
fn preprocessed<T: Preprocess>(
    run: &raw::run::Run,
    dataset: &raw::dataset::Dataset,
    log_env: &[&str],
    params: &str,
) -> Result<String, raw::types::Failure> {
    log_environment(run, log_env)?;
    let parameters = parse_settings(params)?;
    let result = T::preprocess(&Run::new(run), &Dataset::new(dataset), parameters);
    end_console();
    Ok(result?.to_string())
}

impl Category {
    fn name(self) -> &'static str {
        match self {
            Self::NeuralNet => "neural_net",
            Self::Tabular => "tabular",
            Self::Preprocess => "preprocess",
            Self::Other => "other",
        }
    }
}

fn schema_of<T: JsonSchema>() -> String {
    schemars::schema_for!(T).to_value().to_string()
}

/// Reads an action's settings; a value that does not fit is named by its JSON pointer.
fn parse_settings<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = json_pointer(error.path());
        // The position in the text means nothing to people who wrote the settings elsewhere.
        let message = error.inner().to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        Failure::invalid_parameter(pointer, message)
    })
}

fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde::Deserialize;

    use super::*;

    struct Example;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Settings {
        /// How many passes over the data.
        #[schemars(range(min = 1))]
        epochs: u32,
        sizes: Vec<u32>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                epochs: 20,
                sizes: vec![128],
            }
        }
    }

    impl Train for Example {
        const ABOUT: About = crate::about!(Category::NeuralNet, environment: ["HOME"]);
        const SUMMARY: &'static str = "Does nothing.";
        type Hyperparameters = Settings;

        fn train(
            _run: &Run,
            _dataset: &Dataset,
            _settings: Settings,
            _checkpoint: Option<&Checkpoint>,
        ) -> Result<Value, Failure> {
            Ok(Value::Null)
        }
    }

    #[test]
    fn the_manifest_comes_from_the_types_and_the_crate() {
        use train_exports::manifest::Guest as _;
        let manifest = TrainPlugin::<Example>::describe();

        assert_eq!(manifest.name, "trainshed-sdk");
        assert_eq!(manifest.category, "neural_net");
        assert_eq!(manifest.environment, ["HOME"]);
        let schema: Value = serde_json::from_str(&manifest.actions[0].schema).unwrap();
        expect![[r#"
            {
              "$schema": "https://json-schema.org/draft/2020-12/schema",
              "properties": {
                "epochs": {
                  "default": 20,
                  "description": "How many passes over the data.",
                  "format": "uint32",
                  "minimum": 1,
                  "type": "integer"
                },
                "sizes": {
                  "default": [
                    128
                  ],
                  "items": {
                    "format": "uint32",
                    "minimum": 0,
                    "type": "integer"
                  },
                  "type": "array"
                }
              },
              "title": "Settings",
              "type": "object"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&schema).unwrap());
    }

    #[test]
    fn settings_that_do_not_fit_are_named_by_their_pointer() {
        check(
            r#"{"epochs": "many"}"#,
            expect![[r#"/epochs: invalid type: string "many", expected u32"#]],
        );
        check(
            r#"{"epochs": -1}"#,
            expect!["/epochs: invalid value: integer `-1`, expected u32"],
        );
        check(
            r#"{"sizes": [1, 2.5]}"#,
            expect!["/sizes/1: invalid type: floating point `2.5`, expected u32"],
        );
        check(
            r#""many""#,
            expect![[r#": invalid type: string "many", expected struct Settings"#]],
        );
    }

    #[test]
    fn settings_that_are_absent_or_unknown_are_no_error() {
        let settings: Settings = parse_settings(r#"{"dropout": 0.5}"#).unwrap();
        assert_eq!((settings.epochs, settings.sizes), (20, vec![128]));
    }

    #[track_caller]
    fn check(json: &str, expected: Expect) {
        let failure = parse_settings::<Settings>(json).unwrap_err();
        let Failure::InvalidParameter { pointer, message } = failure else {
            panic!("{failure:?}");
        };
        expected.assert_eq(&format!("{pointer}: {message}"));
    }
}
