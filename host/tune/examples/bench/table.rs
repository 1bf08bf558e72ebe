//! Really trained networks, as a table that trials look their accuracies up in.

use serde_json::Value;
use trainshed_tune::Config;

/// The table: correct validation samples by configuration and epoch.
pub(crate) struct Table {
    axes: Vec<Axis>,
    params: Vec<Value>,
    correct: Vec<Vec<f64>>,
    samples: f64,
}

struct Axis {
    name: String,
    kind: String,
    values: Vec<Value>,
}

impl Table {
    /// The recorded table: digits with noise, 600 rows to learn from and 719 to judge by.
    pub(crate) fn new() -> Self {
        let file: Value = serde_json::from_str(include_str!("digits_mlp.json")).unwrap();
        let axes = file["axes"].as_array().unwrap().iter().map(|axis| Axis {
            name: axis["name"].as_str().unwrap().to_owned(),
            kind: axis["kind"].as_str().unwrap().to_owned(),
            values: axis["values"].as_array().unwrap().clone(),
        });
        Self {
            axes: axes.collect(),
            params: file["params"].as_array().unwrap().clone(),
            correct: serde_json::from_value(file["correct"].clone()).unwrap(),
            samples: file["n_val"].as_f64().unwrap(),
        }
    }

    /// The configuration of a row.
    pub(crate) fn config(&self, row: usize) -> Config {
        let mut left = row;
        let mut config = Config::new();
        for axis in self.axes.iter().rev() {
            let value = &axis.values[left % axis.values.len()];
            config.insert(axis.name.clone(), value.clone());
            left /= axis.values.len();
        }
        config
    }

    /// The space, as a list of hyperparameters.
    pub(crate) fn params(&self) -> &[Value] {
        &self.params
    }

    /// The accuracies of a configuration after each epoch, at the nearest trained one.
    pub(crate) fn curve(&self, config: &Config) -> Vec<f64> {
        let mut index = 0;
        for axis in &self.axes {
            let value = &config[&axis.name];
            let distance = |known: &Value| match (known.as_f64(), value.as_f64()) {
                (Some(known), Some(value)) if axis.kind == "log" => (known / value).ln().abs(),
                (Some(known), Some(value)) => (known - value).abs(),
                _ => f64::from(u8::from(known != value)),
            };
            let nearest = (0..axis.values.len())
                .min_by(|a, b| distance(&axis.values[*a]).total_cmp(&distance(&axis.values[*b])))
                .unwrap_or(0);
            index = index * axis.values.len() + nearest;
        }
        self.correct[index]
            .iter()
            .map(|correct| correct / self.samples)
            .collect()
    }

    /// The best accuracy there is.
    pub(crate) fn best(&self) -> f64 {
        self.correct.iter().flatten().copied().fold(0.0, f64::max) / self.samples
    }
}
